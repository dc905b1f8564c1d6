"""`longshore wait`: what it waits for, and how it ends if that does not come."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cli.conftest import Patch, Shell
from tests.cli.test_docs import examples
from tests.support.sidecars import ThreadedSidecar, outcome

from longshore import cli_wait
from longshore.cli_sidecar import Sidecar


@pytest.fixture
def sidecar(shell: Shell) -> Iterator[ThreadedSidecar]:
    """A sidecar that is not there yet."""
    made = ThreadedSidecar(lambda task, _: outcome(task.command))
    shell.environment["LONGSHORE_SOCKET"] = str(made.socket)
    yield made
    made.clean_up()


@pytest.fixture
def asked(monkeypatch: Patch) -> threading.Event:
    """Set when `wait` has asked, and got an answer or none."""
    event = threading.Event()
    ask = Sidecar.ask

    def telling(*arguments: object, **named: object) -> object:
        try:
            return ask(*arguments, **named)  # type: ignore[arg-type]
        finally:
            event.set()

    monkeypatch.setattr(Sidecar, "ask", telling)
    return event


def test_it_waits_for_the_sidecar_and_then_until_builds_may_go_on(
    shell: Shell, sidecar: ThreadedSidecar, asked: threading.Event
) -> None:
    sidecar.life.ready = False

    def come() -> None:
        asked.wait(30)  # in vain: there is no socket
        sidecar.__enter__()

        async def ready() -> None:
            sidecar.life.ready = True
            sidecar.life.changed.set()

        sidecar.run(ready())

    threading.Thread(target=come).start()
    assert shell("wait") == 0
    assert shell.out == "2 of 2 services were imported\n"
    assert shell.err == ""
    document = shell.json("wait")
    assert document == examples()["wait"]
    sidecar.__exit__(None, None, None)


def test_a_request_is_held_until_there_is_something_to_say(
    shell: Shell, sidecar: ThreadedSidecar, monkeypatch: Patch
) -> None:
    asked: list[object] = []
    ask = Sidecar.ask

    def counting(*arguments: object, **named: object) -> object:
        asked.append(arguments)
        return ask(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Sidecar, "ask", counting)
    with sidecar:
        sidecar.life.ready = False
        sidecar.life.reason = "the import is running"
        assert shell("wait", "--timeout", "1s") == 6
        assert len(asked) <= 3
    assert shell.err == (
        "error: the sidecar was not ready within 1s; if the import needs longer, raise --timeout\n"
    )


def test_a_sidecar_that_is_ending_will_not_get_ready(
    shell: Shell, sidecar: ThreadedSidecar
) -> None:
    with sidecar:
        sidecar.life.ready, sidecar.life.ending = False, True
        assert shell("wait") == 9
    assert shell.err == f"error: the sidecar at {sidecar.socket} is ending\n"


def test_a_sidecar_that_never_comes_is_not_waited_for_forever(
    shell: Shell, sidecar: ThreadedSidecar, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(cli_wait, "SOCKET_TIMEOUT", timedelta(seconds=0.05))

    document = shell.json("wait")
    assert shell.err.startswith(f"error: no sidecar answers at {sidecar.socket} (")
    assert shell.err.endswith("); start one with `longshore serve`\n")
    assert (document["exit_code"], document["error"]["error"]) == (9, "SidecarUnavailable")
    assert (document["ready"], document["reason"]) == (None, "")


def test_whether_it_lives_is_told_at_once(shell: Shell, sidecar: ThreadedSidecar) -> None:
    assert shell("wait", "--live") == 9
    with sidecar:
        sidecar.life.ready = False
        assert shell("wait", "--live") == 0
    assert (shell.out, shell.err) == ("it lives\n", "")


def test_a_signal_ends_it(tmp_path: Path) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-m", "longshore", "wait", "--socket", "none"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    with waiting:
        status = Path(f"/proc/{waiting.pid}/status")
        while not _catches(status.read_text(), signal.SIGTERM):
            assert waiting.poll() is None
        waiting.terminate()
        assert waiting.wait(30) == 143
        assert waiting.stderr is not None
        assert waiting.stderr.read().startswith("stopped: SIGTERM came")


def _catches(status: str, number: int) -> bool:
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)
