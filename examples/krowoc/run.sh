#!/bin/sh
# `make run-krowoc`: PORT (8000), WORKERS (2), REDIS_URL. PYTHON is the interpreter.
set -eu
cd "$(dirname "$0")"
export PORT="${PORT:-8000}" WEB_CONCURRENCY="${WORKERS:-2}"
exec "${PYTHON:-python3}" -m gunicorn --config gunicorn.conf.py
