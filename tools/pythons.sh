#!/bin/sh
# Prints one line for each Python that can build redlane: its version and its path, the
# first found of each. Looked for in PATH and among pyenv's versions.
set -eu

for version in 3.10 3.11 3.12 3.13; do
    for python in "$(command -v "python$version" || true)" \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
        [ -x "$python" ] || continue
        # A pyenv shim exists for versions that are not switched on: run it to see.
        path=$("$python" -c '
import ensurepip, pathlib, sys, sysconfig, venv
if pathlib.Path(sysconfig.get_path("include"), "Python.h").exists():
    print(sys.executable)
' 2>/dev/null) || continue
        [ -n "$path" ] || continue
        echo "$version $path"
        break
    done
done
