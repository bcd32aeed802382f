#!/bin/sh
# Runs tests with the oldest frameworks that are supported, which requirements-oldest.txt
# names, or with the newest: `tools/frameworks.sh oldest tests/test_http_*.py`. Makes an
# environment of its own for each, .venv-oldest and .venv-newest; the newest are looked
# for at each run.
set -eu
cd "$(dirname "$0")/.."

age=${1:?"oldest or newest, then what pytest is given"}
shift
environment=.venv-$age
bin=$environment/bin
# All but the frameworks is as `make test` has it.
names=$(sed -n 's/^\([a-z-]*\)==.*/\1/p' requirements-oldest.txt)
quiet='--quiet --disable-pip-version-check'

others() {
    grep -v -i -E "^($(echo "$names" | paste -s -d '|' -))==" requirements-test.txt
}

if [ ! -e "$environment/ready" ] || [ requirements-oldest.txt -nt "$environment/ready" ] ||
    [ requirements-test.txt -nt "$environment/ready" ]; then
    echo "Making $environment"
    rm -rf "$environment"
    "${PYTHON:-python3}" -m venv "$environment"
    others >"$environment/others.txt"
    if [ "$age" = oldest ]; then
        "$bin/pip" install $quiet -r requirements-oldest.txt -r "$environment/others.txt"
    else
        "$bin/pip" install $quiet -r "$environment/others.txt"
    fi
    "$bin/pip" install $quiet --no-build-isolation --no-deps --editable .
    touch "$environment/ready"
fi
if [ "$age" = newest ]; then
    "$bin/pip" install $quiet --upgrade --upgrade-strategy eager $names
fi

"$bin/python" setup.py -q build_ext --inplace
echo "Testing with the $age frameworks:" \
    $("$bin/pip" list --format freeze --disable-pip-version-check |
        grep -i -E "^($(echo "$names" | paste -s -d '|' -))==")
exec "$bin/python" -m pytest -p no:cacheprovider "$@"
