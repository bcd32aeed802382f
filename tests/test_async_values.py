"""The tests of values at the ends of their ranges once more, with all of it awaited."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import test_hostile_values
from awaited import Blocking, Portal, awaited, one_loop_each
from redlane import AsyncClient
from servers import PATIENT, Server
from test_hostile_values import (
    test_a_count_past_64_bits,
    test_a_hash_field_past_64_bits,
    test_a_lone_surrogate_is_refused_everywhere,
    test_an_amount_past_64_bits_is_not_sent,
    test_every_kind_of_key_everywhere,
    test_every_kind_of_ttl_everywhere,
    test_floats_that_are_no_amounts,
    test_sources_at_the_ends,
    test_sources_that_are_no_counts,
)

__all__ = [
    "test_a_count_past_64_bits",
    "test_a_hash_field_past_64_bits",
    "test_a_lone_surrogate_is_refused_everywhere",
    "test_an_amount_past_64_bits_is_not_sent",
    "test_every_kind_of_key_everywhere",
    "test_every_kind_of_ttl_everywhere",
    "test_floats_that_are_no_amounts",
    "test_sources_at_the_ends",
    "test_sources_that_are_no_counts",
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    one_loop_each(metafunc, "portal")


@pytest.fixture(autouse=True)
def portal(request: pytest.FixtureRequest) -> Iterator[Portal]:
    with awaited(request.param, test_hostile_values) as made:
        yield made


@pytest.fixture
def client(portal: Portal, executor: str, redis_server: Server) -> Iterator[Blocking]:
    url = "memory://" if executor == "engine" else redis_server.url
    made = portal.make(AsyncClient, url, **PATIENT)
    yield made
    made.close()
