"""Cached data behind Flask routes: flask --app examples/flask_app.py run"""

import time

from flask import Flask, jsonify
from redlane import cache, default_client, invalidate_cache

app = Flask(__name__)


@cache(ttl=60)  # seconds
def expensive_function(user_id):
    time.sleep(0.5)
    return {"user_id": user_id, "computed_at": time.time()}


@app.get("/api/cached-data/<int:user_id>")
def cached_data(user_id):
    return jsonify(expensive_function(user_id))


@app.post("/api/invalidate-cache")
def invalidate():
    count = invalidate_cache("cache:expensive_function:*")
    return jsonify(invalidated=count)


@app.get("/health")
def health():
    return jsonify(default_client().health())
