"""Requests in the log: each has an id, what fails is written down, and the client can name it."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from tests.cli.conftest import Stream

from longshore.service.log import Log
from longshore.service.python_logging import libraries_heard, to_log
from longshore.service.request_log import HEADER, log_requests

Client = TestClient[web.Request, web.Application]


async def fine(_: web.Request) -> web.Response:
    return web.Response(text="fine")


async def answers(request: web.Request) -> web.Response:
    return web.Response(status=int(request.match_info["status"]))


async def refuses(_: web.Request) -> web.Response:
    raise web.HTTPBadGateway


async def breaks(_: web.Request) -> web.Response:
    raise ZeroDivisionError("by\nzero")


async def breaks_off(request: web.Request) -> web.StreamResponse:
    stream = web.StreamResponse()
    await stream.prepare(request)
    await stream.write(b"half")
    raise ZeroDivisionError("half way")


async def not_ready(_: web.Request) -> web.Response:
    return web.Response(status=503)


class Served:
    def __init__(self, client: Client, stream: Stream) -> None:
        self.client, self._stream = client, stream

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.text.splitlines()]


async def serve(*, verbose: bool) -> AsyncIterator[Served]:
    stream = Stream()
    log = Log(stream, form="json", now=lambda: datetime(2026, 11, 26, tzinfo=UTC), verbose=verbose)
    app = web.Application()
    app.add_routes(
        [
            web.get("/fine", fine),
            web.get("/status/{status}", answers),
            web.get("/refuses", refuses),
            web.get("/breaks", breaks),
            web.get("/breaks-off", breaks_off),
            web.get("/readyz", not_ready),
        ]
    )
    numbers = itertools.count(1)
    seconds = itertools.count()
    log_requests(app, log, make_id=lambda: f"made-{next(numbers)}", clock=lambda: next(seconds))
    with libraries_heard(to_log(log)):
        async with TestClient(TestServer(app)) as client:
            yield Served(client, stream)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async for one in serve(verbose=False):
        yield one


@pytest.fixture
async def verbose() -> AsyncIterator[Served]:
    async for one in serve(verbose=True):
        yield one


@pytest.mark.parametrize(
    "given", ["r-1", "8f14e45f-ceea-467f", "Root=1-6789:a/b+c@d.e_f", "x" * 128]
)
async def test_a_sane_id_is_kept_and_told_back(served: Served, given: str) -> None:
    async with served.client.get("/fine", headers={HEADER: given}) as answer:
        assert answer.headers[HEADER] == given


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "é", "-", '"', "a\tb", "<b>"])
async def test_a_strange_id_or_none_is_replaced(served: Served, given: str | None) -> None:
    headers = {} if given is None else {HEADER: given}
    async with served.client.get("/fine", headers=headers) as answer:
        assert answer.headers[HEADER] == "made-1"


@pytest.mark.parametrize("path", ["/fine", "/status/204", "/nowhere", "/refuses", "/breaks"])
async def test_every_answer_has_an_id(served: Served, path: str) -> None:
    async with served.client.get(path) as answer:
        assert answer.headers[HEADER] == "made-1"


async def test_requests_are_written_down_only_if_it_is_to_say_more(
    served: Served, verbose: Served
) -> None:
    for one in (served, verbose):
        for path in ("/fine?token=secret", "/nowhere"):
            async with one.client.get(path, headers={HEADER: "r1"}):
                pass

    assert served.lines == []
    assert [(line["message"], line["status"]) for line in verbose.lines] == [
        ("GET /fine 200 in 1000 ms", 200),
        ("GET /nowhere 404 in 1000 ms", 404),
    ]
    assert {line["request"] for line in verbose.lines} == {"r1"}
    assert verbose.lines[0] | {"method": "GET", "path": "/fine", "seconds": 1} == verbose.lines[0]


@pytest.mark.parametrize("path", ["/status/500", "/status/503", "/refuses"])
async def test_answers_that_say_it_failed_are_always_written_down(
    served: Served, path: str
) -> None:
    async with served.client.get(path):
        pass

    (line,) = served.lines
    assert (line["level"], line["path"]) == ("error", path)


async def test_not_to_be_ready_yet_is_no_failure(served: Served) -> None:
    async with served.client.get("/readyz") as answer:
        assert answer.status == 503

    assert served.lines == []


async def test_a_bug_is_one_line_with_its_traceback_and_the_client_gets_the_id(
    served: Served,
) -> None:
    async with served.client.get("/breaks", headers={HEADER: "r1"}) as answer:
        assert answer.status == 500
        document = await answer.json()

    (line,) = served.lines
    assert (line["level"], line["request"]) == ("error", "r1")
    assert line["message"] == "GET /breaks 500 in 1000 ms: ZeroDivisionError: by\\x0azero"
    assert "in breaks\n" in line["traceback"]
    assert document["request_id"] == "r1"
    assert "r1" in document["error"]["message"]
    assert "zero" not in json.dumps(document).lower()


async def test_an_answer_that_breaks_off_does_not_seem_to_be_complete(served: Served) -> None:
    async with served.client.get("/breaks-off") as answer:
        assert answer.headers[HEADER] == "made-1"
        with pytest.raises(aiohttp.ClientError):
            await answer.read()

    (line,) = served.lines
    assert line["message"].endswith("ZeroDivisionError: half way")
    async with served.client.get("/fine") as answer:
        assert await answer.text() == "fine"


async def test_a_path_cannot_forge_a_line(verbose: Served) -> None:
    async with verbose.client.get("/%0a%7b%7d%1b[2J"):
        pass

    (line,) = verbose.lines
    assert line["message"] == "GET /\\x0a{}\\x1b[2J 404 in 1000 ms"
