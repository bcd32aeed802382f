#!/bin/sh
# Serves one of the examples in the foreground, without Docker.
#
# usage: run_example.sh NAME
#
# PORT       8000 by default
# HOST       127.0.0.1 by default
# WORKERS    processes; by default 2 where a server is named, else 1: each would have an
#            engine of its own
# REDIS_URL  as the example's README says what it does without
# PYTHON     the interpreter; that of .venv by default
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
name=${1:?usage: run_example.sh NAME}
folder=$root/examples/$name
if [ ! -f "$folder/.env.example" ]; then
    echo "There is no examples/$name" >&2
    exit 2
fi
python=${PYTHON:-$root/.venv/bin/python}
port=${PORT:-8000}
host=${HOST:-127.0.0.1}
named=${REDIS_URL:-}${REDIS_ADDR:-}${UPSTASH_REDIS_REST_URL:-}
case $named in
    "" | memory:*) default=1 ;;
    *) default=2 ;;
esac
workers=${WORKERS:-$default}
PYTHONPATH=$root/examples${PYTHONPATH:+:$PYTHONPATH}
WEB_CONCURRENCY=$workers # where an application looks whether it is alone
export PYTHONPATH WEB_CONCURRENCY
cd "$folder"

if [ -f gunicorn.conf.py ]; then
    exec "$python" -m gunicorn --config gunicorn.conf.py \
        --bind "$host:$port" --workers "$workers"
fi
case $name in
    ludo) set -- app.main:app --ws-max-size 4096 ;;
    matrx) set -- --factory matrx.app:create_app ;;
    videocache) set -- app.main:socket_app ;;
    *)
        echo "What of examples/$name is to be served?" >&2
        exit 2
        ;;
esac
exec "$python" -m uvicorn "$@" --host "$host" --port "$port" --workers "$workers"
