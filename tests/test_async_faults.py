"""The tests of a link's faults once more, with everything awaited: AsyncClient,
AsyncCache, decorated coroutines, AsyncCounter and AsyncVideoCache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import test_link_cuts
import test_link_faults
import test_link_refusals
import test_link_writes
import toolset
from awaited import awaited, one_loop_each
from test_link_cuts import (
    proxy,
    test_a_byte_each_quarter_of_a_second,
    test_a_raw_reply_cut_after_every_byte,
    test_a_request_cut_after_every_byte_is_none,
    test_a_tool_never_raises_whatever_is_cut,
    test_a_write_cut_after_every_byte_goes_once,
    test_an_increment_that_is_cut_counts_at_most_once,
)
from test_link_faults import (
    test_a_network_that_fails,
    test_a_server_that_closes_what_is_idle,
    test_a_server_that_does_not_answer,
    test_bytes_that_nobody_asked_for,
    test_connections_that_are_killed_under_load,
    test_one_slow_answer_is_no_outage,
    test_tools_are_the_first_to_meet_it,
)
from test_link_refusals import (
    test_a_password_that_is_put_right,
    test_a_refused_login_is_loud_and_no_loop,
    test_a_right_that_is_missing,
    test_a_server_that_is_full,
    test_loading_since_the_start,
    test_not_now_is_an_outage,
    test_scripts_that_the_server_forgets,
)
from test_link_writes import (
    test_a_link_lost_while_writes_are_refused,
    test_a_process_reads_its_own_writes,
    test_a_tool_is_the_first_to_be_refused,
    test_deletes_go_on_after_oom,
    test_writes_are_refused_and_reads_go_on,
)

__all__ = [
    "proxy",
    "test_a_byte_each_quarter_of_a_second",
    "test_a_link_lost_while_writes_are_refused",
    "test_a_network_that_fails",
    "test_a_password_that_is_put_right",
    "test_a_process_reads_its_own_writes",
    "test_a_raw_reply_cut_after_every_byte",
    "test_a_refused_login_is_loud_and_no_loop",
    "test_a_request_cut_after_every_byte_is_none",
    "test_a_right_that_is_missing",
    "test_a_server_that_closes_what_is_idle",
    "test_a_server_that_does_not_answer",
    "test_a_server_that_is_full",
    "test_a_tool_is_the_first_to_be_refused",
    "test_a_tool_never_raises_whatever_is_cut",
    "test_a_write_cut_after_every_byte_goes_once",
    "test_an_increment_that_is_cut_counts_at_most_once",
    "test_bytes_that_nobody_asked_for",
    "test_connections_that_are_killed_under_load",
    "test_deletes_go_on_after_oom",
    "test_loading_since_the_start",
    "test_not_now_is_an_outage",
    "test_one_slow_answer_is_no_outage",
    "test_scripts_that_the_server_forgets",
    "test_tools_are_the_first_to_meet_it",
    "test_writes_are_refused_and_reads_go_on",
]

MODULES = (
    *(test_link_cuts, test_link_faults, test_link_refusals, test_link_writes),
    toolset,
)


def open_connection(tools: toolset.Toolset) -> bool:
    """True once the breaker is closed and the loop has its connection: health() makes
    one of its own."""
    with contextlib.suppress(*toolset.LINK_ERRORS):
        tools.client.ping()
        return str(tools.client.health()["breaker"]) == "closed"
    return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    one_loop_each(metafunc, "loop")


@pytest.fixture(autouse=True)
def loop(request: pytest.FixtureRequest) -> Iterator[None]:
    # By patches of its own: those of a test lie over them and are taken away first.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_link_cuts, "open_connection", open_connection)
        with awaited(request.param, *MODULES):
            yield
