"""The tests of commands, pipelines and scripts once more, with a server that is spoken
to by TLS in place of the plain one."""

from __future__ import annotations

import pytest
from servers import Server
from test_client_commands import *  # noqa: F403
from test_client_execute import *  # noqa: F403
from test_pipeline import *  # noqa: F403
from tls import TlsServer


@pytest.fixture(params=["redis"])
def executor(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def redis_server(tls_server: TlsServer) -> Server:
    return tls_server


@pytest.fixture
def redis_url(tls_server: TlsServer) -> str:
    return tls_server.url
