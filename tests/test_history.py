"""The history checker finds each kind of wrong history, and none in a right one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from history import (
    Event,
    History,
    check_counter,
    check_register,
    check_unique_sums,
    load,
)


def event(
    kind: str,
    value: Any,
    begin: float,
    end: float = math.inf,
    outcome: str = "ok",
    process: str = "p",
    result: Any = None,
) -> Event:
    if end == math.inf:
        outcome = "open"
    return Event(process, kind, "k", value, begin, end, outcome, result)


def add(
    amount: float, begin: float, end: float = math.inf, outcome: str = "ok", **more: Any
) -> Event:
    return event("add", amount, begin, end, outcome, **more)


def write(value: Any, begin: float, end: float = math.inf, **more: Any) -> Event:
    return event("write", value, begin, end, **more)


def read(value: Any, begin: float, end: float, **more: Any) -> Event:
    return event("read", value, begin, end, **more)


# --- counters ---------------------------------------------------------------------

TWO_ADDED_ONE_OPEN = [add(1, 1, 2), add(1, 2, 3), add(5, 3)]


@pytest.mark.parametrize("final", [2, 7])
def test_an_open_addition_counts_or_not(final: int) -> None:
    assert check_counter(TWO_ADDED_ONE_OPEN, "k", final) == []


@pytest.mark.parametrize("final", [1, 8, 12])
def test_lost_or_counted_twice(final: int) -> None:
    (found,) = check_counter(TWO_ADDED_ONE_OPEN, "k", final)
    assert f"ended at {final}, not in 2…7" in found


def test_an_addition_known_to_have_failed_does_not_count() -> None:
    failed = add(1, 1, 2, "failed")
    assert check_counter([failed], "k", 0) == []
    assert check_counter([failed], "k", 1)


def test_another_key_does_not_count() -> None:
    other = add(1, 1, 2)
    other.key = "other"
    assert check_counter([other], "k", 0) == []


def test_an_initial_value_and_falling_amounts() -> None:
    events = [add(-3, 1, 2), add(-4, 3)]
    assert check_counter(events, "k", 7, initial=10) == []
    assert check_counter(events, "k", 3, initial=10) == []
    assert check_counter(events, "k", 10, initial=10)
    assert check_counter(events, "k", 2, initial=10)


def test_a_sum_seen_on_the_way() -> None:
    around = [add(1, 1, 2), add(1, 3, 6)]
    for seen in (1, 2):
        assert check_counter([*around, read(seen, 4, 5)], "k") == []
    for seen in (0, 3):
        (found,) = check_counter([*around, read(seen, 4, 5)], "k")
        assert f"was {seen}, not in 1…2" in found


def test_the_sum_that_an_addition_returns_counts_itself() -> None:
    assert check_counter([add(1, 1, 2), add(3, 3, 4, result=4)], "k") == []
    assert check_counter([add(1, 1, 2), add(3, 3, 4, result=3)], "k")
    assert check_counter([add(1, 1, 2), add(3, 3, 4, result=5)], "k")


def test_what_is_lost_may_be_missing_and_is_not_counted_twice() -> None:
    events = [add(5, 1, 2), add(1, 6, 7)]
    assert check_counter(events, "k", 1)
    for final in (1, 6):
        assert check_counter(events, "k", final, losses=[(3, 4)]) == []
    assert check_counter(events, "k", 0, losses=[(3, 4)])
    assert check_counter(events, "k", 7, losses=[(3, 4)])
    assert check_counter([add(-5, 1, 2)], "k", 0, losses=[(3, 4)]) == []


def test_what_another_process_holds_back_during_an_outage() -> None:
    events = [add(5, 1, 2, process="q"), read(0, 3, 4)]
    assert check_counter(events, "k", 5)
    assert check_counter(events, "k", 5, outages=[(0, 3)]) == []
    assert check_counter(events, "k", 0, outages=[(0, 3)])  # but not for ever


def test_one_sum_for_two_additions() -> None:
    events = [add(1, 1, 4, result=1), add(1, 2, 3, result=2)]
    assert check_unique_sums(events, "k") == []
    events.append(add(1, 5, 6, result=2))
    assert len(check_unique_sums(events, "k")) == 1


# --- registers --------------------------------------------------------------------


def test_the_last_value_or_one_under_way() -> None:
    writes = [write("a", 1, 2), write("b", 3, 6)]
    for seen in ("a", "b"):
        assert check_register([*writes, read(seen, 4, 5)], "k") == []


def test_a_write_that_never_returned_may_come_at_any_time() -> None:
    writes = [write("a", 1), write("b", 3, 4)]
    assert check_register([*writes, read("a", 8, 9)], "k") == []
    assert check_register([*writes, read("b", 8, 9)], "k") == []


def test_a_value_that_nobody_wrote() -> None:
    (found,) = check_register([write("a", 1, 2), read("b", 3, 4)], "k")
    assert "nobody wrote" in found
    failed = write("b", 1, 2, outcome="failed")
    assert check_register([failed, read("b", 3, 4)], "k")


def test_a_value_before_it_was_written() -> None:
    (found,) = check_register([read("a", 1, 2), write("a", 3, 4)], "k")
    assert "before it was written" in found


@pytest.mark.parametrize("process", ["p", "q"])
def test_a_value_that_was_replaced(process: str) -> None:
    events = [write("a", 1, 2), write("b", 3, 4), read("a", 5, 6, process=process)]
    (found,) = check_register(events, "k")
    assert "still read" in found


def test_a_value_that_was_deleted() -> None:
    events = [write("a", 1, 2), write(None, 3, 4), read("a", 5, 6)]
    assert check_register(events, "k")
    events.append(write(None, 7, 8))
    events.append(read(None, 9, 10))
    assert len(check_register(events, "k")) == 1


def test_nothing_is_an_answer_of_a_cache_only() -> None:
    events = [write("a", 1, 2), read(None, 3, 4)]
    assert check_register(events, "k", lossy=True) == []
    assert check_register(events, "k")


def test_nothing_is_an_answer_before_anything_is_written() -> None:
    assert check_register([read(None, 1, 2), write("a", 1, 3)], "k") == []
    assert check_register([read(None, 1, 2)], "k", initial="x")
    assert check_register([read("x", 1, 2)], "k", initial="x") == []


def test_a_server_that_lost_everything() -> None:
    events = [write("a", 1, 2), read(None, 5, 6), write("b", 7, 8), read("b", 9, 10)]
    assert check_register(events, "k", losses=[(3, 4)]) == []
    assert check_register(events, "k")


def test_an_outage_excuses_the_reads_of_others_only() -> None:
    """What q deleted on its own, p may go on reading; q itself may not."""
    events = [write("a", 1, 2), write(None, 3, 4, process="q")]
    outages = [(2.5, 5.0)]
    of_other, of_own = read("a", 6, 7), read("a", 6, 7, process="q")
    assert check_register([*events, of_other], "k", outages=outages) == []
    assert check_register([*events, of_other], "k")
    assert check_register([*events, of_own], "k", outages=outages)


def test_a_read_in_an_outage_knows_its_own_writes_only() -> None:
    events = [write("a", 1, 2), write("b", 3, 4, process="q")]
    assert check_register([*events, read("a", 6, 7)], "k", outages=[(5, 8)]) == []
    assert check_register([*events, read("a", 6, 7)], "k", outages=[(9, 10)])


# --- recording --------------------------------------------------------------------


def test_a_lag_excuses_what_others_wrote_for_so_long() -> None:
    writes = [write("a", 1, 2), write("b", 3, 4, process="q")]
    assert not check_register([*writes, read("a", 4.9, 5)], "k", lag=1)
    assert len(check_register([*writes, read("a", 5.1, 5.2)], "k", lag=1)) == 1


def test_a_lag_excuses_nothing_that_the_reader_wrote_itself() -> None:
    writes = [write("a", 1, 2, process="q"), write("b", 3, 4)]
    assert len(check_register([*writes, read("a", 4.1, 5)], "k", lag=1)) == 1
    assert not check_register([*writes, read("a", 4.1, 5, process="q")], "k", lag=1)


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "p.log"
    history = History("p", path)
    history.begin("add", "n", 2).ok(2)
    history.begin("write", "r", "v").lost()
    history.begin("write", "r", None).failed()
    history.begin("read", "r").ok("v")
    history.begin("add", "n", 1)  # the process ends here
    history.close()
    events = load([path])
    assert events == history.events
    assert [event.outcome for event in events] == ["ok", "open", "failed", "ok", "open"]
    assert events[0].result == 2
    assert events[3].value == "v"
    assert events[0].begin <= events[0].end <= events[1].begin
    assert events[4].end == math.inf
