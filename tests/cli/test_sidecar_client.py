"""Commands that hand their work to a sidecar: the same result, and one line where it is not so."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import COMPOSE, STEPS, Patch, Shell
from tests.support.fake_engine import FakeEngine
from tests.support.sidecars import ThreadedSidecar, outcome

from longshore import cli_client, cli_job, cli_task
from longshore.cli_running import Interrupted
from longshore.cli_sidecar import Sidecar
from longshore.cli_task import _Text, perform_in
from longshore.errors import StoreUnavailable
from longshore.service.task import Line, Outcome, Progress, Task, Tell

Serve = Callable[..., ThreadedSidecar]
TIMES = re.compile(r"\d+(\.\d+)? (s|kB/s|MB/s|B/s)\b")
IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture
def sidecars(monkeypatch: Patch) -> Iterator[list[ThreadedSidecar]]:
    """The sidecars that a test has started; jobs run in threads, where there are no signals."""
    import asyncio

    def run(work: Any, *, timeout: Any, command: str) -> Any:
        from longshore.cli_running import bounded

        return asyncio.run(bounded(work, timeout, command) if timeout else work)

    monkeypatch.setattr(cli_job, "run", run)
    started: list[ThreadedSidecar] = []
    yield started
    for sidecar in started:
        sidecar.__exit__(None, None, None)


@pytest.fixture
def serve(sidecars: list[ThreadedSidecar]) -> Serve:
    """Start a sidecar in the surroundings of a shell, and let the shell know of it."""

    def start(shell: Shell, perform: Any = None) -> ThreadedSidecar:
        own = replace(shell, environment=dict(shell.environment))

        def work(task: Task, tell: Tell) -> Outcome:
            own.engine = shell.engine
            return perform_in(own.world(_Text(False), _Text(False)), task, tell)

        sidecar = ThreadedSidecar(perform or work)
        sidecar.__enter__()
        sidecars.append(sidecar)
        shell.environment["LONGSHORE_SOCKET"] = str(sidecar.socket)
        return sidecar

    return start


def alike(text: str) -> str:
    """Take out of a text what no two runs have in common."""
    timeless = TIMES.sub("TIME", text.replace("just stored", "0.1 s old"))
    # How fast it was is said only of what took a tenth of a second.
    return IDS.sub("ID", timeless.replace(" (TIME)", ""))


def same(document: Any) -> Any:
    if isinstance(document, dict):
        # Times make documents longer or shorter.
        kept = (k for k in document if not k.endswith(("seconds", "bytes_in", "bytes_out")))
        return {k: same(document[k]) for k in kept if k != "uploaded_bytes"}
    if isinstance(document, list):
        return [same(item) for item in document]
    return alike(document) if isinstance(document, str) else document


def both(shell: Shell, serve: Serve, *arguments: str) -> tuple[ThreadedSidecar, list[Any]]:
    """Run a command here, then by a sidecar, each time with an engine that has nothing."""
    found: list[Any] = []
    sidecar = serve(shell)
    images = shell.engine
    for how in ("--no-sidecar", "--sidecar"):
        shell.engine = images if arguments[0] == "export" else FakeEngine()
        code = shell(*arguments, how)
        found.append((code, alike(shell.out), alike(shell.err)))
    return sidecar, found


@pytest.mark.parametrize(
    "arguments",
    [
        ["import"],
        ["import", "--strict"],
        ["import", "web"],
        ["import", "nothing", "--strict"],
        ["import", "-q"],
        ["import", "--max-image-size", "1kB"],
        ["flush", "--dry-run"],
        ["flush", "--dry-run", "--json", "web"],
        ["flush", "--scope", "none", "--yes"],
    ],
    ids=" ".join,
)
def test_output_and_exit_code_are_those_without_a_sidecar(
    exported: Shell, serve: Serve, arguments: list[str]
) -> None:
    sidecar, (here, there) = both(exported, serve, *arguments)

    if "--json" in arguments:
        here, there = ((c, same(json.loads(out)), err) for c, out, err in (here, there))
    assert there == here
    assert len(sidecar.jobs.all) == 1


def test_an_export_is_the_same_too(built: Shell, serve: Serve) -> None:
    built("export", "--no-parents")  # both of the next ones find all there
    sidecar, (here, there) = both(built, serve, "export", "--level", "9", "--no-parents")

    assert there == here
    assert here[0] == 0
    (job,) = sidecar.jobs.all
    assert (job.task.flags["level"], job.task.flags["parents"]) == (9, False)


@pytest.mark.parametrize(
    ("arguments", "level"), [(["--level", "auto"], "auto"), (["--level", "1"], 1), ([], None)]
)
def test_a_level_is_handed_over_if_it_was_given(
    built: Shell, serve: Serve, arguments: list[str], level: object
) -> None:
    sidecar = serve(built)

    assert built("export", *arguments) == 0

    (job,) = sidecar.jobs.all
    assert job.task.flags.get("level") == level
    assert job.state == "succeeded"


def test_an_import_that_is_to_be_whole_is_so_in_the_sidecar(exported: Shell, serve: Serve) -> None:
    sidecar = serve(exported)

    assert exported("import", "--whole") == 0

    (job,) = sidecar.jobs.all
    assert job.task.flags["whole"] is True


@pytest.mark.parametrize("command", ["import", "export"])
def test_documents_are_the_same_but_for_times_and_ids(
    exported: Shell, built: Shell, serve: Serve, command: str
) -> None:
    if command == "export":
        built.engine.build([*STEPS, ("COPY . .", {"app.js": b"one"})], "shop/web:1")
    _, (here, there) = both(built, serve, command, "web", "--json")

    first, second = (same(json.loads(out)) for _, out, _ in (here, there))
    assert second == first
    assert first["ok"]


def test_ids_are_short_on_a_terminal(exported: Shell, serve: Serve) -> None:
    serve(exported)
    exported.terminal = True

    exported.engine.build([*STEPS, ("COPY . .", {"app.js": b"one"})], "shop/web:1")
    assert exported("export", "web") == 0
    assert not re.search(r"sha256:[0-9a-f]{64}", exported.out)


# When it is not the sidecar's


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scope", "pr:17"], "is for another scope (main, not pr:17)"),
        (["--project", "other"], "is for another project (shop, not other)"),
        (["--store", "file:///other"], "is for another store (file://"),
        (["--endpoint-url", "https://s3.example.com"], "is for another endpoint-url (none, not"),
        (["--fallback", "develop"], "is for another fallback (none, not develop)"),
        (["--image", "web=shop/web:2"], "is for another image of web"),
        (["--image", "new=shop/new:1"], "is for another image of new"),
        (["--sse", "AES256"], "is for another sse (none, not AES256)"),
        (["--kms-key", "alias/cache"], "is for another kms-key (none, not alias/cache)"),
    ],
)
def test_what_the_sidecar_was_not_told_is_done_here(
    shell: Shell, serve: Serve, arguments: list[str], said: str
) -> None:
    sidecar = serve(shell)

    assert shell("import", *arguments) in (0, 2)
    line = f"the sidecar at {sidecar.socket} {said}"
    (found,) = [x for x in shell.err.splitlines() if x.startswith("the sidecar at")]
    assert found.startswith(line)
    assert found.endswith(", so this runs here")
    assert "OtherSettings" not in shell.err
    (job,) = sidecar.jobs.all
    assert job.outcome is not None
    error = job.outcome.document["error"]
    assert (error["error"], error["exit_code"]) == ("OtherSettings", 2)


@pytest.mark.parametrize("how", ["variable", "file", "ci"])
def test_a_scope_counts_whoever_says_it(shell: Shell, serve: Serve, how: str) -> None:
    serve(shell)
    del shell.environment["LONGSHORE_SCOPE"]
    if how == "variable":
        shell.environment["LONGSHORE_SCOPE"] = "pr:17"
    elif how == "file":
        shell.write("longshore.toml", 'scope = "pr:17"')
    else:
        shell.environment |= {"GITHUB_ACTIONS": "true", "GITHUB_REF": "refs/heads/pr17"}

    assert shell("import") == 0
    assert "is for another scope (main, not pr" in shell.err


def test_another_services_file_is_another_project(
    shell: Shell, serve: Serve, tmp_path: Path
) -> None:
    serve(shell)
    other = tmp_path / "other"
    other.mkdir()
    (other / "compose.yaml").write_text(COMPOSE.replace("shop", "shop2"))
    shell.directory = other

    assert shell("import") == 0
    assert "is for another services file, so this runs here" in shell.err


def test_what_was_told_to_both_is_the_sidecars(exported: Shell, serve: Serve) -> None:
    exported.environment |= {
        "LONGSHORE_PROJECT": "shop",
        "LONGSHORE_FALLBACK": "develop main",
        "LONGSHORE_IMAGE": "web=shop/web:1",
    }
    sidecar = serve(exported)

    assert exported("import", "web", "--scope", "main", "--strict", "--memory", "512MiB") == 0
    assert len(sidecar.jobs.all) == 1
    assert "runs here" not in exported.err


def test_images_that_were_told_without_a_services_file_are_all_that_is_done(
    exported: Shell, serve: Serve
) -> None:
    sidecar = serve(exported)
    elsewhere = exported.directory / "elsewhere"
    elsewhere.mkdir()
    exported.directory = elsewhere

    assert exported("import", "--project", "shop", "--image", "web=shop/web:1", "--strict") == 0
    (job,) = sidecar.jobs.all
    assert job.task.names == ("web",)


def test_keys_stay_here_and_have_to_be_the_sidecars_own(built: Shell, serve: Serve) -> None:
    assert built("keygen", "--output", "key.pem") == 0
    sidecar = serve(built)
    built.environment["LONGSHORE_SIGNING_KEY"] = (built.directory / "key.pem").read_text()

    assert built("export", "web", "--strict") == 0
    assert "is for another signing-key (none), so this runs here" in built.err
    (job,) = sidecar.jobs.all
    assert job.task.given["signing-key"] is True
    del built.environment["LONGSHORE_SIGNING_KEY"]
    assert built("export", "web", "--signing-key", "key.pem") == 0
    assert "takes no --signing-key from others, so this runs here" in built.err
    assert len(sidecar.jobs.all) == 1


def test_a_flush_without_a_scope_is_none_for_a_sidecar_of_one(
    exported: Shell, serve: Serve
) -> None:
    serve(exported)
    del exported.environment["LONGSHORE_SCOPE"]

    assert exported("flush", "--dry-run") == 0
    assert "is for another scope (main, not none), so this runs here" in exported.err


def test_a_sidecar_that_is_ending_refuses_and_the_work_is_done_here(
    exported: Shell, serve: Serve
) -> None:
    sidecar = serve(exported)
    sidecar.jobs.closed = True

    assert exported("import", "--strict") == 0
    assert exported.err.startswith(
        f"the sidecar at {sidecar.socket} is ending, so this runs here\n"
    )


def test_what_a_sidecar_cannot_read_is_done_here(exported: Shell, serve: Serve) -> None:
    serve(exported)

    assert exported("import", "--strict", "--timeout", "0.00001s") in (0, 6)
    assert "did not take it (the option 'timeout' is not written as it has to be)" in exported.err


# Where it is


def test_a_socket_that_was_named_and_where_nobody_answers_is_a_warning(exported: Shell) -> None:
    exported.environment["LONGSHORE_SOCKET"] = "/nowhere/s.sock"

    assert exported("import", "--strict") == 0
    assert exported.err.startswith(
        "warning: LONGSHORE_SOCKET: no sidecar answers at /nowhere/s.sock, so this runs here\n"
    )
    assert exported("import", "--no-sidecar") == 0
    assert "sidecar" not in exported.err


def default_socket(monkeypatch: Patch, path: Path) -> None:
    monkeypatch.setattr("longshore.config.SOCKET", str(path))


def test_the_usual_socket_is_looked_for_without_a_word(
    exported: Shell, serve: Serve, monkeypatch: Patch
) -> None:
    sidecar = serve(exported)
    del exported.environment["LONGSHORE_SOCKET"]
    default_socket(monkeypatch, sidecar.socket)

    assert exported("import", "--strict") == 0
    assert len(sidecar.jobs.all) == 1
    sidecar.run(sidecar.close())
    for options, said in (([], False), (["--verbose"], True)):
        assert exported("import", *options) == 0
        assert ("no sidecar answers at" in exported.err) == said
    sidecar.socket.unlink()
    assert exported("import", "--verbose") == 0
    assert "sidecar" not in exported.err


def test_the_usual_socket_of_another_user_is_not_believed(
    exported: Shell, serve: Serve, monkeypatch: Patch
) -> None:
    sidecar = serve(exported)
    monkeypatch.setattr("longshore.cli_sidecar._owner", lambda _: 4711)
    assert exported("import", "--strict") == 0
    assert len(sidecar.jobs.all) == 1  # it was named

    del exported.environment["LONGSHORE_SOCKET"]
    default_socket(monkeypatch, sidecar.socket)
    assert exported("import", "--strict") == 0
    assert exported.err.startswith(
        f"warning: the sidecar at {sidecar.socket} is that of user 4711, so this runs here;"
    )
    assert len(sidecar.jobs.all) == 1


# What is said meanwhile


def test_lines_bars_and_warnings_are_those_of_the_job(shell: Shell, serve: Serve) -> None:
    heard = threading.Event()

    def perform(_: Task, tell: Tell) -> Outcome:
        tell(Line("found"))
        tell(Progress("downloading", 0, 100, 0.0))
        tell(Progress("downloading", 40, 100, 0.1))
        tell(Line("no so good", "warning"))
        tell(Progress("downloading", 100, 100, 0.2, ended=True))
        tell(Line("downloading: 100 B in 0.2 s"))
        heard.set()
        return outcome("import")

    serve(shell, perform)
    assert shell("import") == 0
    assert heard.is_set()
    assert shell.err == "found\nwarning: no so good\ndownloading: 100 B in 0.2 s\n"
    assert shell.out == "done\n"
    assert shell("import", "--quiet") == 0
    assert shell.err == "warning: no so good\n"
    shell.terminal = True
    assert shell("import") == 0
    assert "downloading: 100 B in 0.2 s" in shell.err


# What goes wrong


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 9)])
def test_a_sidecar_that_dies_meanwhile_is_a_warning_and_nothing_is_done_twice(
    exported: Shell,
    serve: Serve,
    sidecars: list[ThreadedSidecar],
    monkeypatch: Patch,
    options: list[str],
    code: int,
) -> None:
    heard, gone = threading.Event(), threading.Event()
    monkeypatch.setattr(cli_client._Client, "_hear", lambda *_: heard.set())

    def perform(_: Task, tell: Tell) -> Outcome:
        tell(Line("begun"))
        heard.wait(30)
        sidecars[0].run(sidecars[0].close())
        gone.set()
        return outcome("import")

    serve(exported, perform)
    assert exported("import", "--json", *options) == code
    word = "error" if code else "warning"
    assert f"{word}: the sidecar at {sidecars[0].socket} ended while it worked on" in exported.err
    document = json.loads(exported.out)
    assert (document["ok"], document["exit_code"]) == (False, code)
    assert document["error"]["error"] == "SidecarUnavailable"
    assert not exported.engine.loads
    assert gone.wait(30)


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (None, 1, "failed (its process crashed; see the log)"),
        (None, -9, "failed (its process was ended by signal 9)"),
        (outcome("import", 143), 0, "was cancelled (it was cancelled)"),
    ],
)
def test_a_job_that_comes_to_no_end_is_told(
    shell: Shell, serve: Serve, result: Outcome | None, code: int, said: str
) -> None:
    sidecar = serve(shell)
    sidecar.forks._does = lambda process: process.end(result, code)

    assert shell("import") == 0
    assert shell.err == (f"warning: the sidecar did not do it: its job 0001 {said}; run it again\n")
    assert shell("import", "--strict") == 9
    assert shell("flush", "--dry-run") == 9


def test_time_that_is_over_ends_the_job(shell: Shell, serve: Serve, monkeypatch: Patch) -> None:
    from datetime import timedelta

    monkeypatch.setattr(cli_client, "_OWN_WORDS", timedelta())
    sidecar = serve(shell)
    sidecar.forks._does = lambda process: None  # it waits in a queue, or hangs

    assert shell("import", "--timeout", "0.3s", "--strict") == 6
    assert shell.err == (
        "error: import did not end within 0.3s; if it needs longer, raise --timeout\n"
    )
    assert sidecar.forks.started[0].signals == ["stop"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_job_and_says_so(
    shell: Shell, serve: Serve, number: signal.Signals
) -> None:
    def perform(_: Task, tell: Tell) -> Outcome:
        tell(Line("begun"))
        os.kill(os.getpid(), number)
        threading.Event().wait(1)
        return outcome("import", 143)

    sidecar = serve(shell, perform)
    assert shell("import", "--strict") == 128 + number
    assert shell.err.endswith(f"stopped: {number.name} came; what was cached before is as it was\n")
    sidecar.run(sidecar.jobs.finish())  # it may be told before its process is known
    assert sidecar.forks.started[0].signals == ["stop"]


def test_a_signal_before_the_answer_cancels_the_job_as_well(
    shell: Shell, serve: Serve, monkeypatch: Patch
) -> None:
    sidecar = serve(shell)
    sidecar.forks._does = lambda process: None
    ask = Sidecar.ask

    def interrupted(own: Any, *arguments: Any, **named: Any) -> Any:
        if arguments[0] == "POST":
            os.kill(os.getpid(), signal.SIGTERM)
        return ask(own, *arguments, **named)

    monkeypatch.setattr(Sidecar, "ask", interrupted)
    assert shell("import") == 143
    assert sidecar.jobs.all[0].stopping


def test_reader_of_the_result_may_leave(shell: Shell, serve: Serve) -> None:
    serve(shell, lambda task, tell: outcome(task.command))
    shell.write_error = BrokenPipeError()

    assert shell("import") == 141


def test_what_answers_but_is_no_sidecar_is_lost(shell: Shell, monkeypatch: Patch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        path = shell.directory / "s"
        monkeypatch.chdir(shell.directory)
        listening.bind("s")
        listening.listen(8)

        def answer() -> None:
            for _ in range(2):
                asked, _ = listening.accept()
                with asked, suppress(OSError):
                    asked.recv(1)
                    asked.sendall(b"hello\n")

        threading.Thread(target=answer, daemon=True).start()
        shell.environment["LONGSHORE_SOCKET"] = "s"
        shell.directory = Path(".")
        assert shell("import", "--strict", "--services", str(path.parent / "compose.yaml")) == 9
    assert "did not answer" in shell.err


# A flush


def test_a_flush_shows_its_plan_asks_and_is_done_by_the_sidecar(
    exported: Shell, serve: Serve
) -> None:
    sidecar = serve(exported)
    exported.answer = "y\n"

    assert exported("flush", "web") == 0
    assert exported.err.count("to hide: the next import of these finds nothing") == 1
    assert exported.err.endswith("Go on? [y/N] ")
    assert exported.out.startswith("no cached image for web in scope main (linux-amd64) any more")
    assert [job.task.flags["dry-run"] for job in sidecar.jobs.all] == [True, False]
    document = exported.json("flush", "api", "--yes")
    assert (document["agreed"], len(document["targets"])) == (True, 1)
    assert len(sidecar.jobs.all) == 3


def test_a_flush_that_nobody_agrees_to_does_nothing(exported: Shell, serve: Serve) -> None:
    sidecar = serve(exported)
    exported.answer = "n\n"

    document = exported.json("flush")
    assert (document["agreed"], document["dry_run"], document["exit_code"]) == (False, False, 1)
    assert len(sidecar.jobs.all) == 1
    assert exported("flush") == 1
    assert exported.out == "nothing was flushed\n"
    exported.answer = None
    assert exported("flush") == 2
    assert exported.err == "error: flush has nobody to ask; look with --dry-run, then say --yes\n"
    assert len(sidecar.jobs.all) == 2


def test_a_flush_that_deletes_is_done_here(exported: Shell, serve: Serve) -> None:
    sidecar = serve(exported)

    assert exported("flush", "--yes", "--now", "--force") == 0
    assert "takes no --force from others, so this runs here" in exported.err
    exported.environment |= {"LONGSHORE_NOW": "1", "LONGSHORE_FORCE": "1"}
    assert exported("flush", "--yes") == 0
    assert "deletes nothing, so this runs here" in exported.err
    assert not sidecar.jobs.all


def test_the_result_of_a_cancelled_job_has_what_it_warned_of(
    shell: Shell, monkeypatch: Patch
) -> None:
    def stopped(job: cli_job.Job, *_: object) -> None:
        job.report.warn(StoreUnavailable("the store is away"))
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(cli_task, "perform", stopped)
    told: list[object] = []
    found = perform_in(shell.world(_Text(False), _Text(False)), Task("export"), told.append)

    assert found.document == {
        "schema": 1,
        "command": "export",
        "ok": False,
        "exit_code": 143,
        "error": None,
        "warnings": [{"error": "StoreUnavailable", "message": "the store is away", "exit_code": 6}],
    }
    assert told[-1] == Line("it was cancelled; what was cached before is as it was", "stopped")


@pytest.mark.parametrize(
    ("command", "memory", "left"),
    [
        ("import", "512MiB", 448),
        ("import", "256MiB", 208),  # the least that there is
        ("export", "256MiB", 256),
        ("config", "256MiB", 256),
    ],
)
def test_an_import_leaves_memory_to_the_sidecar_that_it_runs_in(
    shell: Shell, command: Any, memory: str, left: int, monkeypatch: Patch
) -> None:
    jobs: list[cli_job.Job] = []

    def stopped(job: cli_job.Job, *_: object) -> None:
        jobs.append(job)
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(cli_task, "perform", stopped)
    shell.environment["LONGSHORE_MEMORY"] = memory
    perform_in(shell.world(_Text(False), _Text(False)), Task(command), lambda _: None)

    assert [job.settings.memory_bytes >> 20 for job in jobs] == [left]
