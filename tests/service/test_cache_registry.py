"""The registry that a build fetches its cache from: what it answers, and to whom.

What it serves of caches is tested through `longshore build`, in `tests/cli/test_serving.py`.
"""

from __future__ import annotations

import socket

import pytest
from aiohttp import ClientSession
from tests.support.fake_engine import FakeEngine

from longshore.service.cache_registry import cache_registry

TOKEN = "0123456789abcdef"


async def test_engine_on_this_machine_finds_the_registry_by_its_probe() -> None:
    engine = FakeEngine()
    engine.asks_registries = True
    async with cache_registry(TOKEN) as registry:
        reference, digest = registry.probe
        assert await engine.look_up(reference) == digest


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/", 200),
        ("HEAD", f"/v2/{TOKEN}/probe/manifests/latest", 200),
        ("GET", "/v2/fedcba9876543210/probe/manifests/latest", 404),
        ("GET", f"/v2/{TOKEN}/0-web/manifests/latest", 404),
        ("GET", f"/v2/{TOKEN}/0-web/blobs/sha256:{'0' * 64}", 404),
        ("GET", f"/v2/{TOKEN}/..%2f..%2fetc/blobs/passwd", 404),
        ("GET", "/", 404),
        ("PUT", f"/v2/{TOKEN}/probe/manifests/latest", 405),
        ("DELETE", f"/v2/{TOKEN}/probe/manifests/latest", 405),
    ],
)
async def test_registry_is_to_be_read_by_who_knows_its_token(
    method: str, path: str, status: int
) -> None:
    async with cache_registry(TOKEN) as registry, ClientSession() as session:
        url = f"http://127.0.0.1:{registry.port}{path}"
        async with session.request(method, url) as answer:
            assert answer.status == status


async def test_registry_listens_on_loopback_alone_and_not_any_more_afterwards() -> None:
    async with cache_registry(TOKEN) as registry:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", registry.port)).close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", registry.port)).close()
