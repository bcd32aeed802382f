"""A cached response, a limit, a cached function: flask --app examples/flask_app run"""

import time

from flask import Flask, jsonify
from redlane import cache, invalidate_cache
from redlane.flask import Redlane, health_blueprint

app = Flask(__name__)
lane = Redlane(app)
app.register_blueprint(health_blueprint())  # /health and /health/deep


@cache(ttl=60)  # seconds
def expensive_function(user_id):
    time.sleep(0.5)
    return {"user_id": user_id, "computed_at": time.time()}


@app.get("/api/cached-data/<int:user_id>")
def cached_data(user_id):
    return jsonify(expensive_function(user_id))


@app.get("/api/report")
@lane.limit("5/minute")  # for each client; 429 to who asks more often
@lane.cached(ttl="10m")  # the whole response, for everybody
def report():
    time.sleep(0.5)
    return jsonify(made_at=time.time())


@app.post("/api/invalidate-cache")
def invalidate():
    count = invalidate_cache("cache:expensive_function:*")
    return jsonify(invalidated=count + lane.invalidate("/api/report"))
