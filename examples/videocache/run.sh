#!/bin/sh
# `make run-videocache`: PORT (8000), WORKERS (2), REDIS_URL. PYTHON is the interpreter.
set -eu
cd "$(dirname "$0")"
workers=${WORKERS:-2}
export WEB_CONCURRENCY="$workers"
exec "${PYTHON:-python3}" -m uvicorn app.main:socket_app \
    --port "${PORT:-8000}" --workers "$workers"
