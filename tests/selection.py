"""What each run of the tests leaves out, and why.

`make test` runs everything, on the installed server and without sanitizers. The other
runs look for what only they can find: how the C behaves in this process under the
sanitizers, and what another server answers. Names are those of files, without "test_".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import pytest

# Under the sanitizers, by reason. What drives the C in this process stays in.
UNSANITIZED = {
    "programs of their own, with sanitizers of their own or none": (
        *("benchmarks", "core_c", "engine_c", "fuzz", "near_c", "packaging"),
        *("pubsub_c",),
    ),
    "counts what is left in a malloc that is not the sanitizer's": (
        *("async_leaks", "engine_memory", "memory_malloc", "near_memory"),
        *("promise_leaks",),
    ),
    "reads sources, stubs and documents": (
        *("compose", "docs", "requirements_table", "selection", "source_rules"),
        *("stubs", "tutorials", "twins"),
    ),
    "tests of the tools of tests, without the library": (
        *("browser", "fetch_servers", "history", "proxy"),
    ),
    "Python alone, or calls that other files make too": (
        *("coming_from", "http_rules", "requirement_krowoc", "requirement_ludo"),
        *("requirement_matrx", "requirement_mural", "requirement_shared"),
        *("requirement_video", "rest_faults", "rest_hostile", "rest_topics"),
        "starlark",
    ),
    "applications and tools in processes of their own; each start takes seconds": (
        *("apps_share", "cli", "cli_live", "cli_stored", "http_servers"),
        *("example_krowoc", "example_ludo", "example_matrx", "example_mural"),
        *("example_videocache", "examples_start", "mural", "mural_live"),
        *("mural_workers", "near_gunicorn", "soak_examples"),
    ),
    "every tool in many processes; each is seen by itself elsewhere": (
        *("counter_processes", "limit_processes", "near_histories"),
        *("promise_histories", "soak_mixed"),
    ),
}

# What drives the transports of event loops: under the sanitizers too on each kind. The
# rest runs on one there: loops and sanitizers vary one at a time.
ON_EACH_LOOP = {
    *("async_crossed", "async_ends", "async_faults", "async_interrupts", "async_link"),
    *("async_pubsub", "async_resources", "async_running", "limit_faults"),
    *("pubsub_async", "review_loop", "task_ends"),
}

# On other servers, by reason. What asks for no server stays out by itself.
SERVERLESS = {
    "the server answers as the tests' own script has it, or as little as it can": (
        *("async_hostile", "async_interrupts", "async_resources", "async_running"),
        *("hostile_limits", "hostile_python", "hostile_streams", "hostile_values"),
        *("wire_bulk", "wire_key", "wire_replies"),
    ),
    "about values and functions in Python; the server only keeps bytes": (
        *("async_values", "cached_function", "decorated_call", "decorated_options"),
        *("decorated_secrets", "envelope", "level0", "seal", "seal_functions"),
        *("typed_results",),
    ),
    "about the end of a link, whoever is behind it": (
        *("async_faults", "async_link", "journal_processes", "link_cuts"),
        *("link_resources", "outages_flights", "promise_deadlines", "wire_deadline"),
        "write_breaker",
    ),
    "about leaks, memory and processes of the client": (
        *("async_ends", "async_leaks", "counter_processes", "herd_expired"),
        *("herd_processes", "leaks", "limit_processes", "memory_malloc"),
        *("near_bounds", "near_forks", "near_gunicorn", "near_memory"),
        *("promise_leaks", "soak_examples", "soak_mixed"),
        *("stress_cache", "stress_memory", "stress_processes", "stress_replies"),
        *("task_ends",),
    ),
    "applications and frameworks, on what the rest has shown": (
        *("apps_share", "async_cache_fastapi", "cli", "docs", "example_krowoc"),
        *("example_ludo", "example_matrx", "example_mural", "example_videocache"),
        *("examples_start", "http_attacks", "tutorials"),
        *("http_fastapi", "http_flask", "http_forged", "http_limit_attacks"),
        *("http_limits", "http_openapi", "http_places", "http_rules", "http_security"),
        *("http_servers", "http_sites", "mural", "mural_live", "mural_outage"),
        *("mural_seed", "mural_workers", "otel", "secrets_of_parts", "seed_snippets"),
    ),
    "of the plain programs in C, whose server makes no difference": ("pubsub_c",),
}

# By REST, in `make test`: a story of each tool. `make soak` runs the others too.
REST = {"client_execute", "cooldown", "counter", "tenants", "typed_results"}

# Never by REST, by reason.
NOT_BY_REST = {
    "what is not UTF-8 comes with U+FFFD in it": (
        *("test_listen_gives_messages_as_they_are", "test_messages_are_their_payload"),
        *("test_messages_are_text_where_the_client_decodes",),
        *("test_payloads_of_every_size", "test_what_is_no_json_is_a_text"),
    ),
    "counts what the gateway of the tests notes, too; rest_leaks.py is for that": (
        "test_no_references_leak",
    ),
    "a channel without a name has no path": (
        *("test_any_name_is_a_channel", "test_patterns_are_globs"),
    ),
}


def left_out() -> Iterator[str]:
    """The files that this run leaves out."""
    if "REDLANE_SANITIZED" in os.environ:
        yield from named(UNSANITIZED.values())
    if os.environ.get("REDLANE_TEST_SERVERS"):
        yield from named(SERVERLESS.values())


def named(tables: Iterable[Iterable[str]]) -> Iterator[str]:
    return (f"test_{name}.py" for names in tables for name in names)


def is_for_servers(item: pytest.Item) -> bool:
    """Whether another server could make a difference: not to a test that asks for none,
    nor to its form on the engine. Of the loops one is enough: loops and servers vary
    one at a time."""
    assert isinstance(item, pytest.Function)
    unfit = words(item) & {"engine", "uvloop"}
    return "server_binary" in item.fixturenames and not unfit


def is_for_sanitizers(item: pytest.Item) -> bool:
    if item.path.stem.removeprefix("test_") in ON_EACH_LOOP:
        return True
    return "uvloop" not in words(item)


def words(item: pytest.Item) -> set[str]:
    """Those of the test's parameters that are words."""
    assert isinstance(item, pytest.Function)
    params = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {value for value in params if isinstance(value, str)}


def is_by_rest(item: pytest.Item) -> bool:
    assert isinstance(item, pytest.Function)
    return hasattr(item, "callspec") and item.callspec.params.get("executor") == "rest"


def is_for_rest(item: pytest.Item) -> bool:
    """Whether it asks the client of the fixture, which goes where it is told."""
    assert isinstance(item, pytest.Function)
    unfit = {name for names in NOT_BY_REST.values() for name in names}
    return "client" in item.fixturenames and item.originalname not in unfit


def sort_out(item: pytest.Item) -> None:
    """Marks what by REST is for `make soak` alone."""
    if is_by_rest(item) and item.path.stem.removeprefix("test_") not in REST:
        item.add_marker(pytest.mark.soak)


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Takes out the tests that REST, another server or a sanitizer is nothing for."""
    servers = bool(os.environ.get("REDLANE_TEST_SERVERS"))
    sanitized = "REDLANE_SANITIZED" in os.environ
    out, kept = [], []
    for item in items:
        unfit = is_by_rest(item) and (servers or not is_for_rest(item))
        unfit |= servers and not is_for_servers(item)
        unfit |= sanitized and not is_for_sanitizers(item)
        if unfit:
            out.append(item)
        else:
            kept.append(item)
    config.hook.pytest_deselected(items=out)
    items[:] = kept
