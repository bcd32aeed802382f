"""What a cached route does, the same in each framework, on each executor."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from http_sites import FRAMEWORKS, AsgiSite, FlaskSite, Site, site_of

Read = Callable[[str], str | None]


@pytest.fixture(params=FRAMEWORKS)
def site(client: Any, request: pytest.FixtureRequest) -> Iterator[Site]:
    with site_of(request.param, client) as made:
        yield made


def counting(status: int = 200, **fields: str) -> Any:
    """A route that answers 1, 2, 3, …"""
    numbers = itertools.count(1)
    named = {name.replace("_", "-"): value for name, value in fields.items()}

    def answer(read: Read) -> tuple[int, str, dict[str, str]]:
        return status, str(next(numbers)), named

    return answer


def test_a_response_is_made_once(site: Site) -> None:
    site.route("/x", counting(X_Own="kept"), ttl=60)
    first, second = site("/x"), site("/x")
    assert (first.word, first.text) == ("MISS", "1")
    assert (second.word, second.text) == ("HIT", "1")
    assert first["Age"] is None
    assert second["Age"] is not None
    for name in ("ETag", "Cache-Control", "Content-Type", "X-Own", "Content-Length"):
        assert first[name] == second[name] is not None, name
    again = site("/x", {"If-None-Match": str(first["ETag"])})
    assert (again.status, again.body) == (304, b"")
    assert again["Content-Type"] is None
    head = site("/x", method="HEAD")
    assert (head.status, head.body, head["Content-Length"]) == (200, b"", "1")


def test_what_tells_responses_apart(site: Site) -> None:
    site.route("/x", counting(), ttl=60)
    site.route("/y/{name}", counting(), ttl=60)
    assert site("/x").text == "1"
    assert site("/x?a=1").text == "2"
    assert site("/x?a=2").text == "3"
    assert site("/x", host="other.test").text == "4"
    assert site("/y/a").text == "1"
    assert site("/y/%C3%BC").text == "2"
    assert site("/y/a%3Fb").text == "3"
    assert site("/y/a?b").text == "4"
    assert [site(t).word for t in ("/x", "/x?a=1", "/y/%C3%BC", "/y/a?b")] == [
        "HIT"
    ] * 4


def test_query_that_does_not_count(site: Site) -> None:
    site.route("/x", counting(), ttl=60, query=["page"])
    assert site("/x?page=1&utm=a").text == "1"
    assert site("/x?utm=b&page=1").text == "1"
    assert site("/x?page=2").text == "2"


def test_a_key_in_the_place_of_the_query(site: Site) -> None:
    site.route("/x", counting(), ttl=60, key="all")
    assert [site(t).text for t in ("/x", "/x?a=1", "/x?b=2")] == ["1", "1", "1"]


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (500, {}),
        (404, {}),
        (302, {"Location": "/login"}),
        (200, {"Cache_Control": "no-store"}),
        (200, {"Cache_Control": "private"}),
        (200, {"Set_Cookie": "sid=1"}),
        (200, {"Vary": "*"}),
    ],
)
def test_what_is_not_stored(site: Site, status: int, fields: dict[str, str]) -> None:
    site.route("/x", counting(status, **fields), ttl=60)
    replies = [site("/x") for _ in range(3)]
    assert [reply.text for reply in replies] == ["1", "2", "3"]
    assert [reply.word for reply in replies] == ["BYPASS"] * 3
    assert all(reply.status == status for reply in replies)


def test_directives_of_requests(site: Site) -> None:
    site.route("/x", counting(), ttl=60)
    nothing = site("/x", {"Cache-Control": "only-if-cached"})
    assert nothing.status == 504
    assert site("/x").text == "1"
    assert site("/x", {"Cache-Control": "only-if-cached"}).text == "1"
    anew = site("/x", {"Cache-Control": "no-cache"})
    assert (anew.word, anew.text) == ("MISS", "2")
    assert site("/x").text == "2"
    aside = site("/x", {"Cache-Control": "no-store"})
    assert (aside.word, aside.text) == ("BYPASS", "3")
    assert site("/x", {"Pragma": "no-cache"}).text == "4"
    assert site("/x").text == "4"


def test_directives_may_be_ignored(site: Site) -> None:
    site.route("/x", counting(), ttl=60, obey_client=False)
    site("/x")
    for value in ("no-cache", "no-store", "max-age=0"):
        assert site("/x", {"Cache-Control": value}).text == "1"


def test_a_range_is_left_alone(site: Site) -> None:
    site.route("/x", counting(), ttl=60)
    assert site("/x").text == "1"
    assert site("/x", {"Range": "bytes=0-0"}).word == "BYPASS"


def test_a_change_drops_what_is_stored(site: Site) -> None:
    site.route("/x", counting(), methods=("GET", "POST"), ttl=60)
    assert site("/x").text == "1"
    assert site("/x", method="POST", body=b"{}").word is None
    assert site("/x").text == "3"


def test_a_change_that_failed_does_not(site: Site) -> None:
    def answer(read: Read) -> tuple[int, str, dict[str, str]]:
        return (400, "no", {}) if read("X-Fail") else (200, "yes", {})

    site.route("/x", answer, methods=("GET", "POST"), ttl=60)
    site("/x")
    site("/x", {"X-Fail": "1"}, method="POST", body=b"{}")
    assert site("/x").word == "HIT"


def test_invalidate(site: Site) -> None:
    site.route("/x", counting(), ttl=60)
    site.route("/x/{name}", counting(), ttl=60)
    for target in ("/x", "/x?a=1", "/x/1", "/x/2"):
        site(target)
    assert site.invalidate("/x") == 2
    assert [site(t).word for t in ("/x", "/x?a=1", "/x/1")] == ["MISS", "MISS", "HIT"]
    assert site.invalidate("/x/*") == 2
    assert site.invalidate("/nowhere*") == 0


def test_a_vary_of_the_response(site: Site) -> None:
    numbers = itertools.count(1)

    def answer(read: Read) -> tuple[int, str, dict[str, str]]:
        language = read("Accept-Language") or "none"
        return 200, f"{language} {next(numbers)}", {"Vary": "Accept-Language"}

    site.route("/x", answer, ttl=60)
    asked = ("de", "fr", "de", "fr", "it", "de")
    got = [site("/x", {"Accept-Language": name}).text for name in asked]
    assert got == ["de 1", "fr 2", "de 1", "fr 2", "it 3", "de 1"]
    assert site("/x").text == "none 4"


def test_it_ends(site: Site) -> None:
    site.route("/x", counting(), ttl=0.2)
    assert site("/x").text == "1"
    end = time.monotonic() + 30
    while site("/x").text == "1":
        assert time.monotonic() < end
        time.sleep(0.02)


def test_stale_while_it_is_made_anew(site: Site) -> None:
    site.route("/x", counting(), ttl=0.1, stale=300)
    assert site("/x").text == "1"
    time.sleep(0.2)
    late = site("/x")
    assert (late.word, late.text) == ("STALE", "1")
    end = time.monotonic() + 30
    while site("/x").text == "1":
        assert time.monotonic() < end
        time.sleep(0.02)


def test_must_revalidate_is_never_stale(site: Site) -> None:
    rule = "max-age=1, must-revalidate"
    site.route("/x", counting(Cache_Control=rule), ttl=60, stale=300)
    assert site("/x").text == "1"
    time.sleep(1.1)
    late = site("/x")
    # A hit: of what was made behind while this request looked.
    assert late.word in {"MISS", "HIT"}
    assert late.text != "1"


def test_stale_for_an_error(site: Site) -> None:
    state = {"status": 200}

    def answer(read: Read) -> tuple[int, str, dict[str, str]]:
        return state["status"], str(state["status"]), {}

    site.route("/x", answer, ttl=0.1, on_error="stale")
    assert site("/x").text == "200"
    time.sleep(0.3)
    state["status"] = 500
    late = site("/x")
    assert (late.status, late.word) == (200, "STALE")
    state["status"] = 404
    end = time.monotonic() + 30
    while site("/x").status != 404:  # after a failure nobody tries for a second
        assert time.monotonic() < end
        time.sleep(0.02)


def test_gzip(site: Site) -> None:
    body = "pixel " * 1000
    site.route("/x", lambda read: (200, body, {}), ttl=60, gzip=True)
    for _ in range(2):
        packed = site("/x", {"Accept-Encoding": "gzip"})
        plain = site("/x")
        assert packed["Content-Encoding"] == "gzip"
        assert len(packed.body) < len(body) / 10
        assert packed["Content-Length"] == str(len(packed.body))
        assert (plain.text, plain["Content-Encoding"]) == (body, None)


def test_ahead_of_routing(site: Site) -> None:
    site.route("/x", counting(), ttl=60, ahead=True)
    replies = [site("/x") for _ in range(4)]
    assert [reply.text for reply in replies] == ["1"] * 4
    assert [reply.word for reply in replies] == ["MISS", "HIT", "HIT", "HIT"]
    assert replies[3]["ETag"] == replies[0]["ETag"]
    assert site("/x", {"If-None-Match": str(replies[0]["ETag"])}).status == 304
    assert site("/x", {"Authorization": "x"}).text == "2"
    assert site("/x", {"Cache-Control": "no-cache"}).text == "3"
    assert site("/x").text == "3"
    assert site("/x?a=1").text == "4"  # made by the application, ahead
    assert site("/x?a=1").text == "4"
    assert site("/x", method="HEAD").body == b""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_ahead_of_routing_what_another_worker_has_stored(
    framework: str, client: Any
) -> None:
    """A worker whose first request is a hit serves the next one ahead too."""
    second = FlaskSite(client) if framework == "flask" else AsgiSite(client, framework)
    routed: list[str] = []
    second.route("/x", counting(), ttl=60, ahead=True)
    watch(second, routed)
    with site_of(framework, client) as first:
        first.route("/x", counting(), ttl=60, ahead=True)
        assert first("/x").word == "MISS"
        assert [second("/x").word for _ in range(3)] == ["HIT"] * 3
        assert len(routed) == 1
    if isinstance(second, AsgiSite):
        second.ask.close()


def watch(site: Site, routed: list[str]) -> None:
    """Notes each request that gets past the place where hits are served ahead."""
    app: Any = site.app  # type: ignore[attr-defined]
    if hasattr(app, "before_request"):
        app.before_request(lambda: routed.append("x"))
        return
    stack = app.build_middleware_stack()
    ahead = stack
    while type(ahead).__name__ != "Ahead":
        ahead = ahead.app
    inner = ahead.app

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        routed.append("x")
        await inner(scope, receive, send)

    ahead.app = noted
    app.middleware_stack = stack


def test_ahead_of_routing_what_is_not_shared(site: Site) -> None:
    state = {"private": False}
    numbers = itertools.count(1)

    def answer(read: Read) -> tuple[int, str, dict[str, str]]:
        fields = {"Set-Cookie": "a=b"} if state["private"] else {}
        return 200, str(next(numbers)), fields

    site.route("/x", answer, ttl=60, ahead=True)
    site("/x")
    state["private"] = True
    for number in ("2", "3"):
        got = site("/x?a=1")
        assert (got.text, got.word, got["Set-Cookie"]) == (number, "BYPASS", "a=b")


def test_threads_share_one_response(client: Any) -> None:
    with site_of("flask", client) as site:
        calls: list[int] = []

        def answer(read: Read) -> tuple[int, str, dict[str, str]]:
            calls.append(1)
            time.sleep(0.2)
            return 200, "x", {}

        site.route("/x", answer, ttl=60)
        got: list[str] = []
        threads = [
            threading.Thread(target=lambda: got.append(site("/x").text))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert got == ["x"] * 8
        assert len(calls) == 1


def test_threads_do_not_share_what_is_not_to_be_shared(client: Any) -> None:
    """Who waited for another's response, which set a cookie, gets his own."""
    with site_of("flask", client) as site:
        numbers = itertools.count(1)

        def answer(read: Read) -> tuple[int, str, dict[str, str]]:
            time.sleep(0.1)
            number = str(next(numbers))
            return 200, number, {"Set-Cookie": f"sid={number}"}

        site.route("/x", answer, ttl=60)
        got: list[tuple[str, str | None]] = []

        def ask() -> None:
            reply = site("/x")
            got.append((reply.text, reply["Set-Cookie"]))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(text for text, _ in got) == sorted(str(n) for n in range(1, 9))
        assert all(cookie == f"sid={text}" for text, cookie in got)


def test_errors_are_each_request_s_own(client: Any) -> None:
    with site_of("flask", client) as site:
        numbers = itertools.count(1)

        def answer(read: Read) -> tuple[int, str, dict[str, str]]:
            time.sleep(0.1)
            raise RuntimeError(f"failure {next(numbers)}")

        site.route("/x", answer, ttl=60)
        site.app.config["PROPAGATE_EXCEPTIONS"] = True  # type: ignore[attr-defined]
        got: list[str] = []

        def ask() -> None:
            try:
                site("/x")
            except RuntimeError as error:
                got.append(str(error))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(got) == [f"failure {n}" for n in range(1, 5)]
