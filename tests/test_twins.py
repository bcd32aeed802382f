"""Everything that waits has a form for event loops, with the same arguments."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest
import redlane
from test_stubs import CLASSES

PAIRS = {
    "Client": "AsyncClient",
    "Pipeline": "AsyncPipeline",
    "Cache": "AsyncCache",
    "Counter": "AsyncCounter",
    "VideoCache": "AsyncVideoCache",
    "PubSub": "AsyncPubSub",
    "ContextualRedisCache": "AsyncContextualRedisCache",
    "Concurrency": "AsyncConcurrency",
    "Cooldown": "AsyncCooldown",
    "Presence": "AsyncPresence",
    "RateLimiter": "AsyncRateLimiter",
    "RedisCache": "AsyncRedisCache",
    "Slot": "AsyncSlot",
    "Listener": "AsyncListener",
    "close_default_client": "aclose_default_client",
}
# The others, and why they have no twin.
OF_BOTH = {
    "CachedFunction": "awaits where its function does",
    "RedisPubSub": "is PubSub",
    "Subscription": "is read by threads and tasks",
    "TenantCache": "is RedisCache",
    "cache": "cache.aio",
    "invalidate_cache": "cache.aio.invalidate",
    "pubsub": "pubsub.aio",
    "rate_limit": "awaits where its function does",
    "video_cache": "video_cache.aio",
}
WAIT_FOR_NOTHING = {
    *("BytesMessage", "CacheInfo", "CooldownState", "Decision", "Gap", "LimitStatus"),
    *("InMemoryCache", "Message", "NoOpCache", "RuntimeCache"),
    *("configure", "content_key", "default_client"),
    *(
        name
        for name in redlane.__all__
        if isinstance(getattr(redlane, name), type)
        and issubclass(getattr(redlane, name), Exception)
    ),
}
NOT_AWAITED = {
    ("Cache", "counter"),
    ("Cache", "disabled"),
    ("Cache", "namespace"),
    ("Client", "from_env"),
    ("Client", "pipeline"),
    ("Client", "scan_iter"),  # is an asynchronous iterator
    ("Client", "subscribe"),  # its result is read by threads and tasks
    ("Concurrency", "limited"),  # a decorator, for functions of both kinds
    ("Concurrency", "slot"),  # its result is entered
    ("ContextualRedisCache", "key"),
    ("Cooldown", "key"),
    ("Counter", "key"),
    ("RateLimiter", "limit"),  # a decorator, for functions of both kinds
    ("RedisCache", "from_client"),
    ("RedisCache", "with_context"),
    ("Slot", "headers"),
    ("Slot", "raw_headers"),
}
MADE_BY_OTHERS = {"ContextualRedisCache", "Listener", "Pipeline", "Slot"}
CLASS_PAIRS = {sync: twin for sync, twin in PAIRS.items() if sync[0].isupper()}
OWN = {"aio", "sync", "aclose"}
# What only the blocking ones have: their twins have them by `sync`.
BLOCKING_ONLY = {"ContextualRedisCache": {"cache", "scope"}}
SPECIAL = {
    "__call__": "__call__",
    "__contains__": "__contains__",
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "__getitem__": "__getitem__",
    "__iter__": "__aiter__",
    "__len__": "__len__",
}


def public(owner: Any) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[Any, ...]]:
    """Those of a call; what C says of `self` and of types differs from what Python
    does."""
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in found if p.name != "self"]


METHODS = [
    (sync, name)
    for sync in CLASS_PAIRS
    for name in sorted(public(getattr(redlane, sync)) - OWN)
    if callable(getattr(getattr(redlane, sync), name))
]


def test_every_public_name_is_of_one_kind() -> None:
    kinds = [set(PAIRS), set(PAIRS.values()), set(OF_BOTH), WAIT_FOR_NOTHING]
    assert sorted(name for kind in kinds for name in kind) == sorted(redlane.__all__)
    for owner, name in NOT_AWAITED:
        assert (owner, name) in METHODS


@pytest.mark.parametrize("sync", CLASS_PAIRS)
def test_twins_have_the_same_names(sync: str) -> None:
    blocking, awaited = getattr(redlane, sync), getattr(redlane, CLASS_PAIRS[sync])
    names = public(blocking) - OWN - BLOCKING_ONLY.get(sync, set())
    assert names == public(awaited) - OWN
    for ours, theirs in SPECIAL.items():
        if hasattr(blocking, ours):
            assert hasattr(awaited, theirs), theirs


@pytest.mark.parametrize("sync", sorted(set(CLASS_PAIRS) - MADE_BY_OTHERS))
def test_twins_are_made_of_the_same(sync: str) -> None:
    def options(owner: Any) -> list[tuple[str, Any]]:
        found = inspect.signature(owner).parameters.values()
        return [(p.name, p.default) for p in found if p.name != "lazy"]

    awaited = getattr(redlane, CLASS_PAIRS[sync])
    assert options(awaited) == options(getattr(redlane, sync))


@pytest.mark.parametrize(("sync", "name"), METHODS)
def test_twins_take_the_same(sync: str, name: str) -> None:
    ours = getattr(getattr(redlane, sync), name)
    theirs = getattr(getattr(redlane, CLASS_PAIRS[sync]), name)
    assert parameters(theirs) == parameters(ours)
    assert (theirs.__doc__ or "").strip()


@pytest.mark.parametrize(("sync", "name"), METHODS)
def test_what_waits_is_awaited(sync: str, name: str) -> None:
    awaited = getattr(redlane, CLASS_PAIRS[sync])
    twin = next(base.__name__ for base in awaited.__mro__ if name in vars(base))
    if twin not in CLASSES:  # not of C: its code says it
        waits = (sync, name) not in NOT_AWAITED
        assert inspect.iscoroutinefunction(getattr(awaited, name)) is waits
        return
    kinds = {
        isinstance(node, ast.AsyncFunctionDef)
        or ast.unparse(node.returns or node).startswith(("Coroutine[", "_Awaited["))
        for node in CLASSES[twin].body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name == name
    } or {False}  # an attribute
    chained = twin == "AsyncPipeline" and name != "execute"
    assert kinds == {not chained and (sync, name) not in NOT_AWAITED}


def test_functions() -> None:
    assert inspect.iscoroutinefunction(redlane.aclose_default_client)
    assert inspect.signature(redlane.aclose_default_client).parameters == {}
