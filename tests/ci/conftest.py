"""A build machine whose commands note how they are called, and longshore to play the calls back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import STEPS, Shell
from tests.support.fake_docker import FakeDocker
from tests.support.fake_engine import FakeEngine

CI = Path(__file__).parents[2] / "docs/ci"
COMPOSE = """
name: shop
services:
  web: {build: ., image: "shop/web:1", x-longshore: {cached: true}}
  db: {image: "postgres:16"}
"""
STUB = """#!{python} -SE
import json, os, sys
name = os.path.basename(sys.argv[0])
call = {{"name": name, "arguments": sys.argv[1:], "directory": os.getcwd(),
        "environment": dict(os.environ)}}
with open({log!r}, "a") as log:
    log.write(json.dumps(call) + "\\n")
told = json.load(open({told!r}))[name]
print(told["prints"], end="")
sys.exit(told["exit_code"])
"""


@dataclass
class Call:
    """How a command was called."""

    name: str
    arguments: list[str]
    directory: Path
    environment: dict[str, str]

    @property
    def line(self) -> str:
        return " ".join([self.name, *self.arguments])


@dataclass
class Machine:
    """A machine with a checkout, and stubs in its path for what recipes call."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.checkout.mkdir(parents=True)
        self.bin.mkdir()
        self.environment |= {"HOME": str(self.folder), "PATH": f"{self.bin}:/usr/bin:/bin"}
        for name in ("longshore", "docker"):
            self.install(name)

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def log(self) -> Path:
        return self.folder / "calls"

    def install(self, name: str, *, exit_code: int = 0, prints: str = "") -> Path:
        """Put a stub into the path; it ends and says what it is told."""
        told = self.folder / "told.json"
        self.told[name] = {"exit_code": exit_code, "prints": prints}
        told.write_text(json.dumps(self.told))
        stub = self.bin / name
        stub.write_text(STUB.format(python=sys.executable, log=str(self.log), told=str(told)))
        stub.chmod(0o755)
        return stub

    def run(
        self,
        command: Sequence[str],
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program with what the machine's environment is, and this besides."""
        return subprocess.run(
            command,
            cwd=directory or self.checkout,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def calls(self) -> list[Call]:
        if not self.log.exists():
            return []
        found = [Call(**json.loads(line)) for line in self.log.read_text().splitlines()]
        return [Call(c.name, c.arguments, Path(c.directory), c.environment) for c in found]

    @property
    def lines(self) -> list[str]:
        """What was called, without the questions whether the engine answers."""
        return [call.line for call in self.calls if call.line != "docker version"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@dataclass
class Playback:
    """The real command line: it is told what the stubs were told, on machine after machine."""

    shell: Shell
    docker: FakeDocker

    def __call__(self, calls: Sequence[Call]) -> str:
        """Start a machine with an empty engine, and run all on it; return what longshore said."""
        said = ""
        self.shell.engine = FakeEngine()
        for call in (call for call in calls if call.name == "longshore"):
            self.shell.environment = {
                **call.environment,
                "PATH": f"{self.docker.folder}:/usr/bin:/bin",
                "GIT_CEILING_DIRECTORIES": str(self.shell.directory.parent),
                "LONGSHORE_STORE": f"file://{self.shell.store}",
            }
            if call.arguments[0] == "export":
                self.shell.engine.build([*STEPS, ("COPY . .", {"a.js": b"1"})], "shop/web:1")
            assert self.shell(*call.arguments) == 0, self.shell.err
            said += self.shell.out + self.shell.err
        return said


@pytest.fixture
def playback(tmp_path: Path) -> Playback:
    project = tmp_path / "project"
    project.mkdir()
    docker = FakeDocker(tmp_path / "fake-docker")
    docker.install(sys.executable)
    shell = Shell(project, {})
    shell.write("compose.yaml", COMPOSE)
    return Playback(shell, docker)
