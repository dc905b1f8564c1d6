"""A sidecar as a process of its own: how it begins, what it answers, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from tests.cli.conftest import COMPOSE, STEPS, Shell
from tests.support.fake_engine import FakeEngine
from tests.support.sidecars import NOW, outcome

import longshore
from longshore.cli_sidecar import Lost, Sidecar
from longshore.service.jobs import Job
from longshore.service.sidecar import exit_code_of
from longshore.service.task import Task

SOURCE = str(Path(longshore.__file__).parents[1])


@dataclass
class Served:
    """A sidecar that was started, in a folder with a short name."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[str] = field(init=False)

    @property
    def socket(self) -> Path:
        return self.folder / "s.sock"

    @property
    def api(self) -> Sidecar:
        return Sidecar(self.socket)

    def start(self, *options: str) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "longshore", "serve", "--socket", "s.sock", *options],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self

    def until_ready(self) -> dict[str, Any]:
        until(self.socket.exists)
        status, document = self.api.ask("GET", "/readyz?wait=60", seconds=70)
        assert status == 200
        return document

    def end(self, *signals: int) -> tuple[int, str]:
        """Send signals, and return the exit code and the log."""
        for number in signals:
            self.process.send_signal(number)
        _, log = self.process.communicate(timeout=60)
        return self.process.returncode, log

    def submit(self, command: str) -> str:
        status, job = self.api.ask("POST", "/api/v1/jobs", {"command": command})
        assert status == 202, job
        return str(job["id"])

    def children(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"LONGSHORE_TEST_MARK={self.folder}".encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return [pid for pid in found if pid != self.process.pid]


def has_lock(served: Served, pid: int) -> bool:
    lock = f"{served.socket}.lock"
    return any(os.readlink(link) == lock for link in Path(f"/proc/{pid}/fd").iterdir())


def until(found: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="ls-") as name:
        folder = Path(name)
        (folder / "compose.yaml").write_text(COMPOSE)
        environment = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPATH": SOURCE,
            "HOME": name,
            "GIT_CEILING_DIRECTORIES": str(folder.parent),
            "DOCKER_HOST": f"unix://{folder}/engine.sock",
            "LONGSHORE_STORE": f"file://{folder}/store",
            "LONGSHORE_SCOPE": "main",
            "LONGSHORE_TEST_MARK": name,
        }
        made = Served(folder, environment)
        yield made
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate()
        until(lambda: not made.children())  # nothing is left of it


@pytest.fixture
def silent_engine(served: Served) -> Iterator[None]:
    """An engine that takes every connection, and never says anything."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
        engine.bind(str(served.folder / "engine.sock"))
        engine.listen(64)
        yield


def test_an_idle_sidecar_ends_at_once_and_leaves_nothing(served: Served) -> None:
    served.start()
    document = served.until_ready()
    assert document["reason"].startswith("the import failed (")
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o660

    began = time.monotonic()
    code, log = served.end(signal.SIGTERM)
    took = time.monotonic() - began
    assert code == 0
    assert took < 5, took  # measured by `scripts/bench sidecar`: 0.1 s; machines of CI are slow
    assert "SIGTERM came; taking no more work" in log
    assert "Traceback" not in log
    assert not list(served.folder.glob("s.sock*"))


@pytest.mark.usefixtures("silent_engine")
def test_an_idle_sidecar_does_not_wait_for_an_engine_that_is_silent(served: Served) -> None:
    served.start("--no-import").until_ready()

    began = time.monotonic()
    code, log = served.end(signal.SIGTERM)
    took = time.monotonic() - began
    assert code == 0, log
    assert took < 5, took  # it takes as long as without an engine


@pytest.mark.usefixtures("silent_engine")
def test_builds_go_on_after_a_while_though_the_import_hangs(served: Served) -> None:
    served.start("--ready-timeout", "0.2s", "--no-export")

    assert served.until_ready()["reason"] == "the import has taken 0.2s, and goes on"
    (job,) = served.api.ask("GET", "/api/v1/jobs")[1]["jobs"]
    assert (job["command"], job["state"]) == ("import", "running")
    assert served.end(signal.SIGTERM)[0] == 0  # the build that it was for has ended


@pytest.mark.usefixtures("silent_engine")
def test_a_second_signal_ends_it_whatever_runs(served: Served) -> None:
    served.start("--no-import", "--no-export").until_ready()
    job = served.submit("export")
    until(lambda: served.api.ask("GET", f"/api/v1/jobs/{job}")[1]["state"] == "running")

    served.process.send_signal(signal.SIGTERM)
    until(lambda: served.api.ask("GET", "/readyz")[1]["ending"])
    status, refused = served.api.ask("POST", "/api/v1/jobs", {"command": "export"})
    assert (status, refused["error"]["message"]) == (
        503,
        "the sidecar is ending, and takes no more work",
    )
    code, log = served.end(signal.SIGINT)
    assert code == 128 + signal.SIGINT
    assert "a second signal came" in log


@pytest.mark.usefixtures("silent_engine")
def test_exports_have_the_time_that_was_given_to_end_in(served: Served) -> None:
    served.start("--no-import", "--shutdown-timeout", "0.3s").until_ready()
    served.submit("export")

    began = time.monotonic()
    code, log = served.end(signal.SIGTERM)
    assert code == 6
    # Nor is a thread waited for that asks the engine what was built: it would take a minute.
    assert time.monotonic() - began < 20
    assert "error: not all was exported within 0.3s; if it needs longer, raise" in log


def test_an_export_that_failed_is_in_the_exit_code(served: Served) -> None:
    served.start("--no-import").until_ready()
    job = served.submit("export")
    until(lambda: served.api.ask("GET", f"/api/v1/jobs/{job}")[1]["state"] == "failed")

    assert served.end(signal.SIGTERM)[0] == 9


@pytest.mark.usefixtures("silent_engine")
def test_a_sidecar_that_is_killed_leaves_the_cache_as_it_was(served: Served) -> None:
    shell = Shell(served.folder, {**served.environment, "LONGSHORE_SIDECAR": "off"})
    shell.engine.build([*STEPS, ("COPY . .", {"app.js": b"one"})], "shop/web:1")
    assert shell("export", "web", "--strict") == 0
    before = {path: path.read_bytes() for path in shell.store.rglob("*") if path.is_file()}
    served.start("--no-import", "--no-export").until_ready()
    job = served.submit("export")
    until(lambda: served.api.ask("GET", f"/api/v1/jobs/{job}")[1]["state"] == "running")
    assert served.children()
    # The kernel must not take the place for theirs, however long they take to end.
    assert [pid for pid in [served.process.pid, *served.children()] if has_lock(served, pid)] == [
        served.process.pid
    ]

    served.end(signal.SIGKILL)
    until(lambda: not served.children())
    assert {p: p.read_bytes() for p in shell.store.rglob("*") if p.is_file()} == before
    shell.engine = FakeEngine()
    assert shell("import", "web", "--strict") == 0
    # The file of its socket is still there, and the next one takes its place.
    assert served.socket.exists()
    with pytest.raises(Lost):
        served.api.ask("GET", "/healthz")
    served.start("--no-import", "--no-export")
    until(lambda: served.api.owner() is not None)
    served.until_ready()
    assert served.end(signal.SIGTERM)[0] == 0


def test_where_another_sidecar_listens_a_second_one_does_not(served: Served) -> None:
    listen = ("--listen", "127.0.0.1:0")
    served.start("--no-import", *listen)
    assert served.until_ready()["reason"] == "nothing was to be imported"
    token = served.socket.with_name("s.sock.token").read_text()

    second = Served(served.folder, served.environment).start("--no-import", *listen)
    code, log = second.end()
    assert code == 2
    assert "error: another sidecar listens at " in log
    assert served.socket.with_name("s.sock.token").read_text() == token
    assert served.api.ask("GET", "/healthz")[0] == 200
    assert served.end(signal.SIGINT)[0] == 0


def test_what_is_no_socket_is_left_alone(served: Served) -> None:
    served.socket.write_text("mine")

    code, log = served.start().end()
    assert code == 2
    assert "is there, and is no socket" in log
    assert served.socket.read_text() == "mine"


def export(state: str, *names: str, code: int = 0, kind: str = "StoreError") -> Job:
    job = Job("1", Task("export", names), NOW)
    job.state = state  # type: ignore[assignment]
    error = {"error": kind, "message": "", "exit_code": code} if code else None
    job.outcome = outcome("export", code, error=error)
    return job


@pytest.mark.parametrize(
    ("jobs", "code"),
    [
        ([], 0),
        ([export("succeeded")], 0),
        ([export("failed", "web", code=6)], 6),
        ([export("failed", "web", code=6), export("succeeded", "web")], 0),
        ([export("failed", "web", code=6), export("succeeded", "api")], 6),
        ([export("failed", "web", code=6), export("succeeded")], 0),
        ([export("failed", code=9), export("failed", "web", code=6)], 9),
        ([export("failed", "web", code=6), export("cancelled", "web")], 6),
        ([export("failed", "web", code=2, kind="OtherSettings")], 0),
    ],
)
def test_of_each_service_the_last_export_counts(jobs: list[Job], code: int) -> None:
    assert exit_code_of(jobs) == code
