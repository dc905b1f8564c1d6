"""A world of its own for each test: a directory, a store in a folder, an engine in memory."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import pytest
from tests.support.fake_docker import FakeDocker
from tests.support.fake_engine import FakeEngine
from tests.support.seaweedfs import ADMIN, SeaweedFS

from longshore.cli import run
from longshore.config import Settings
from longshore.core.session_credentials import SessionCredentials
from longshore.errors import LongshoreError
from longshore.ops.credentials import AssumeRole
from longshore.ops.report import Report
from longshore.store.contract import Store
from longshore.store.metrics import StoreMetrics
from longshore.surroundings import World
from longshore.wiring import open_store

Patch = pytest.MonkeyPatch
COMPOSE = """
name: shop
services:
  web: {image: "shop/web:1", x-longshore: {cached: true}}
  api: {image: "shop/api:1", x-longshore: {cached: true}}
  db: {image: "postgres:16"}
"""
STEPS = [
    ("FROM base", {"bin/sh": b"#!" * 3000}),
    ("ENV A=1", None),
    ("RUN npm ci", {"node_modules/a.js": b"module" * 9000}),
]


class Bytes(io.BytesIO):
    """Bytes that can refuse to be written."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        if self.error is not None:
            raise self.error
        return super().write(data)


class Stream(io.TextIOWrapper):
    """A standard stream that remembers, and that may say it is a terminal."""

    def __init__(self) -> None:
        self.bytes = Bytes()
        self.terminal = False
        super().__init__(self.bytes, encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return self.terminal

    @property
    def text(self) -> str:
        return self.bytes.getvalue().decode()


class Typed(io.StringIO):
    """A terminal at which somebody has typed something."""

    def isatty(self) -> bool:
        return True


@dataclass
class FakeSts:
    """An STS that hands out what it is told to, and remembers what it was asked for."""

    credentials: SessionCredentials = field(
        default_factory=lambda: SessionCredentials(
            access_key_id="ASIAIOSFODNN7EXAMPLE",
            secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            session_token="IQoJb3JpZ2luX2VjEXAMPLE/a+b==",
            expires_at=datetime(2026, 11, 26, 7, 30, tzinfo=UTC),
        )
    )
    error: LongshoreError | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    opened: list[tuple[str | None, str | None]] = field(default_factory=list)

    async def __call__(
        self, *, role_arn: str, session_name: str, policy: str, duration: timedelta
    ) -> SessionCredentials:
        self.asked.append(
            {"role": role_arn, "name": session_name, "policy": policy, "duration": duration}
        )
        if self.error is not None:
            raise self.error
        return self.credentials


@dataclass
class Shell:
    """Runs longshore as a process would, within this one."""

    directory: Path
    environment: dict[str, str]
    engine: FakeEngine = field(default_factory=FakeEngine)
    sts: FakeSts = field(default_factory=FakeSts)
    wrap: Callable[[Store], Store] = lambda store: store
    terminal: bool = False
    answer: str | None = None
    """What is typed; `None` if standard input is not a terminal."""
    write_error: OSError | None = None
    out: str = ""
    err: str = ""
    raw: bytes = b""

    def __call__(self, *arguments: str) -> int:
        stdout, stderr = Stream(), Stream()
        stdout.terminal = stderr.terminal = self.terminal
        stdout.bytes.error = self.write_error
        world = self.world(stdout, stderr)
        if self.answer is not None:
            world = world._replace(stdin=Typed(self.answer))
        code = run(arguments, world)
        stdout.bytes.error = None
        self.raw, self.err = stdout.bytes.getvalue(), stderr.text
        self.out = self.raw.decode(errors="replace")
        return code

    def world(self, stdout: TextIO, stderr: TextIO) -> World:
        """What a run may touch."""
        return World(
            environment=self.environment,
            directory=self.directory,
            stdout=stdout,
            stderr=stderr,
            width=80,
            open_store=self._open_store,
            open_engine=lambda: self.engine,
            open_sts=self._open_sts,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run with `--json`; exactly one document is on standard output."""
        self(*arguments, "--json")
        document: dict[str, Any] = json.loads(self.out)
        return document

    def _open_store(self, settings: Settings, metrics: StoreMetrics, report: Report) -> Store:
        return self.wrap(open_store(settings, metrics, report))

    def _open_sts(self, settings: Settings, region: str | None) -> AssumeRole:
        self.sts.opened.append((settings.sts_endpoint_url, region))
        return self.sts

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    @property
    def store(self) -> Path:
        return self.directory / "store"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A project with two cached services, on branch `main`, and an engine without images."""
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    return Shell(
        tmp_path,
        {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "GIT_CEILING_DIRECTORIES": str(tmp_path.parent),
            "LONGSHORE_STORE": f"file://{tmp_path}/store",
            "LONGSHORE_SCOPE": "main",
        },
    )


@pytest.fixture
def built(shell: Shell) -> Shell:
    """The same, with both services built."""
    shell.engine.build([*STEPS, ("COPY . .", {"app.js": b"one"})], "shop/web:1")
    shell.engine.build([*STEPS, ("COPY . .", {"app.js": b"two"})], "shop/api:1")
    return shell


@pytest.fixture
def exported(built: Shell) -> Shell:
    """The same, exported; the engine is a new machine's, without images."""
    assert built("export") == 0
    built.engine = FakeEngine()
    return built


@pytest.fixture
def on_s3(built: Shell, seaweedfs: SeaweedFS, s3_bucket: str, monkeypatch: Patch) -> Shell:
    """The same, with a store on a real S3 server, which the process's variables give access to."""
    # aiobotocore reads these where the process has them, whatever the world of a run says.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ADMIN.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    built.environment["LONGSHORE_STORE"] = f"s3://{s3_bucket}/cache"
    built.environment["LONGSHORE_ENDPOINT_URL"] = seaweedfs.endpoint_url
    return built


@pytest.fixture
def docker(shell: Shell, tmp_path: Path) -> FakeDocker:
    """A `docker` command in the shell's path that builds nothing."""
    fake = FakeDocker(tmp_path / "fake-docker")
    fake.install(sys.executable)
    shell.environment["PATH"] = f"{fake.folder}:{shell.environment['PATH']}"
    return fake
