"""The log: a line for each thing that happens, fit for people or for programs, without secrets."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import re
import sys
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.cli.conftest import COMPOSE, STEPS, Shell, Stream
from tests.support.done_jobs import do, end, waiting, world_of
from tests.support.fake_engine import FakeEngine

from longshore.service.job_log import JobLog
from longshore.service.jobs import State
from longshore.service.log import LONGEST, REQUEST, Form, Log
from longshore.service.process import Forks
from longshore.service.python_logging import libraries_heard, to_log
from longshore.service.task import Line, Outcome, Progress, Task, Tell

NOW = datetime(2026, 11, 26, 12, 34, 56, 7_800, tzinfo=UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no\n'


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, {})


def make(form: Form = "json", **more: Any) -> tuple[Log, Stream]:
    stream = Stream()
    return Log(stream, form=form, now=lambda: NOW, **more), stream


def objects(stream: Stream) -> list[dict[str, Any]]:
    assert stream.text.endswith("\n")
    lines = stream.text.removesuffix("\n").split("\n")
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert all(isinstance(one, dict) for one in found)
    return found


# Lines


def test_json_has_the_time_the_level_the_message_and_the_fields() -> None:
    log, stream = make()

    log.caution("it is so", job="0192", command="import", seconds=1.23456, entry=None)

    assert objects(stream) == [
        {
            "time": "2026-11-26T12:34:56.007Z",
            "level": "warning",
            "message": "it is so",
            "job": "0192",
            "command": "import",
            "seconds": 1.235,
        }
    ]
    assert list(objects(stream)[0])[:3] == ["time", "level", "message"]


def test_text_has_the_time_what_it_is_about_and_the_message() -> None:
    log, stream = make("text")
    log.line("downloading: 12 MB in 1.2 s", job="0192f0a1-1", command="import", seconds=1.2)
    log.fail("no", request="r1")
    log.line("ready")

    assert stream.text.splitlines() == [
        "12:34:56 import 0192f0a1-1: downloading: 12 MB in 1.2 s",
        "12:34:56 request r1: error: no",
        "12:34:56 ready",
    ]


def test_a_terminal_gets_colours_and_the_ends_of_ids(shell: Shell) -> None:
    shell.environment["TERM"] = "xterm"
    world = world_of(shell)
    assert isinstance(world.stderr, Stream)
    world.stderr.terminal = True

    Log.of(world, form="text", now=lambda: NOW, verbose=False).fail(
        "no", job="0192f0a1-0000-7000-8000-00000000abcd", command="export"
    )

    assert "\x1b[31merror:\x1b[0m no" in world.stderr.text
    assert "export 0000abcd:" in world.stderr.text


@pytest.mark.parametrize(
    ("terminal", "variable"), [(False, {}), (True, {"NO_COLOR": "1"}), (True, {"TERM": "dumb"})]
)
def test_nobody_else_gets_colours(shell: Shell, terminal: bool, variable: dict[str, str]) -> None:
    shell.environment |= variable
    world = world_of(shell)
    assert isinstance(world.stderr, Stream)
    world.stderr.terminal = terminal

    Log.of(world, form="text", now=lambda: NOW, verbose=False).fail("no")

    assert world.stderr.text == "12:34:56 error: no\n"


def test_secrets_of_the_environment_get_into_no_line(shell: Shell) -> None:
    shell.environment |= {"AWS_SECRET_ACCESS_KEY": SECRET}
    forms: tuple[Form, ...] = ("text", "json")
    for form in forms:
        world = world_of(shell)
        assert isinstance(world.stderr, Stream)
        log = Log.of(world, form=form, now=lambda: NOW, verbose=True)

        log.fail(f"{'x' * 5990}{SECRET}", trace=f"File\n  {SECRET}\n", reason=SECRET)

        assert SECRET not in world.stderr.text
        assert SECRET[:12] not in world.stderr.text
        assert "…" in world.stderr.text or "\\u2026" in world.stderr.text


HOSTILE = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["\n{}", "\x1b[2J", "\ud800", "\u2028", "\x85", "a\r\nb", '"}', "\x00", "\U0001f600" * 9000]
)
VALUES = HOSTILE | st.integers() | st.floats() | st.booleans() | st.none()


@settings(max_examples=200, deadline=None)
@example(message="", fields={"seconds": float("nan"), "bytes": float("-inf")}, trace="")
@given(
    message=HOSTILE,
    fields=st.dictionaries(HOSTILE, VALUES, max_size=6),
    trace=HOSTILE,
)
def test_each_line_of_json_is_one_object_and_short_whatever_is_said(
    message: str, fields: dict[str, Any], trace: str
) -> None:
    log, stream = make()
    log.say("error", message, fields, trace)
    log.line("next")

    first, last = objects(stream)
    assert (first["level"], first["time"], last["message"]) == (
        "error",
        "2026-11-26T12:34:56.007Z",
        "next",
    )
    assert all(len(line) < LONGEST for line in stream.text.split("\n"))
    assert stream.text.isascii()
    assert all(c.isprintable() for c in json.dumps(first["message"], ensure_ascii=False))


@settings(max_examples=100, deadline=None)
@given(message=HOSTILE, job=HOSTILE, trace=HOSTILE)
def test_text_cannot_be_made_to_steer_a_terminal_or_to_look_like_another_line(
    message: str, job: str, trace: str
) -> None:
    log, stream = make("text", verbose=True)
    log.say("error", message, {"job": job, "command": "import"}, trace)

    lines = stream.text.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("12:34:56 import ") for line in lines)
    assert all(len(line.encode()) < LONGEST for line in lines)
    assert all("| " in line for line in lines[1:])


def test_a_stream_that_knows_few_characters_gets_the_others_escaped() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii", write_through=True)

    Log(stream, form="text", now=lambda: NOW).line("wäb")

    assert written.getvalue() == b"12:34:56 w\\xe4b\n"


@pytest.mark.parametrize("error", [OSError(28, "no space left"), BrokenPipeError()])
def test_a_line_that_cannot_be_written_ends_nothing(error: OSError) -> None:
    log, stream = make()
    stream.bytes.error = error
    log.line("lost")
    stream.bytes.error = None
    log.line("found")

    assert [line["message"] for line in objects(stream)][-1] == "found"
    stream.close()
    log.line("lost as well")


def test_a_long_traceback_keeps_its_end() -> None:
    log, stream = make()

    log.fail("no", trace="\n".join(f"line {n}" for n in range(5000)) + "\nValueError: it")

    (line,) = objects(stream)
    assert line["traceback"].endswith("line 4999\nValueError: it")
    assert len(line["traceback"]) > 5000


def test_text_has_tracebacks_only_if_it_is_to_say_more() -> None:
    log, stream = make("text")
    log.fail("no", trace=TRACE)
    assert stream.text == "12:34:56 error: no\n"

    log, stream = make("text", verbose=True)
    log.fail("no", trace=TRACE)
    assert stream.text.splitlines()[-1] == "12:34:56 | ValueError: no"
    assert len(stream.text.splitlines()) == 4


# Jobs


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """The log, as text and as JSON, of an import without hits, an export, and one with hits."""
    folder = tmp_path_factory.mktemp("log")
    shell = Shell(folder, {"LONGSHORE_STORE": f"file://{folder}/store", "LONGSHORE_SCOPE": "main"})
    shell.write("compose.yaml", COMPOSE)
    for name in ("web", "api"):
        shell.engine.build([*STEPS, ("COPY . .", {"app.js": name.encode()})], f"shop/{name}:1")
    text, json_ = make("text"), make()
    listeners = [JobLog(log).heard for log in (text[0], json_[0])]
    do(shell, Task("import", ("web", "none")), *listeners, seconds=1.25)
    do(shell, Task("export", background=True), *listeners)
    shell.engine = FakeEngine()
    do(shell, Task("import"), *listeners)
    do(shell, Task("flush", ("web",), {"yes": True}), *listeners)
    return text[1].text, objects(json_[1])


Said = tuple[str, list[dict[str, Any]]]


def test_a_job_begins_with_what_is_asked_and_ends_with_figures(said: Said) -> None:
    text, _ = said

    heads = [line for line in text.splitlines() if ": started" in line or ": succeeded" in line]
    told = [re.sub(r"^12:34:56 (\w+) [0-9a-f-]{36}: ", r"\1: ", line) for line in heads]
    assert [re.sub(r"[0-9.]+ k?B", "… B", line) for line in told] == [
        "import: started: web, none",
        "import: succeeded in 1.2 s: 0 hits, 1 miss; … B downloaded",
        "export: started: all services, in the background",
        "export: succeeded in 2.0 s: 2 exported, 0 of them unchanged; … B of … B uploaded",
        "import: started: all services",
        "import: succeeded in 2.0 s: 2 hits; … B downloaded",
        "flush: started: web",
        "flush: succeeded in 2.0 s: 1 entry hidden",
    ]


def test_each_line_of_a_job_has_its_id_and_command(said: Said) -> None:
    text, lines = said

    assert len(text.splitlines()) == len(lines)
    assert {line["command"] for line in lines} == {"import", "export", "flush"}
    assert len({line["job"] for line in lines}) == 4
    warned = [line for line in lines if line["level"] == "warning"]
    assert len(warned) == 1
    assert "there is no service 'none'" in warned[0]["message"]
    assert any("downloading: " in line["message"] for line in lines)


def test_programs_get_the_figures_as_numbers(said: Said) -> None:
    _, lines = said
    ends = [line for line in lines if "state" in line]

    assert [line["state"] for line in ends] == ["succeeded"] * 4
    export = ends[1]
    assert export["seconds"] == 2.0
    assert export["exit_code"] == 0
    assert 0 < export["uploaded_bytes"] < export["image_bytes"]
    assert export["requests"] > 0
    assert export["memory_bytes"] > 10 << 20


def test_progress_is_not_written_down() -> None:
    log, stream = make()
    JobLog(log).heard(waiting(Task("import")), Progress("saving", 1, 2, 0.1, ended=True))

    assert stream.text == ""


def test_what_failed_is_told_once_and_as_an_error(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"LONGSHORE_STORE": f"file://{tmp_path}/store"})
    log, stream = make("text")

    do(shell, Task("import"), JobLog(log).heard)

    assert stream.text.count("there is no services file here") == 1
    assert re.search(r": error: failed in 2.0 s, exit code 2$", stream.text.rstrip())


def test_jobs_that_did_not_run_or_crashed_say_why() -> None:
    log, stream = make("text")
    reasons: dict[State, str] = {"superseded": "job 7 takes its place", "failed": "it crashed"}
    for state, reason in reasons.items():
        job = waiting(Task("export"))
        job.reason = reason
        end(job, state, JobLog(log).heard)

    assert re.findall(r"[\d-]: (.*)", stream.text) == [
        "superseded: job 7 takes its place",
        "error: failed: it crashed",
    ]


def test_lines_of_a_job_name_the_request_that_asked_for_it_and_no_other() -> None:
    log, stream = make()
    heard = JobLog(log).heard
    job, other = waiting(Task("import")), waiting(Task("export"))
    heard(other, None)
    token = REQUEST.set("r1")
    heard(job, None)
    REQUEST.reset(token)
    token = REQUEST.set("r2")  # a job of nobody's is started in the midst of this one
    for one in (job, other):
        one.state = "running"
        heard(one, None)
        heard(one, Line("so"))
    REQUEST.reset(token)

    assert [line.get("request") for line in objects(stream)] == ["r1", "r1", None, None]


# What libraries say


def test_what_libraries_say_is_in_the_log_and_nowhere_else(
    capfd: pytest.CaptureFixture[str],
) -> None:
    log, stream = make()
    before = (logging.getLogger().handlers, sys.unraisablehook, threading.excepthook)
    with libraries_heard(to_log(log)):
        logging.getLogger("aiohttp.server").error("bad %s", "request")
        logging.getLogger("asyncio").info("not that")
        logging.getLogger("x").warning("does not fit: %d", "y")
        try:
            raise ValueError("it")
        except ValueError:
            logging.getLogger("aiohttp.server").exception("Error handling request")
    assert (logging.getLogger().handlers, sys.unraisablehook, threading.excepthook) == before

    lines = objects(stream)
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("error", "aiohttp.server", "aiohttp.server: bad request"),
        ("warning", "x", "x: does not fit: %d"),
        ("error", "aiohttp.server", "aiohttp.server: Error handling request: ValueError: it"),
    ]
    assert "test_log.py" in lines[2]["traceback"]
    assert capfd.readouterr() == ("", "")


def test_what_threads_tasks_warnings_and_finalizers_let_escape_is_in_the_log(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("finalizer")

    async def forgotten() -> None:
        async def fails() -> None:
            raise ValueError("task")

        task = asyncio.create_task(fails())
        await asyncio.wait([task])
        del task
        gc.collect()

    def fails() -> None:
        raise ValueError("thread")

    log, stream = make()
    with warnings.catch_warnings(), libraries_heard(to_log(log)):
        warnings.simplefilter("always")
        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()
        asyncio.run(forgotten())
        Broken()
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    told = [line["message"] for line in objects(stream)]
    for what in ("ValueError: thread", "ValueError: task", "ValueError: finalizer", "old"):
        assert sum(what in message for message in told) == 1, (what, told)
    assert capfd.readouterr() == ("", "")


def breaks(task: Task, tell: Tell) -> Outcome:
    logging.getLogger("botocore").warning("slow")
    raise ZeroDivisionError(SECRET)


async def test_a_job_that_crashes_tells_the_log_why_and_writes_past_it_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    process = await asyncio.to_thread(Forks(breaks, preload=()).start, Task("import"))
    events = [event async for event in process.events()]

    assert await process.close() == 1
    assert process.outcome is None
    slow, crashed = events
    assert slow == Line("botocore: slow", "warning")
    assert isinstance(crashed, Line)
    assert crashed.word == "error"
    assert crashed.text == "this is a bug in longshore: ZeroDivisionError: …"
    assert "in breaks" in crashed.trace
    assert capfd.readouterr() == ("", "")
