"""The pipelines that are measured: how images come onto a build machine, and how they are kept."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scripts.bench_machine import (
    BASE,
    LONGEST_COMMAND_SECONDS,
    CellFailed,
    Machine,
    cpu_seconds,
    descendants_of,
    held_bytes,
)
from scripts.bench_network import Link, Registry, Traffic
from scripts.bench_projects import BenchService
from tests.support.builds import Builder, read_steps
from tests.support.engines import ImageStore
from tests.support.seaweedfs import ADMIN

from longshore.core.handover import CACHE_EXPORT, PLAIN_IMAGE

# The flags of longshore that a pipeline is made of, all of them here. Those that this longshore
# does not have are left out; a pipeline that is nothing without its flag is skipped then.
DIRECT = ("--direct",)
THROUGH_SAVE = ("--no-direct",)
WHOLE = ("--whole",)
BY_ITSELF = ("--no-sidecar",)
HANDED_OVER = ("--sidecar",)
EXPORTS = ("--export",)
# What an import of a part of an image calls it.
PARTIAL_TAG = "longshore-partial-latest"

HandOver = Literal["api", "cli"]
STARTED_SECONDS = 30.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The servers of one network, each behind its link, and what longshore can do."""

    folder: Path
    bucket: str
    s3: Link
    registries: dict[str, tuple[Registry, Link]]
    stored: Callable[[str], int]
    options: frozenset[str]
    hand_over: HandOver


class Way(ABC):
    """One pipeline, with a place of its own on its servers."""

    letter: str
    title: str
    image_store: ImageStore = "graphdriver"
    builder: Builder = "classic"
    agent_builds = False
    """Whether the command that builds restores, too, so that its CPU counts as the agent's."""

    def __init__(self, around: Surroundings, place: str) -> None:
        self.around = around
        self.place = place

    @classmethod
    def lacks(cls, options: frozenset[str]) -> str:
        """Say why this longshore cannot do it; empty if it can."""
        return ""

    @contextlib.contextmanager
    def present(self, machine: Machine) -> Iterator[None]:
        """Have running what runs on the machine for as long as it lives."""
        yield

    @abstractmethod
    def restore(self, machine: Machine) -> None:
        """Bring what the last build kept."""

    @abstractmethod
    def save(self, machine: Machine) -> None:
        """Keep the images that were built."""

    def tags(self, service: BenchService) -> list[str]:
        """Name what a build tags."""
        return [f"{service.name}:latest"]

    def cache_flags(self, service: BenchService) -> list[str]:
        """Say what a build is told of the cache."""
        return [f"--cache-from={service.name}:latest"]

    def build(self, machine: Machine) -> list[str]:
        """Build all services, and return the steps that ran."""
        steps: list[str] = []
        for service in machine.project.services:
            flags = self.cache_flags(service)
            steps += machine.build(service.name, self.tags(service), flags, self.builder)
        return steps

    def tag(self, machine: Machine) -> None:
        """Tag what was built for another pipeline on the same machine."""
        for service in machine.project.services:
            for tag in self.tags(service)[1:]:
                machine.run("docker", "tag", f"{service.name}:latest", tag)

    def traffic(self) -> Traffic:
        """Say what went over its link so far."""
        return self.around.s3.traffic()

    def stored_bytes(self) -> int:
        """Say what its place holds."""
        return self.around.stored(f"{self.place}/")


def build_plainly(machine: Machine, builder: Builder) -> None:
    """Build all services with what the engine itself has."""
    for service in machine.project.services:
        machine.build(service.name, [f"{service.name}:latest"], [], builder)


def tags_and_chain(machine: Machine) -> list[str]:
    """Name images and their parents, as `docker save` has to be told them to keep the chain."""
    names = [f"{service.name}:latest" for service in machine.project.services]
    ids: dict[str, None] = {}
    for name in names:
        said = machine.run("docker", "history", "--quiet", "--no-trunc", name)
        ids.update(dict.fromkeys(line for line in said.split() if line != "<missing>"))
    return [*names, BASE, *ids]


class NoCache(Way):
    letter, title = "a", "no cache"

    def restore(self, machine: Machine) -> None:
        pass

    def save(self, machine: Machine) -> None:
        pass

    def cache_flags(self, service: BenchService) -> list[str]:
        return []


class Tarball(Way):
    """`docker save` | compressor | one object for each build."""

    letter, title = "b", "tarball, gzip"
    compressor: tuple[str, ...] = ("gzip",)
    decompressor: tuple[str, ...] = ("gzip", "-d")

    def __init__(self, around: Surroundings, place: str) -> None:
        super().__init__(around, place)
        self._number = 0

    def _transfer(self, verb: str) -> list[str]:
        key = f"{self.place}/{self._number}.tar"
        return [sys.executable, "-m", "scripts.bench_transfer", verb, self.around.bucket, key]

    def restore(self, machine: Machine) -> None:
        get, load = self._transfer("get"), ["docker", "load", "--quiet"]
        machine.pipe([get, self.decompressor, load], more=s3_environment(self.around))

    def save(self, machine: Machine) -> None:
        save = ["docker", "save", *tags_and_chain(machine)]
        self._number += 1
        try:
            machine.pipe(
                [save, self.compressor, self._transfer("put")], more=s3_environment(self.around)
            )
        except CellFailed:
            self._number -= 1
            raise


class ZstdTarball(Tarball):
    letter, title = "c", "tarball, zstd"
    compressor = ("zstd", "-q", "-T0", "-3", "-c")
    decompressor = ("zstd", "-q", "-d", "-c")


class Pushed(Way):
    """A registry: push after the build, pull before it, all services at once."""

    letter, title = "d", "registry"

    def reference(self, service: BenchService) -> str:
        _, link = self.around.registries[self.letter]
        return f"127.0.0.1:{link.port}/{self.place}/{service.name}:latest"

    def _all(self, machine: Machine, verb: str) -> None:
        machine.together(
            [
                ["docker", verb, "--quiet", self.reference(service)]
                for service in machine.project.services
            ]
        )

    def restore(self, machine: Machine) -> None:
        self._all(machine, "pull")

    def save(self, machine: Machine) -> None:
        self._all(machine, "push")

    def tags(self, service: BenchService) -> list[str]:
        return [f"{service.name}:latest", self.reference(service)]

    def cache_flags(self, service: BenchService) -> list[str]:
        return [f"--cache-from={self.reference(service)}"]

    def traffic(self) -> Traffic:
        return self.around.registries[self.letter][1].traffic()

    def stored_bytes(self) -> int:
        return self.around.registries[self.letter][0].stored_bytes()


class BuildKitCache(Pushed):
    """BuildKit's own cache in a registry, fetched while it builds; exported by a second build."""

    letter, title = "e", "BuildKit, mode=max"
    image_store, builder = "containerd", "BuildKit"

    def restore(self, machine: Machine) -> None:
        pass

    def save(self, machine: Machine) -> None:
        for service in machine.project.services:
            to = f"--cache-to=type=registry,mode=max,ref={self.reference(service)}"
            machine.build(service.name, self.tags(service), [to], self.builder)

    def tags(self, service: BenchService) -> list[str]:
        return [f"{service.name}:latest"]

    def cache_flags(self, service: BenchService) -> list[str]:
        return [f"--cache-from=type=registry,ref={self.reference(service)}"]


def s3_environment(around: Surroundings) -> dict[str, str]:
    """Return the variables with which one finds the bucket, and nothing of this host's."""
    return {
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "LONGSHORE_ENDPOINT_URL": f"http://127.0.0.1:{around.s3.port}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }


class Longshore(Way):
    """longshore, its start-up included."""

    letter, title = "f", "longshore, docker save"
    flags: tuple[str, ...] = (*THROUGH_SAVE, *BY_ITSELF)
    needs: tuple[str, ...] = ()

    @classmethod
    def lacks(cls, options: frozenset[str]) -> str:
        missing = [flag for flag in cls.needs if flag not in options]
        return f"this longshore has no {' and no '.join(missing)}" if missing else ""

    measured: Path | None = None  # where to write what compression takes, if that is asked for

    def environment(self) -> dict[str, str]:
        """Return the settings of the agent."""
        return {
            **s3_environment(self.around),
            "LONGSHORE_STORE": f"s3://{self.around.bucket}/{self.place}",
            "LONGSHORE_SCOPE": "main",
            "LONGSHORE_STRICT": "1",
        }

    def _longshore(self, machine: Machine, verb: str) -> None:
        flags = [flag for flag in self.flags if f"{verb} {flag}" in self.around.options]
        agent = ["scripts.bench_cpu", self.measured] if self.measured else ["longshore"]
        machine.run(sys.executable, "-m", *agent, verb, *flags, more=self.environment())

    def restore(self, machine: Machine) -> None:
        self._longshore(machine, "import")

    def save(self, machine: Machine) -> None:
        self._longshore(machine, "export")

    def cache_flags(self, service: BenchService) -> list[str]:
        # What is not there is left aside.
        tags = ["latest", *([PARTIAL_TAG] if "import --whole" in self.around.options else [])]
        return [f"--cache-from={service.name}:{tag}" for tag in tags]


class LongshoreDirect(Longshore):
    letter, title = "g", "longshore, direct"
    flags: tuple[str, ...] = (*DIRECT, *BY_ITSELF)
    needs: tuple[str, ...] = ("export --direct",)


class LongshoreWhole(LongshoreDirect):
    letter, title = "i", "longshore, direct, whole imports"
    flags = (*DIRECT, *WHOLE, *BY_ITSELF)
    needs = ("export --direct", "import --whole")


class LongshoreBuildKit(LongshoreDirect):
    """The cache directories of BuildKit, written by a second build, and kept by longshore."""

    letter, title = "j", "longshore, BuildKit, mode=max"
    image_store, builder = "containerd", "BuildKit"
    output: tuple[str, ...] = ()

    def _longshore(self, machine: Machine, verb: str) -> None:
        machine.write_compose(
            lambda service: f"image: false, buildkit_cache: {self._directory(service)}"
        )
        super()._longshore(machine, verb)

    def save(self, machine: Machine) -> None:
        for service in machine.project.services:
            to = ("--cache-to=type=local", f"dest={self._directory(service)}", *CACHE_EXPORT)
            flags = [",".join(to), *self.output]
            machine.build(service.name, self.tags(service), flags, self.builder)
        super().save(machine)

    def cache_flags(self, service: BenchService) -> list[str]:
        return [f"--cache-from=type=local,src={self._directory(service)}", *self.output]

    @staticmethod
    def _directory(service: BenchService) -> str:
        return f".cache/{service.name}"


class LongshorePlainImage(LongshoreBuildKit):
    """The same, with images whose layers BuildKit leaves uncompressed."""

    letter, title = "k", "longshore, BuildKit, plain image"
    output = (f"--output={','.join(PLAIN_IMAGE)}",)


class LongshoreBuild(LongshorePlainImage):
    """`longshore build`, whose build fetches the cache directory itself, and writes it at once."""

    letter, title = "l", "longshore build, plain image"
    needs = (*LongshorePlainImage.needs, *(f"build {flag}" for flag in EXPORTS))
    agent_builds = True

    def __init__(self, around: Surroundings, place: str) -> None:
        super().__init__(around, place)
        self._built = False

    def restore(self, machine: Machine) -> None:
        pass

    def build(self, machine: Machine) -> list[str]:
        # A Codeship file: Compose cannot be told to leave images uncompressed.
        lines = [
            f"{service.name}: {{cached: true, build: {{image: {service.name}:latest,"
            f" context: {service.name}}}, x-longshore: {{image: false,"
            f" image_compression: uncompressed, buildkit_cache: {self._directory(service)}}}}}"
            for service in machine.project.services
        ]
        services_file = machine.checkout / "codeship-services.yml"
        services_file.write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-m", "longshore", "build", "--no-export"]
        command += ["--services", services_file.name, "--", "--network=host"]
        command += [f"--build-arg=http_proxy={machine.mirror_url}", "--progress=plain"]
        more = {"LONGSHORE_PROJECT": machine.project.name, "DOCKER_BUILDKIT": "1"}
        shell = ["sh", "-c", 'exec "$@" 2>&1', "sh", *command]
        said = machine.run(*shell, more={**self.environment(), **more})
        services_file.unlink()  # the export reads the other one
        self._built = True
        # One `docker build` after the other, each of which counts its steps from 0 on.
        builds = said.split("#0 building with ")
        return [step for build in builds for step in read_steps(self.builder, build).ran]

    def save(self, machine: Machine) -> None:
        if self._built:
            self._longshore(machine, "export")
            self._built = False
        else:
            super().save(machine)


class LongshoreSidecar(Longshore):
    """longshore, the work handed over to a sidecar that runs already."""

    letter, title = "h", "longshore, sidecar"
    flags = HANDED_OVER

    def __init__(self, around: Surroundings, place: str) -> None:
        super().__init__(around, place)
        self._socket = Path()
        self._leader = 0
        self._cpu_seconds = 0.0

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "LONGSHORE_SOCKET": str(self._socket)}

    @contextlib.contextmanager
    def present(self, machine: Machine, *, exports: bool = False) -> Iterator[None]:
        """Have a sidecar running.

        Args:
            exports: whatever is built, as it does by itself.
        """
        self._socket = machine.engine.root / "longshore.sock"
        serve = ["serve", "--no-import", "--shutdown-timeout=1s"]
        serve += [] if exports else ["--no-export"]
        log_file = machine.engine.root / "sidecar.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "longshore", *serve],
                cwd=machine.checkout,
                env=machine.environment(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        watch = _Watch(process.pid)
        try:
            self._wait_until_it_listens(process, log_file)
            self._leader = process.pid
            self._cpu_seconds = cpu_seconds(descendants_of(process.pid))  # of its start-up
            with watch:
                yield
            machine.used.add(0.0, watch.peak)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes], log: Path) -> None:
        end = time.monotonic() + STARTED_SECONDS
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, CellFailed):
                self._ask("GET", "/readyz")
                return
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace")[-500:]
                raise CellFailed(f"the sidecar did not start: {said}")
            time.sleep(POLL_SECONDS)

    def _longshore(self, machine: Machine, verb: str) -> None:
        try:
            if self.around.hand_over == "cli":
                super()._longshore(machine, verb)
            else:
                self._post(verb)
        finally:
            taken = cpu_seconds(descendants_of(self._leader))
            machine.used.add(taken - self._cpu_seconds, 0)
            self._cpu_seconds = taken

    def _post(self, verb: str) -> None:
        task = {"command": verb, "options": {"strict": True}}
        job = self._ask("POST", "/api/v1/jobs", task)
        end = time.monotonic() + LONGEST_COMMAND_SECONDS
        while job["ended"] is None:
            if time.monotonic() > end:
                raise CellFailed(f"the sidecar's {verb} takes too long")
            time.sleep(POLL_SECONDS)
            job = self._ask("GET", f"/api/v1/jobs/{job['id']}")
        if job["exit_code"] != 0:
            raise CellFailed(f"the sidecar's {verb} ended with {json.dumps(job)[-500:]}")

    def exports_running(self) -> bool:
        """Tell whether an export moves data at this moment."""
        jobs = self._ask("GET", "/api/v1/jobs")["jobs"]
        return any(job["command"] == "export" and job["state"] == "running" for job in jobs)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("longshore")
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(str(self._socket))
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
        if answer.status >= 400:
            raise CellFailed(f"the sidecar answered {answer.status}: {said[:300]!r}")
        return json.loads(said)


@dataclass
class _Watch:
    """Looks at the memory of a session, because its jobs are gone when one asks at the end."""

    leader: int
    peak: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            self.peak = max(self.peak, held_bytes(descendants_of(self.leader)))


class EngineAlone(Way):
    """What the engine itself can do: save to nowhere, and load from a local file.

    The file is of the first save, so a build after it may run more steps than others.
    """

    letter, title = "x", "engine alone, no store"

    def _file(self) -> Path:
        return self.around.folder / f"{self.place.replace('/', '-')}.tar"

    def restore(self, machine: Machine) -> None:
        machine.run("docker", "load", "--quiet", "--input", self._file())

    def save(self, machine: Machine) -> None:
        if not self._file().exists():
            machine.run("docker", "save", "--output", self._file(), *tags_and_chain(machine))
            return
        with open(os.devnull, "wb") as nowhere:
            machine.run("docker", "save", *tags_and_chain(machine), stdout=nowhere)

    def stored_bytes(self) -> int:
        return 0


WAYS: dict[str, type[Way]] = {
    way.letter: way
    for way in (
        NoCache,
        Tarball,
        ZstdTarball,
        Pushed,
        BuildKitCache,
        Longshore,
        LongshoreDirect,
        LongshoreSidecar,
        LongshoreWhole,
        LongshoreBuildKit,
        LongshorePlainImage,
        LongshoreBuild,
        EngineAlone,
    )
}


def read_options(verbs: Iterable[str] = ("import", "export", "build")) -> frozenset[str]:
    """Ask longshore which of the flags above its commands have, each as `VERB FLAG`."""
    flags: Sequence[str] = (*DIRECT, *THROUGH_SAVE, *WHOLE, *BY_ITSELF, *HANDED_OVER, *EXPORTS)
    found: set[str] = set()
    for verb in verbs:
        done = subprocess.run(
            [sys.executable, "-m", "longshore", verb, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        )
        words = set(done.stdout.replace(",", " ").replace("/", " ").split())
        found.update(f"{verb} {flag}" for flag in flags if flag in words)
    return frozenset(found)
