"""Servers of the tests' own: what a client leaves behind must not fail whatever test runs next."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from tests.support.faults import ScriptedServer, http_answer
from tests.support.loop_thread import InThread
from tests.support.sidecars import ThreadedSidecar

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect_to_server(request: bytes) -> socket.socket:
    server = ScriptedServer([http_answer(200)])
    with InThread(server):
        client = socket.create_connection(("127.0.0.1", urlsplit(server.endpoint_url).port or 0))
        client.send(request)
    return client


def connect_to_sidecar(request: bytes) -> socket.socket:
    with ThreadedSidecar(lambda task, tell: pytest.fail("no job was asked for")) as sidecar:
        client = socket.create_connection(("127.0.0.1", sidecar.port))
        client.send(request)
    return client


@pytest.mark.parametrize("sent", [b"", REQUEST[:9], REQUEST], ids=["none", "part", "whole"])
@pytest.mark.parametrize("connect", [connect_to_server, connect_to_sidecar])
def test_connection_that_a_client_just_made_is_closed_with_the_server(
    connect: Callable[[bytes], socket.socket], sent: bytes
) -> None:
    with connect(sent):
        gc.collect()  # of a transport that is still open it warns, and warnings are errors
