"""The tests of hostile replies, limits, callbacks and secrets once more, with all of it
awaited: AsyncClient, AsyncPipeline, AsyncCache, decorated coroutines, AsyncCounter and
AsyncVideoCache."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import redlane
import test_hostile_limits
import test_hostile_python
import test_hostile_replies
import test_hostile_secrets
from aio import KINDS, end
from awaited import Portal, awaited, one_loop_each
from redlane import AsyncCache, AsyncClient, AsyncCounter, AsyncVideoCache
from servers import Server
from test_hostile_limits import (
    test_a_connection_left_in_multi,
    test_a_key_of_another_type,
    test_a_message_before_the_first_answer,
    test_a_probe_that_is_answered_twice,
    test_a_status_queued_inside_an_array_is_one,
    test_a_subscribed_connection,
    test_a_value_that_cannot_be_read,
    test_an_endless_line_is_bounded,
    test_as_many_elements_as_were_asked_for,
    test_max_reply_of_an_array_that_comes_in_one_piece,
    test_max_reply_to_the_byte,
    test_more_elements_than_were_asked_for,
    test_promised_arrays_cost_little_before_they_come,
)
from test_hostile_python import (
    test_a_callback_that_closes_its_own_client,
    test_a_callback_that_comes_back,
    test_a_callback_that_raises,
    test_closing_twice_and_from_many_threads,
    test_cycles_through_every_callback_are_collected,
    test_del_while_replies_are_built,
    test_every_tool_after_its_client_was_closed,
    test_texts_that_lie_are_what_they_hold,
    url,
)
from test_hostile_replies import (
    test_a_pipeline_keeps_what_makes_no_result_in_its_place,
    test_a_scan_that_gets_nowhere_ends,
    test_every_fatal_reply_for_every_call,
    test_every_reply_for_every_call,
)
from test_hostile_secrets import (
    PASSWORD,
    VALUE,
    Output,
    calls_of,
    guarded_server,
    output,
    test_a_server_that_answers,
    test_a_server_that_refuses,
    test_a_server_that_repeats_the_password,
    test_no_server,
    url_of,
)

__all__ = [
    "guarded_server",
    "output",
    "test_a_callback_that_closes_its_own_client",
    "test_a_callback_that_comes_back",
    "test_a_callback_that_raises",
    "test_a_connection_left_in_multi",
    "test_a_key_of_another_type",
    "test_a_message_before_the_first_answer",
    "test_a_pipeline_keeps_what_makes_no_result_in_its_place",
    "test_a_probe_that_is_answered_twice",
    "test_a_scan_that_gets_nowhere_ends",
    "test_a_server_that_answers",
    "test_a_server_that_refuses",
    "test_a_server_that_repeats_the_password",
    "test_a_status_queued_inside_an_array_is_one",
    "test_a_subscribed_connection",
    "test_a_value_that_cannot_be_read",
    "test_an_endless_line_is_bounded",
    "test_as_many_elements_as_were_asked_for",
    "test_closing_twice_and_from_many_threads",
    "test_cycles_through_every_callback_are_collected",
    "test_del_while_replies_are_built",
    "test_every_fatal_reply_for_every_call",
    "test_every_reply_for_every_call",
    "test_every_tool_after_its_client_was_closed",
    "test_max_reply_of_an_array_that_comes_in_one_piece",
    "test_max_reply_to_the_byte",
    "test_more_elements_than_were_asked_for",
    "test_no_server",
    "test_promised_arrays_cost_little_before_they_come",
    "test_texts_that_lie_are_what_they_hold",
    "url",
]

MODULES = (
    *(test_hostile_limits, test_hostile_python),
    *(test_hostile_replies, test_hostile_secrets),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    one_loop_each(metafunc, "portal")


@pytest.fixture(autouse=True)
def portal(request: pytest.FixtureRequest) -> Iterator[Portal]:
    # By patches of its own: those of a test lie over them and are taken away first.
    with pytest.MonkeyPatch.context() as patch:
        # That of the loop, and the one over which health() looks.
        patch.setattr(test_hostile_replies, "CONNECTIONS", 2)
        with awaited(request.param, *MODULES) as made:
            yield made


def test_what_asyncio_says(
    portal: Portal,
    output: Output,
    guarded_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In debug mode, of tasks whose exception nobody retrieved, of callbacks that were
    slow, of replies that nobody awaited; and what its exception handler is given."""
    contexts: list[dict[str, Any]] = []

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        contexts.append(context)
        output.add("context", repr(context))
        if "exception" in context:
            output.add_error("context", context["exception"])
        loop.default_exception_handler(context)

    async def main(url: str, **options: Any) -> None:
        client: Any = AsyncClient(url, **options)
        tools = calls_of(client, AsyncCache(client, fallback="raise"))  # type: ignore[arg-type]
        tasks = []
        for name, call in tools.items():
            errors = redlane.RedlaneError, TypeError, ValueError
            try:
                made = call()
                if inspect.isawaitable(made):
                    output.add(f"repr of {name}", f"{made!r} {made}")
                    await made
            except errors:
                # As a task. One that ends well has the value itself for its result,
                # which asyncio shows: the caller gave it that.
                with contextlib.suppress(*errors):
                    tasks.append(asyncio.ensure_future(call()))
        subscription = client.subscribe("channel", patterns=[VALUE[:3] + "*"])
        tasks.append(asyncio.ensure_future(subscription.__anext__()))
        output.add("tasks under way", repr(tasks))
        await asyncio.sleep(0)
        output.add("tasks at work", repr(tasks))
        for task in tasks:
            stack = io.StringIO()
            task.print_stack(file=stack)
            output.add("stack", stack.getvalue())
        await asyncio.wait(tasks[:-1])
        tasks[-1].cancel()
        del tasks[:], task, subscription, made
        gc.collect()
        never = client.set("k", VALUE)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del never
            gc.collect()
        output.add("warnings", repr([str(warning.message) for warning in caught]))
        await client.close()

    module = sys.modules["test_hostile_secrets"]
    monkeypatch.setattr(
        module, "Counter", lambda c, *a, **o: AsyncCounter(c.sync, *a, **o)
    )
    monkeypatch.setattr(module, "VideoCache", lambda c: AsyncVideoCache(c.sync))
    urls = {
        "right": url_of(guarded_server.port, user="app"),
        "wrong": url_of(guarded_server.port, "wrong" + PASSWORD, "app"),
        "nobody": url_of(1),
    }
    for where in urls.values():
        loop = KINDS[portal.kind]()
        loop.set_debug(True)
        loop.slow_callback_duration = 0
        loop.set_exception_handler(handler)
        loop.run_until_complete(main(where, timeout=30, connect_timeout=30))
        end(loop)
        gc.collect()
    assert len(contexts) > 10
