#!/bin/sh
# Whether every C file compiles for each Python that is found, warnings as errors: what
# only one version lacks or warns of is not seen by building with another.
set -eu

tools/pythons.sh | while read -r version python; do
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    printf '%s\0' src/*.c src/*/*.c |
        xargs -0 -n 8 -P "$(getconf _NPROCESSORS_ONLN)" "${CC:-gcc}" -fsyntax-only \
            -std=gnu11 -Wall -Wextra -Wstrict-prototypes -Wconversion -Werror \
            -DNDEBUG -Isrc -isystem vendor -isystem "$include" ||
        { echo "Does not compile for Python $version" >&2; exit 1; }
done
