"""The stub, the runtime signatures and the documents say the same."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
import redlane
from redlane import _core

PACKAGE = Path(redlane.__file__).parent
STUB = ast.parse((PACKAGE / "_core.pyi").read_text())

CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
TYPES = (
    "Client",
    "Pipeline",
    "AsyncClient",
    "AsyncPipeline",
    "AsyncCache",
    "AsyncCounter",
    "AsyncRateLimiter",
    "AsyncVideoCache",
    "Cache",
    "CachedFunction",
    "Counter",
    "Decision",
    "RateLimiter",
    "VideoCache",
    "Subscription",
    "Message",
    "BytesMessage",
)
Method = ast.FunctionDef | ast.AsyncFunctionDef
UNSIGNED = {
    ("Client", "from_env"),  # its **options are spelt out in the stub
    ("AsyncClient", "from_env"),
}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}


def stub_methods(name: str) -> dict[str, list[Method]]:
    """Every overload of every method of a class."""
    methods: dict[str, list[Method]] = {}
    for node in CLASSES[name].body:
        if isinstance(node, Method):
            methods.setdefault(node.name, []).append(node)
    return methods


def runtime_names(owner: Any) -> set[str]:
    structure = {"n_fields", "n_sequence_fields", "n_unnamed_fields", "count", "index"}
    return {name for name in vars(owner) if not name.startswith("__")} - structure


def is_public(name: str) -> bool:
    return not name.startswith("_")


def stub_parameters(node: Method) -> list[tuple[str, bool]]:
    """(name, has a default) of each parameter, without self; "*x" for *x."""
    arguments = node.args
    plain = arguments.posonlyargs + arguments.args
    required = len(plain) - len(arguments.defaults)
    found = [(a.arg, i >= required) for i, a in enumerate(plain)]
    if arguments.vararg:
        found.append((f"*{arguments.vararg.arg}", False))
    found += [
        (a.arg, default is not None)
        for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        found.append((f"**{arguments.kwarg.arg}", False))
    return found


def runtime_parameters(function: Any) -> list[tuple[str, bool]]:
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [
        (marks.get(p.kind, "") + p.name, p.default is not inspect.Parameter.empty)
        for p in inspect.signature(function).parameters.values()
    ]


def test_the_same_names() -> None:
    runtime = {name for name in vars(_core) if is_public(name)}
    stub = {name for name in {*CLASSES, *FUNCTIONS} if is_public(name)}
    assert stub == runtime


@pytest.mark.parametrize("name", sorted(name for name in CLASSES if is_public(name)))
def test_the_same_attributes(name: str) -> None:
    stub = {method for method in stub_methods(name) if not method.startswith("__")}
    for node in CLASSES[name].body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            stub |= {node.target.id} - {
                "__match_args__",
                "__name__",
                "__qualname__",
                "__wrapped__",
            }
    assert stub == runtime_names(getattr(_core, name))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (owner, name)
        for owner in TYPES
        for name in stub_methods(owner)
        if callable(vars(getattr(_core, owner)).get(name))
        and not name.startswith("__")
        and (owner, name) not in UNSIGNED
    ],
)
def test_the_same_parameters(owner: str, name: str) -> None:
    runtime = runtime_parameters(vars(getattr(_core, owner))[name])
    if len(stub_methods(owner)[name]) == 1:
        assert stub_parameters(stub_methods(owner)[name][0]) == runtime
    for overload in stub_methods(owner)[name]:  # may leave defaults out
        assert [p[0] for p in stub_parameters(overload)] == [p[0] for p in runtime]


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_the_parameters_of_client(kind: str) -> None:
    runtime = runtime_parameters(getattr(redlane, kind))
    for overload in stub_methods(kind)["__init__"]:
        assert [p[0] for p in stub_parameters(overload)[1:]] == [p[0] for p in runtime]
    for overload in stub_methods(kind)["from_env"]:
        names = [p[0] for p in stub_parameters(overload)]
        assert names[1:] == ["default", *(p[0] for p in runtime if p[0] != "url")]


def test_a_pipeline_has_every_command_of_a_client() -> None:
    command = type(redlane.Client.get)
    of_client = {n for n, v in vars(redlane.Client).items() if isinstance(v, command)}
    of_pipeline = {
        n for n, v in vars(redlane.Pipeline).items() if isinstance(v, command)
    }
    assert of_client == of_pipeline | {"execute"}


def commands_of(owner: type) -> set[str]:
    command = type(redlane.Client.get)
    return {name for name, value in vars(owner).items() if isinstance(value, command)}


def test_asynchronous_halves_have_the_same_commands() -> None:
    assert commands_of(redlane.AsyncClient) == commands_of(redlane.Client)
    assert commands_of(redlane.AsyncPipeline) == commands_of(redlane.Pipeline)


def test_what_is_awaited_is_async_in_the_stub() -> None:
    for name in commands_of(redlane.AsyncClient):
        for overload in stub_methods("AsyncClient")[name]:
            assert isinstance(overload, ast.AsyncFunctionDef)


# The list of the design, without what later steps bring.
DESIGNED = """
get set getdel getex mget mset delete exists expire pexpire persist ttl pttl type incr
decr incrby decrby incrbyfloat append strlen hset hget hmget hgetall hdel hexists hlen
hincrby sadd srem sismember smismember smembers scard zadd zrem zscore zcard zrange
zremrangebyscore scan scan_iter publish subscribe listen pipeline eval ping info dbsize
flushdb execute health close from_env url
"""


@pytest.mark.parametrize("name", DESIGNED.split())
def test_every_designed_name_is_there_and_documented(name: str) -> None:
    assert (getattr(redlane.Client, name).__doc__ or "").strip()


def test_public_names() -> None:
    for name in redlane.__all__:
        value = getattr(redlane, name)
        assert not inspect.ismodule(value), f"a submodule shadows {name}"
        if inspect.isclass(value):
            assert value.__module__ == "redlane"
    assert set(redlane.__all__) <= set(dir(redlane))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        redlane.nothing_of_the_kind
