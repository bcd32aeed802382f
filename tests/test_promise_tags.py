"""An invalidation of a tag or a namespace made during an outage reaches the server, and
so all others, before its maker reads there again."""

from __future__ import annotations

from typing import Any

import pytest
from near_tools import wait_for_near, warm
from outage_tools import Switch, wait_until
from redlane import Cache, Client


@pytest.mark.parametrize("what", ["tag", "namespace"])
def test_others_hear_of_what_ended_while_its_maker_was_away(
    switch: Switch, what: str
) -> None:
    url = switch.server.url
    with (
        Client(switch.url, timeout=5, connect_timeout=5) as cut_off,
        Client(url, timeout=30, connect_timeout=30) as other,
        Client(url, timeout=30, connect_timeout=30) as third,
    ):
        views: list[Cache] = []
        for client in (cut_off, other, third):
            cache = Cache(client, prefix="app", ttl=300, near=client is not third)
            views.append(cache.namespace("n") if what == "namespace" else cache)
        mine, near, far = views
        source: list[Any] = ["old"]

        @near(tags="t", key="f")
        def f() -> Any:
            return source[0]

        near.set("k", "old", tags=["t"])
        near.set("kept", "kept", tags=["u"])
        mine.get("k")
        wait_for_near(cut_off)
        assert warm(mine, lambda: mine.get("k")) == "old"
        assert warm(near, lambda: near.get("k"), f) == "old"
        switch.off(cut_off)
        # How many there are on the server it cannot tell.
        assert (mine.clear() if what == "namespace" else mine.invalidate_tags("t")) == 0
        source[0] = "new"
        assert mine.get("k") is None
        assert (near.get("k"), far.get("k"), f()) == ("old",) * 3  # nobody has told
        switch.on(cut_off)
        # It has told before its own first read: whoever asks knows at once.
        assert mine.get("k") is None
        assert far.get("k") is None
        wait_until(lambda: near.get("k") is None, "the message")
        wait_until(lambda: f() == "new", "the message")
        assert far.get("kept") == (None if what == "namespace" else "kept")
