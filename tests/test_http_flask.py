"""What is Flask's own: configuration, blueprints, class-based views, templates, the
command line, health."""

from __future__ import annotations

import itertools
import json
import warnings
from typing import Any
from urllib.parse import quote

import pytest
from flask import Blueprint, Flask, jsonify, render_template_string
from flask.views import MethodView, View
from http_tools import Wsgi
from outage_tools import wait_until
from redlane import Client, ConfigurationError
from redlane.flask import Redlane, health_blueprint
from servers import PASSWORD, Server, patient


def app_of(client: Any = None, **config: Any) -> tuple[Flask, Redlane]:
    app = Flask("site")
    if client is not None:
        app.config["REDLANE_CLIENT"] = client
    app.config.update(config)
    lane = Redlane()
    lane.init_app(app)
    return app, lane


def test_blueprints_and_classes(client: Any) -> None:
    app, lane = app_of(client)
    numbers = itertools.count(1)
    pages = Blueprint("pages", __name__, url_prefix="/pages")

    @pages.get("/<int:number>")
    @lane.cached(ttl=60)
    def page(number: int) -> Any:
        """A page."""
        return jsonify(number=number, made=next(numbers))

    class Listing(View):
        decorators = [lane.cached(ttl=60)]  # noqa: RUF012 - as Flask has it

        def dispatch_request(self) -> str:
            return str(next(numbers))

    class Item(MethodView):
        @lane.cached(ttl=60)
        def get(self, name: str) -> str:
            return f"{name} {next(numbers)}"

        def post(self, name: str) -> str:
            return f"posted {name}"

    app.register_blueprint(pages)
    app.add_url_rule("/list", view_func=Listing.as_view("listing"))
    app.add_url_rule("/item/<name>", view_func=Item.as_view("item"))
    ask = Wsgi(app)
    assert page.__name__ == "page"
    assert page.__doc__ == "A page."
    for target in ("/pages/1", "/pages/2", "/list", "/item/a", "/item/b"):
        first, second = ask(target), ask(target)
        assert (first.word, second.word) == ("MISS", "HIT")
        assert first.body == second.body
    assert ask("/item/a", method="POST").text == "posted a"


def test_coroutine_views(client: Any) -> None:
    app, lane = app_of(client)

    @app.get("/x")
    @lane.cached(ttl=60)
    async def view() -> str:
        return "x"

    ask = Wsgi(app)
    assert [ask("/x").word for _ in range(2)] == ["MISS", "HIT"]


def test_one_extension_for_two_applications() -> None:
    lane = Redlane()
    numbers = itertools.count(1)

    @lane.cached(ttl=60)
    def view() -> str:
        return str(next(numbers))

    asks = []
    for _ in range(2):
        app = Flask("site")
        app.config["REDLANE_CLIENT"] = Client("memory://")
        lane.init_app(app)
        app.add_url_rule("/x", view_func=view)
        asks.append(Wsgi(app))
    assert [ask("/x").text for ask in asks * 2] == ["1", "2", "1", "2"]


def test_without_init_app() -> None:
    app = Flask("site")
    lane = Redlane()
    app.add_url_rule("/x", view_func=lane.cached(ttl=60)(lambda: "x"), endpoint="x")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(RuntimeError, match="init_app"):
        Wsgi(app)("/x")


@pytest.mark.parametrize(
    "options",
    [{"ttl": 0}, {"stale": "soon"}, {"vary": "*"}, {"query": "page"}, {"x": 1}],
)
def test_wrong_options_are_told_where_they_stand(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Redlane().cached(**options)


def test_hooks_run_for_hits(client: Any) -> None:
    app, lane = app_of(client)

    @app.after_request
    def after(response: Any) -> Any:
        response.headers["X-Hook"] = "ran"
        return response

    app.add_url_rule("/x", view_func=lane.cached(ttl=60)(lambda: "x"), endpoint="x")
    replies = [Wsgi(app)("/x") for _ in range(2)]
    assert [reply["X-Hook"] for reply in replies] == ["ran", "ran"]
    assert replies[1].word == "HIT"


# --- configuration ------------------------------------------------------------------


def test_own_keys(redis_server: Server) -> None:
    app, lane = app_of(
        REDLANE_URL=redis_server.patient_url,
        REDLANE_PREFIX="pages",
        REDLANE_DEFAULT_TTL="10m",
        REDLANE_IGNORE_COOKIES="_ga*, theme",
        REDLANE_IDENTITY_HEADERS=["X-Who"],
    )
    app.add_url_rule("/x", view_func=lane.cached()(lambda: "x"), endpoint="x")
    ask = Wsgi(app)
    assert ask("/x", {"Cookie": "_ga=1; theme=dark"})["Cache-Control"] == "max-age=600"
    assert ask("/x").word == "HIT"
    assert ask("/x", {"X-Who": "me"}).word == "BYPASS"
    assert ask("/x", {"Authorization": "me"}).word == "BYPASS"
    assert redis_server.cli("KEYS", "pages:*")
    with app.app_context():
        assert lane.cache.stats()["hits"] >= 1


def test_keys_of_flask_caching(redis_server: Server) -> None:
    app, lane = app_of(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_HOST="127.0.0.1",
        CACHE_REDIS_PORT=redis_server.port,
        CACHE_DEFAULT_TIMEOUT=30,
        CACHE_KEY_PREFIX="old_",
    )
    app.add_url_rule("/x", view_func=lane.cached()(lambda: "x"), endpoint="x")
    assert Wsgi(app)("/x")["Cache-Control"] == "max-age=30"
    assert redis_server.cli("KEYS", "old_:*")


def test_no_cache_at_all() -> None:
    app, lane = app_of(CACHE_TYPE="NullCache")
    numbers = itertools.count(1)
    view = lane.cached(ttl=60)(lambda: str(next(numbers)))
    app.add_url_rule("/x", view_func=view, endpoint="x")
    assert [Wsgi(app)("/x").text for _ in range(2)] == ["1", "2"]


def test_own_keys_go_before() -> None:
    app, _ = app_of(
        CACHE_TYPE="SimpleCache",
        CACHE_DEFAULT_TIMEOUT=30,
        REDLANE_URL="memory://",
        REDLANE_DEFAULT_TTL=5,
    )
    assert app.extensions["redlane"]._states[app].settings.defaults["ttl"] == 5


def test_keys_of_flask_limiter() -> None:
    app, _ = app_of(
        REDLANE_URL="memory://",
        RATELIMIT_STORAGE_URI="async+redis://localhost:1/2",
        RATELIMIT_STRATEGY="moving-window",
        RATELIMIT_DEFAULT="5/minute",
        RATELIMIT_APPLICATION="9/hour",
        RATELIMIT_ENABLED=False,
        RATELIMIT_HEADERS_ENABLED=True,
        RATELIMIT_KEY_PREFIX="rl:",
        RATELIMIT_SWALLOW_ERRORS=True,
    )
    settings = app.extensions["redlane"]._states[app].settings
    assert settings.limit_url is None  # REDLANE_URL goes before
    assert settings.limit_algorithm == "moving-window"
    assert settings.limits == "5/minute"
    assert settings.app_limits == "9/hour"
    assert not settings.limits_enabled
    assert settings.limit_prefix == "rl"
    assert settings.limit_on_error == "allow"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"CACHE_TYPE": "FileSystemCache"}, "CACHE_TYPE='FileSystemCache'"),
        ({"CACHE_TYPE": "SimpleCache", "CACHE_THRESHOLD": 5}, "CACHE_THRESHOLD is not"),
        ({"CACHE_MEMCACHED_SERVERS": ["x"]}, "Memcached"),
        ({"CACHE_SPAM": 1}, "CACHE_SPAM is not known"),
        ({"RATELIMIT_STORAGE_URI": "memcached://x"}, "memcached:// is not spoken"),
        ({"RATELIMIT_DEFAULTS_COST": 2}, "cost= of each limit"),
        ({"REDLANE_TLL": 5}, "REDLANE_TLL is not known"),
    ],
)
def test_what_is_not_honoured_is_told(config: dict[str, Any], told: str) -> None:
    with pytest.warns(RuntimeWarning, match=told):
        app_of(**{"REDLANE_URL": "memory://", **config})


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"REDLANE_URL": "http//x"}, "REDLANE_URL"),
        ({"REDLANE_URL": 5}, "REDLANE_URL"),
        ({"REDLANE_CLIENT": "x"}, "REDLANE_CLIENT"),
        ({"REDLANE_FALLBACK": "x"}, "REDLANE_FALLBACK"),
        ({"REDLANE_NEAR": "x"}, "REDLANE_NEAR"),
        ({"REDLANE_TRUSTED_HOPS": "x"}, "REDLANE_TRUSTED_HOPS"),
        ({"REDLANE_TRUSTED_HOPS": -1}, "REDLANE_TRUSTED_HOPS"),
        ({"REDLANE_DEFAULT_TTL": "soon"}, "REDLANE_DEFAULT_TTL"),
        ({"CACHE_TYPE": "redis", "CACHE_REDIS_URL": "x"}, "CACHE_REDIS_URL"),
        ({"CACHE_DEFAULT_TIMEOUT": "x"}, "CACHE_DEFAULT_TIMEOUT"),
        ({"RATELIMIT_STRATEGY": "x"}, "RATELIMIT_STRATEGY"),
    ],
)
def test_values_that_are_wrong(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        app_of(**config)


def test_a_password_of_the_configuration_is_not_told() -> None:
    with pytest.raises(ConfigurationError) as caught:
        app_of(CACHE_TYPE="redis", CACHE_REDIS_URL="redis://:canary@host:port/0")
    assert "canary" not in str(caught.value)


def test_a_password_of_the_configuration_is_used(password_server: Server) -> None:
    """Each key reaches a server that asks for one, not the engine in its place."""
    port = password_server.port
    url = patient(f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/0")
    parts = {"CACHE_REDIS_HOST": "127.0.0.1", "CACHE_REDIS_PASSWORD": PASSWORD}
    for config in (
        {"REDLANE_URL": url},
        {"CACHE_TYPE": "redis", "CACHE_REDIS_URL": url},
        {"CACHE_TYPE": "redis", **parts, "CACHE_REDIS_PORT": port},
        {"RATELIMIT_STORAGE_URI": url},
    ):
        password_server.cli("FLUSHALL")
        app, lane = app_of(**config)
        views = lane.cached(ttl=60)(lambda: "x"), lane.limit("1/day")(lambda: "x")
        for path, view in zip(("/cached", "/limited"), views, strict=True):
            app.add_url_rule(path, path[1:], view)
        site = Wsgi(app)
        path = "/limited" if "RATELIMIT_STORAGE_URI" in config else "/cached"

        def reached(site: Wsgi = site, path: str = path) -> bool:
            site(path)
            return password_server.cli("DBSIZE") == 1

        wait_until(reached, f"{[*config]}")


def test_no_warning_where_nothing_is_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        app_of(REDLANE_URL="memory://", CACHE_TYPE="SimpleCache", CACHE_REDIS_URL="")


# --- templates, commands, health ----------------------------------------------------


def test_parts_of_templates(client: Any) -> None:
    app, _ = app_of(client)
    numbers = itertools.count(1)
    app.jinja_env.globals["number"] = lambda: next(numbers)
    text = "{% cache 60, who %}<b>{{ number() }}</b>{{ who }}{% endcache %}"
    with app.test_request_context():
        made = [render_template_string(text, who=who) for who in ("a", "<", "a", "<")]
    assert made == ["<b>1</b>a", "<b>2</b>&lt;", "<b>1</b>a", "<b>2</b>&lt;"]


def test_parts_that_differ_in_type(client: Any) -> None:
    app, _ = app_of(client)
    text = "{% cache '5m', value %}{{ value }}-{{ more }}{% endcache %}"
    with app.test_request_context():
        made = [
            render_template_string(text, value=value, more=i)
            for i, value in enumerate((1, "1", True, 1))
        ]
    assert made == ["1-0", "1-1", "True-2", "1-0"]


def test_the_command_line(redis_server: Server) -> None:
    app, _ = app_of(REDLANE_URL=redis_server.patient_url)
    redis_server.cli("SET", "cache:a", "1")
    done = app.test_cli_runner().invoke(args=["redlane", "keys", "--json"])
    assert done.exit_code == 0, done.output
    assert "cache:a" in json.dumps(json.loads(done.stdout))
    assert app.test_cli_runner().invoke(args=["redlane", "nonsense"]).exit_code == 2


def test_health(client: Any, executor: str) -> None:
    app, _ = app_of(client)
    app.register_blueprint(health_blueprint())
    assert json.loads(Wsgi(app)("/health").body) == {"status": "ok"}
    reply = Wsgi(app)("/health/deep")
    told = json.loads(reply.body)
    assert (reply.status, told["status"]) == (200, "ok")
    assert told["mode"] == ("memory" if executor == "engine" else "redis")
    assert told["redis"]["connected"] is (executor != "engine")
    assert {"used_memory", "used_memory_human", "latency_ms"} <= set(told["redis"])


def test_health_without_redis(fresh_server: Server) -> None:
    client = Client(fresh_server.patient_url, fallback="memory")
    app, _ = app_of(client)
    app.register_blueprint(health_blueprint())
    assert json.loads(Wsgi(app)("/health/deep").body)["status"] == "ok"
    fresh_server.kill()
    reply = Wsgi(app)("/health/deep")
    told = json.loads(reply.body)
    assert (reply.status, told["status"]) == (200, "degraded")
    assert told["redis"]["connected"] is False
    assert str(fresh_server.port) not in reply.text
    client.close()


def test_responses_without_redis(fresh_server: Server) -> None:
    client = Client(fresh_server.patient_url)
    app, lane = app_of(client)
    numbers = itertools.count(1)
    view = lane.cached(ttl=60)(lambda: str(next(numbers)))
    app.add_url_rule("/x", view_func=view, endpoint="x")
    assert [Wsgi(app)("/x").text for _ in range(2)] == ["1", "1"]
    fresh_server.kill()
    assert Wsgi(app)("/x").status == 200
    assert len({Wsgi(app)("/x").text for _ in range(3)}) == 1
    client.close()
