#!/bin/sh
# Serves one of the examples in the foreground, without Docker.
#
# usage: run_example.sh NAME
#
# PORT       8000 by default
# HOST       127.0.0.1 by default
# WORKERS    processes; by default 2 with REDIS_URL, else 1: each has an engine of its own
# REDIS_URL  the embedded engine by default
# PYTHON     the interpreter; that of .venv by default
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
name=${1:?usage: run_example.sh NAME}
folder=$root/examples/$name
if [ ! -d "$folder" ]; then
    echo "There is no examples/$name" >&2
    exit 2
fi
python=${PYTHON:-$root/.venv/bin/python}
port=${PORT:-8000}
host=${HOST:-127.0.0.1}
workers=${WORKERS:-$([ -n "${REDIS_URL:-}${UPSTASH_REDIS_REST_URL:-}" ] && echo 2 || echo 1)}
PYTHONPATH=$root/examples${PYTHONPATH:+:$PYTHONPATH}
WEB_CONCURRENCY=$workers # where an application looks whether it is alone
export PYTHONPATH WEB_CONCURRENCY
cd "$folder"

# What uvicorn serves; an application with a gunicorn.conf.py is gunicorn's.
case $name in
    ludo) app=ludo.app.main:app ;;
    videocache) app=app.main:socket_app ;;
    *) app=$name.main:app ;;
esac

if [ -f gunicorn.conf.py ]; then
    exec "$python" -m gunicorn --config gunicorn.conf.py \
        --bind "$host:$port" --workers "$workers"
fi
exec "$python" -m uvicorn "$app" --host "$host" --port "$port" --workers "$workers"
