"""The API is what its description says: whatever is asked, right or wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from tests.support.sidecars import ThreadedSidecar, outcome

from longshore.config_options import OPTIONS as ALL_OPTIONS
from longshore.service.asked import MAX_BODY_BYTES, parse_task
from longshore.service.jobs import MAX_QUEUED
from longshore.service.openapi import describe
from longshore.service.task import GIVEN, OPTIONS, Line, Outcome, Progress, Task, Tell


def no_server_error(context: Any, response: Any, case: Any) -> None:
    """Fail on 5xx, but for the answer that builds may not go on."""
    if (case.path, response.status_code) != ("/readyz", 503):
        not_a_server_error(context, response, case)


CHECKS = [
    no_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]


def perform(task: Task, tell: Tell) -> Outcome:
    """Do what a job does, in no time; some services are known, others are not."""
    tell(Line(f"{task.command} begins"))
    tell(Progress("downloading", 1, None, 0.1))
    if task.command == "show" and task.names != ("web",):
        problem = {"error": "NotCached", "message": "no cached image", "exit_code": 3}
        return outcome("show", 3, error=problem)
    return outcome(task.command)


@pytest.fixture(scope="module")
def sidecar() -> Iterator[ThreadedSidecar]:
    with ThreadedSidecar(perform) as made:
        yield made


schema = schemathesis.openapi.from_dict(describe())
schema.config.generation.update(modes=list(GenerationMode))


@schema.parametrize()
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described(case: Any, sidecar: ThreadedSidecar) -> None:
    if case.path == "/readyz":
        sidecar.life.ready = not sidecar.life.ready
        sidecar.life.ending = not sidecar.life.ready  # then it holds nobody up

    case.call_and_validate(base_url=f"http://127.0.0.1:{sidecar.port}", checks=CHECKS)


def ask(
    sidecar: ThreadedSidecar,
    method: str,
    path: str,
    body: bytes | None = None,
    kind: str = "application/json",
) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", sidecar.port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_every_route_is_described_and_nothing_else(sidecar: ThreadedSidecar) -> None:
    app = sidecar._runner.app
    routes = {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {
        (path, method)
        for path, item in describe()["paths"].items()
        for method in item
        if method != "parameters"
    }

    assert routes == described
    assert ask(sidecar, "GET", "/openapi.json") == (200, json.loads(json.dumps(describe())))


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status", "said"),
    [
        ("GET", "/api/v1/nothing", None, "", 404, "Not Found"),
        ("PUT", "/api/v1/jobs", b"{}", "application/json", 405, "Method Not Allowed"),
        ("GET", "/api/v1/jobs/1/events", None, "", 404, "there is no such job"),
        ("POST", "/api/v1/jobs", b"command=flush", "text/plain", 415, "application/json"),
        ("POST", "/api/v1/jobs", b'{"', "application/json", 400, "the body is no JSON"),
        ("POST", "/api/v1/jobs", b"[" * 9000, "application/json", 400, "the body is no JSON"),
        ("POST", "/api/v1/jobs", b" " * (MAX_BODY_BYTES + 1), "application/json", 413, "bytes at"),
        ("GET", "/readyz?wait=61", None, "", 400, "no number of seconds"),
    ],
)
def test_what_is_refused_is_refused_in_json(
    sidecar: ThreadedSidecar,
    method: str,
    path: str,
    body: bytes | None,
    kind: str,
    status: int,
    said: str,
) -> None:
    found, document = ask(sidecar, method, path, body, kind)

    assert found == status
    assert said in document["error"]["message"]


def task(command: str = "export", **more: Any) -> bytes:
    return json.dumps({"command": command, **more}).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (task("prune"), "'prune' is no job; jobs are import, export, flush"),
        (task(hurry=True), "'hurry' means nothing in a task"),
        (task(options={"store": "s3://mine"}), "export takes no option 'store'"),
        (task(options={"signing-key": "/etc/shadow"}), "export takes no option 'signing-key'"),
        (task(options={"level": "9"}), "'level' is neither auto nor a whole number"),
        (task(options={"level": True}), "'level' is neither auto nor a whole number"),
        (task(options={"level": 20}), "'level' is not from 1 to 19"),
        (task(options={"strict": "yes"}), "'strict' is neither true nor false"),
        (task(options={"timeout": "8d"}), "at most 7d"),
        (task(options={"timeout": "1h\n"}), "not written as it has to be"),
        (task(services=["web\n"]), "`services` is no list of names"),
        (task(services=["\ud800"]), "`services` is no list of names"),
        (task(given={"memory": "1"}), "'memory' means nothing in `given`"),
        (task(given={"scope": 1}), "'scope' in `given` is neither"),
        (task("flush", options={"scope": ".."}), "'..'"),
    ],
)
def test_a_task_that_means_nothing_is_refused_with_the_reason(
    sidecar: ThreadedSidecar, body: bytes, said: str
) -> None:
    status, document = ask(sidecar, "POST", "/api/v1/jobs", body)

    assert status == 400
    assert said in document["error"]["message"]


def test_a_level_is_a_number_or_auto_and_described_so() -> None:
    for level in ("auto", 1, 19):
        assert parse_task(task(options={"level": level}), {}).flags == {"level": level}

    described = json.dumps(describe())
    assert json.dumps({"const": "auto"}) in described
    assert json.dumps({"type": "integer", "minimum": 1, "maximum": 19}) in described


def test_what_is_set_for_the_sidecar_cannot_be_set_by_whoever_asks() -> None:
    known = {option.name for option in ALL_OPTIONS}
    for command, options in OPTIONS.items():
        assert options <= known
        allowed = {"scope"} if command == "flush" else set()
        assert options & GIVEN == allowed
    assert known >= GIVEN
    read = parse_task(task(given={"store": "s3://mine"}), {"store": "file:///ours"})
    assert read.flags == {"store": "file:///ours"}  # what is given is compared, and no more


def test_too_many_jobs_are_refused() -> None:
    with ThreadedSidecar(perform) as sidecar:
        sidecar.forks._does = lambda _: None
        statuses = [ask(sidecar, "POST", "/api/v1/jobs", task())[0] for _ in range(MAX_QUEUED + 2)]
        assert statuses == [202] * (MAX_QUEUED + 1) + [429]


def test_a_listener_that_comes_back_hears_the_rest(sidecar: ThreadedSidecar) -> None:
    _, job = ask(sidecar, "POST", "/api/v1/jobs", task("import"))
    place = f"/api/v1/jobs/{job['id']}/events"
    whole = events(sidecar, place, "0")
    rest = events(sidecar, place, "1")

    assert [name for name in whole if name != "progress"] == ["line", "ended"]
    assert [name for name in rest if name != "progress"] == ["ended"]


def events(sidecar: ThreadedSidecar, place: str, after: str) -> list[str]:
    connection = HTTPConnection("127.0.0.1", sidecar.port, timeout=30)
    connection.request("GET", place, headers={"Last-Event-ID": after})
    text = connection.getresponse().read().decode()
    connection.close()
    return [line.removeprefix("event: ") for line in text.splitlines() if line[:6] == "event:"]
