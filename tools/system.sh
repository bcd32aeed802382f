#!/bin/sh
# Makes sure that what the build and the tests need of the system is there: installed by
# apt when we are root and have it, else named in one line.
#
# usage: system.sh build|test     (PYTHON names the interpreter; python3 by default)
set -eu

python=${PYTHON:-python3}
need=$1

# Prints the Debian packages of what is missing.
missing() {
    command -v "${CC:-gcc}" >/dev/null || echo gcc libc6-dev
    echo '#include <stdlib.h>' | compiles || echo libc6-dev
    echo '#include <openssl/ssl.h>' | compiles || echo libssl-dev
    command -v git >/dev/null || echo git
    if ! command -v "$python" >/dev/null; then
        echo python3 python3-dev python3-venv
    else
        "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
        "$python" -c '
import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
' || echo python3-dev
    fi
    command -v redis-server >/dev/null || echo redis-server
    if [ "$need" = test ]; then
        command -v openssl >/dev/null || echo openssl
        # The pages of the examples are tested in it.
        command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
            || echo chromium
        fuzzes || echo clang-14 libclang-rt-14-dev
    fi
}

compiles() {
    "${CC:-gcc}" -E -o /dev/null - 2>/dev/null
}

fuzzes() {
    folder=$(mktemp -d)
    printf '%s\n' '#include <stddef.h>' \
        'int LLVMFuzzerTestOneInput(const char *d, size_t n);' \
        'int LLVMFuzzerTestOneInput(const char *d, size_t n) { return !d && n; }' \
        >"$folder/probe.c"
    found=1
    for clang in "${CLANG:-clang}" clang-14; do
        if command -v "$clang" >/dev/null && "$clang" -fsanitize=fuzzer,address \
            -o "$folder/probe" "$folder/probe.c" 2>/dev/null; then
            found=0
            break
        fi
    done
    rm -rf "$folder"
    return $found
}

# Debian starts a server when it installs one. Ours are throwaways on free ports, so
# that one is neither started now nor at the next boot.
install() {
    quiet=-qq
    apt-get update $quiet
    masked=
    if echo "$*" | grep -q redis-server && [ -d /run/systemd/system ]; then
        systemctl mask redis-server.service >/dev/null 2>&1 && masked=1
    fi
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 PREVLEVEL=N \
        apt-get install $quiet -y --no-install-recommends "$@" >/dev/null
    if [ -n "$masked" ]; then
        systemctl unmask redis-server.service >/dev/null 2>&1
        systemctl disable redis-server.service >/dev/null 2>&1 || true
    fi
}

packages=$(missing | tr '\n' ' ')
[ -n "${packages% }" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing by apt-get: $packages"
    # shellcheck disable=SC2086
    install $packages
    packages=$(missing | tr '\n' ' ')
    [ -n "${packages% }" ] || exit 0
fi
echo "Missing (names of Debian's packages): $packages" >&2
exit 1
