"""A throw-away build machine with a meter: a fresh engine, a checkout, what commands take there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from scripts.bench_projects import BenchService, Project, changing_name
from tests.support.builds import Builder, read_steps
from tests.support.engines import ThrowawayEngine

BASE = "base:1"
LONGEST_COMMAND_SECONDS = 1800.0
_TICK = os.sysconf("SC_CLK_TCK")

SYSTEM_STEP = "RUN mkdir -p /opt/{name} && wget -qO- http://mirror/{name} | tar -x -C /opt/{name}\n"
MODULES_STEPS = """\
COPY dependency /app/dependency
RUN wget -qO- http://mirror/{name} | tar -xm -C /app \\
    && wget -qO- http://mirror/$(cat /app/dependency) | tar -xm -C /app
"""
CODE_STEPS = """\
COPY code /app/code
ENV STAGE=production
CMD ["/bin/sh"]
"""
CODE_FILES = 60
# Half a minute of work for each core, the same each time.
COMPILE_STEPS = """\
FROM {base}
RUN for core in $(seq {cores}); do head -c {size} /dev/zero | sha256sum & done; wait
"""
COMPILE_BYTES = 5 << 30


class CellFailed(Exception):
    """A command of a pipeline did not end well; the message ends with what it said last."""


@dataclass(frozen=True, slots=True)
class Version:
    """What a checkout holds: which code, and which version of the changing dependency."""

    code: int = 1
    dependency: int = 0


@dataclass(slots=True)
class Used:
    """What commands took: processor seconds, and the most memory that was held at once."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0

    def add(self, cpu_seconds: float, peak_bytes: int) -> None:
        """Count commands that ran at the same time."""
        self.cpu_seconds += cpu_seconds
        self.peak_bytes = max(self.peak_bytes, peak_bytes)


@dataclass(slots=True)
class Machine:
    """One build machine."""

    engine: ThrowawayEngine
    project: Project
    checkout: Path
    mirror_url: str
    used: Used = field(default_factory=Used)

    def environment(self, more: dict[str, str] | None = None) -> dict[str, str]:
        """Return the variables that commands on this machine see."""
        environment = {**self.engine.environment(), "GIT_CEILING_DIRECTORIES": "/", **(more or {})}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles an agent at each start
        return environment

    def write_checkout(self, version: Version) -> None:
        """Write the project as it is in one commit."""
        self.write_compose()
        for service in self.project.services:
            folder = self.checkout / service.name
            (folder / "code").mkdir(parents=True, exist_ok=True)
            text = f"FROM {BASE}\n"
            text += "".join(SYSTEM_STEP.format(name=bundle.name) for bundle in service.system)
            if service.modules:
                text += MODULES_STEPS.format(name=service.modules.name)
                (folder / "dependency").write_text(changing_name(version.dependency))
            (folder / "Dockerfile").write_text(text + CODE_STEPS)
            for number in range(CODE_FILES):
                body = f"// {service.name} {version.code if service.changes else 0}\n"
                body += f"export const value{number} = {number}\n" * (number + 1)
                (folder / "code" / f"module{number}.js").write_text(body)

    def write_compose(self, more: Callable[[BenchService], str] = lambda _: "") -> None:
        """Write the services file, with what the services say to longshore besides."""
        lines = [f"name: {self.project.name}", "services:"]
        for service in self.project.services:
            said = ", ".join(filter(None, ("cached: true", more(service))))
            lines += [f"  {service.name}:", f"    image: {service.name}:latest"]
            lines += [f"    build: ./{service.name}", f"    x-longshore: {{{said}}}"]
        (self.checkout / "compose.yaml").write_text("\n".join(lines) + "\n")

    def run(
        self,
        *command: str | Path,
        stdout: IO[Any] | None = None,
        more: dict[str, str] | None = None,
    ) -> str:
        """Run one command, and return what it printed, unless that goes elsewhere."""
        return self.pipe([command], stdout=stdout, more=more)

    def pipe(
        self,
        commands: Sequence[Sequence[str | Path]],
        *,
        stdout: IO[Any] | None = None,
        more: dict[str, str] | None = None,
    ) -> str:
        """Run commands, each reading what the one before writes, like a shell's pipe.

        Raises:
            CellFailed: one of them failed.
        """
        with contextlib.ExitStack() as stack:
            errors = stack.enter_context(tempfile.TemporaryFile())
            out = stdout if stdout is not None else stack.enter_context(tempfile.TemporaryFile())
            processes: list[subprocess.Popen[bytes]] = []
            before: Any = subprocess.DEVNULL
            for number, command in enumerate(commands):
                last = number == len(commands) - 1
                process = subprocess.Popen(
                    [str(word) for word in command],
                    cwd=self.checkout,
                    env=self.environment(more),
                    stdin=before,
                    stdout=out if last else subprocess.PIPE,
                    stderr=errors,
                )
                if number:
                    before.close()
                before = process.stdout
                processes.append(process)
            self._wait(processes, [str(command[0]) for command in commands], errors)
            if stdout is not None:
                return ""
            out.seek(0)
            return bytes(out.read()).decode(errors="replace")

    def together(self, commands: Sequence[Sequence[str | Path]]) -> None:
        """Run commands side by side.

        Raises:
            CellFailed: one of them failed.
        """
        with tempfile.TemporaryFile() as errors:
            processes = [
                subprocess.Popen(
                    [str(word) for word in command],
                    cwd=self.checkout,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )
                for command in commands
            ]
            self._wait(processes, [" ".join(map(str, command[:2])) for command in commands], errors)

    def _wait(
        self, processes: Sequence[subprocess.Popen[bytes]], names: Sequence[str], errors: IO[bytes]
    ) -> None:
        def kill() -> None:
            for process in processes:
                process.kill()

        timer = threading.Timer(LONGEST_COMMAND_SECONDS, kill)
        timer.start()
        cpu, peak, failed = 0.0, 0, ""
        try:
            for process, name in zip(processes, names, strict=True):
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                cpu += usage.ru_utime + usage.ru_stime
                peak += usage.ru_maxrss << 10
                if process.returncode and not failed:
                    failed = f"{name} ended with {process.returncode}"
        except BaseException:
            kill()
            raise
        finally:
            timer.cancel()
        self.used.add(cpu, peak)
        if failed:
            errors.seek(0)
            raise CellFailed(f"{failed}: {errors.read().decode(errors='replace')[-500:].strip()}")

    def build(
        self, service: str, tags: Sequence[str], flags: Sequence[str], builder: Builder
    ) -> list[str]:
        """Build one service, and return the steps that were not taken from a cache."""
        command = ["docker", "build", "--network=host"]
        command += [f"--build-arg=http_proxy={self.mirror_url}", *flags]
        if builder == "BuildKit":
            command += ["--progress=plain"]
        for tag in tags:
            command += ["--tag", tag]
        # BuildKit writes its progress to standard error.
        shell = ["sh", "-c", 'exec "$@" 2>&1', "sh", *command, service]
        with tempfile.TemporaryFile() as said:
            try:
                kind = {"DOCKER_BUILDKIT": "1" if builder == "BuildKit" else "0"}
                self.run(*shell, stdout=said, more=kind)
            except CellFailed as error:
                said.seek(0)
                raise CellFailed(f"{error} {said.read().decode(errors='replace')[-500:]}") from None
            said.seek(0)
            log = said.read().decode(errors="replace")
        return [f"{service}: {step}" for step in read_steps(builder, log).ran]

    def compile(self, size: int = COMPILE_BYTES) -> None:
        """Build what keeps all cores busy."""
        folder = self.checkout / "compiled"
        folder.mkdir(exist_ok=True)
        text = COMPILE_STEPS.format(base=BASE, cores=os.cpu_count(), size=size)
        (folder / "Dockerfile").write_text(text)
        self.build(folder.name, ["compiled:latest"], ["--no-cache"], "classic")


@contextlib.contextmanager
def timed(into: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that a block takes."""
    started = time.perf_counter()
    yield
    into[name] = into.get(name, 0.0) + time.perf_counter() - started


def processes_of(marks: Sequence[str]) -> list[int]:
    """List the processes whose command line holds one of the marks."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
                if any(mark in line for mark in marks):
                    found.append(int(folder.name))
    return found


def descendants_of(leader: int) -> list[int]:
    """List a process and all that descend from it; jobs may have sessions of their own."""
    children: dict[str, list[str]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(_stat(int(folder.name))[1], []).append(folder.name)
    found = [str(leader)]
    for process in found:
        found += children.get(process, [])
    return [int(process) for process in found]


def cpu_seconds(processes: Sequence[int]) -> float:
    """Add up what processes and their children that have ended took."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            total += sum(int(value) for value in _stat(process)[11:15])
    return total / _TICK


def held_bytes(processes: Sequence[int]) -> int:
    """Add up the memory that processes hold; what they share counts once."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total


def _stat(process: int) -> list[str]:
    """Read the fields of a process's `stat`, from the third, its state, on."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
