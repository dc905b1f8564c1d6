"""The demo that `scripts/demo` sets up and runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound
from tests.support.engines import EngineFailed, EngineUnavailable, ThrowawayEngine, find_engine
from tests.support.images import BuildResult, build, import_busybox

PROJECT = Path(__file__).resolve().parent / "demo-project"
SERVICES = ("web", "worker")
BASE = "longshore-demo-base"
# What longshore says of each single image and layer; here it would bury the rest.
DETAIL = re.compile(r"  (image|layer) |$")
# One prefix for all images, so that an engine of somebody's loses none but the demo's.
IMAGES = {service: f"longshore-demo-{service}" for service in SERVICES}


class DemoError(Exception):
    """The demo cannot go on; the message says why, and what to do."""

    exit_code = 1


class NoEngine(DemoError):
    """There is no Docker engine, and none can be started."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Machine:
    """A build machine: an engine that has no image of the demo, at first."""

    api: DockerClient
    version: str
    environment: dict[str, str]


NewMachine = Callable[[], contextlib.AbstractContextManager[Machine]]


@dataclass(slots=True)
class Built:
    """What the builds of all services came to."""

    ran: int = 0
    cached: int = 0
    seconds: float = 0.0

    def add(self, result: BuildResult, seconds: float) -> None:
        self.ran += result.steps_run
        self.cached += result.steps_cached
        self.seconds += seconds


class Page:
    """What the reader sees: colours on a terminal, plain text elsewhere."""

    def __init__(self) -> None:
        dumb = os.environ.get("TERM", "") in ("", "dumb") or "NO_COLOR" in os.environ
        self._colours = sys.stdout.isatty() and not dumb
        self._headings = 0

    def heading(self, text: str) -> None:
        self._headings += 1
        self.line()
        self.line(self.style("1;36", f"{self._headings}. {text}"))

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def style(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text


class Demo:
    def __init__(self, page: Page, store: Path) -> None:
        self._page = page
        self._store = store

    def run(self) -> None:
        page = self._page
        new_machine = find_machines(page)
        page.line(
            page.style("1", "longshore: two services, two machines, a directory as the store")
        )

        with new_machine() as machine:
            page.heading(f"Machine 1 builds without a cache (Docker {machine.version})")
            make_base(machine.api)
            cold = self._build_all(machine, {})
            page.heading("Machine 1 exports what it built, and is thrown away")
            _, exporting = self._longshore(machine, "export")
            page.line(f"   {exporting:.1f} s; {self._weigh_store()}")

        with new_machine() as machine:
            page.heading("Machine 2 is new, has no images, and imports")
            said, importing = self._longshore(machine, "import")
            page.line(f"   {importing:.1f} s")
            page.heading("Machine 2 builds, each service with the --cache-from that import named")
            warm = self._build_all(machine, read_cache_from(said))
            page.heading("Machine 2 exports: every layer is in the store already")
            _, unchanged = self._longshore(machine, "export")
            page.line(f"   {unchanged:.1f} s; {self._weigh_store()}")

        page.heading("The times")
        rows = [
            ("", "import", "build", "together", "steps run"),
            ("without longshore", "-", f"{cold.seconds:.1f} s", f"{cold.seconds:.1f} s", cold.ran),
            (
                "with longshore",
                f"{importing:.1f} s",
                f"{warm.seconds:.1f} s",
                f"{importing + warm.seconds:.1f} s",
                warm.ran,
            ),
        ]
        for name, *cells in rows:
            page.line(f"   {name:<18}" + "".join(f"{cell:>11}" for cell in cells))
        if warm.ran or not warm.cached:
            raise DemoError(f"machine 2 had to run {warm.ran} steps: the import did not do its job")

    def _build_all(self, machine: Machine, cache_from: dict[str, list[str]]) -> Built:
        built = Built()
        for service, image in IMAGES.items():
            folder = PROJECT / service
            files = {
                str(file.relative_to(folder)): file.read_bytes()
                for file in sorted(folder.rglob("*"))
                if file.is_file() and file.name != "Dockerfile"
            }
            started = time.monotonic()
            result = build(
                machine.api,
                (folder / "Dockerfile").read_text(),
                files,
                tag=f"{image}:latest",
                cache_from=cache_from.get(service),
            )
            seconds = time.monotonic() - started
            built.add(result, seconds)
            ran = f"{result.steps_run} steps run, {result.steps_cached} from the cache"
            colour = "33" if result.steps_run else "32"
            self._page.line(f"   {service:<8}{self._page.style(colour, ran)}  {seconds:.1f} s")
        return built

    def _longshore(self, machine: Machine, command: str) -> tuple[str, float]:
        """Run longshore as a user would, show what it says, and tell how long it took."""
        words = ["longshore", command, "--strict", "--store", self._store.as_uri()]
        words += ["--project", "demo", "--scope", "main"]
        self._page.line(self._page.style("1", f"   $ {shlex.join(words)}"))
        started = time.monotonic()
        said = []
        with subprocess.Popen(
            [str(Path(sys.executable).parent / "longshore"), *words[1:]],
            cwd=PROJECT,
            env=machine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    said.append(line)
                    if not DETAIL.match(line):
                        self._page.line(f"   {self._page.style('2', '|')} {line.rstrip()}")
            except BaseException:
                process.terminate()
                raise
        seconds = time.monotonic() - started
        if process.returncode:
            raise DemoError(f"longshore {command} ended with exit code {process.returncode}")
        return "".join(said), seconds

    def _weigh_store(self) -> str:
        sizes = [file.stat().st_size for file in self._store.rglob("*") if file.is_file()]
        return f"the store holds {sum(sizes) / 1e6:.2f} MB in {len(sizes)} objects"


def read_cache_from(said: str) -> dict[str, list[str]]:
    """Find what an import said of each service: the images that make its next build warm."""
    names: dict[str, list[str]] = {}
    service = ""
    for line in said.splitlines():
        if found := re.match(r"(\S+): hit ", line):
            service = found[1]
        names.setdefault(service, []).extend(re.findall(r"--cache-from[ =](\S+)", line))
    return names


def clean_environment() -> dict[str, str]:
    """Return this environment without what would set longshore up in another way."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LONGSHORE_")}


def find_machines(page: Page) -> NewMachine:
    """Tell how to get new machines: throw-away engines, or else the engine that answers."""
    try:
        with ThrowawayEngine(find_engine("28.5")):
            return thrown_away
    except (EngineUnavailable, EngineFailed, OSError) as problem:
        # Where it failed to start, the last line of its log is the reason.
        lines = str(problem).splitlines()
        reason = " ".join(lines[:1] + lines[1:][-1:])
    try:
        docker.from_env(version="auto").close()
    except DockerException:
        raise NoEngine(
            f"no Docker engine can be started here: {reason}\n"
            "and none answers at DOCKER_HOST. Do one of these:\n"
            "  - run this as root on Debian 12 or 13 (in a container: a privileged one);"
            " engines are fetched then, and none is installed\n"
            "  - install one and start it, as root: apt-get install docker.io"
        ) from None
    page.line(f"No engine can be started here ({reason}).")
    page.line("The one that answers is used; between the machines the demo's images are removed.")
    return the_one_that_answers


@contextlib.contextmanager
def thrown_away() -> Iterator[Machine]:
    """Start an engine, and remove all of it at the end."""
    with ThrowawayEngine(find_engine("28.5")) as engine:
        environment = {**clean_environment(), "DOCKER_HOST": engine.host}
        for name in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
            environment.pop(name, None)
        yield Machine(engine.api, engine.version, environment)


@contextlib.contextmanager
def the_one_that_answers() -> Iterator[Machine]:
    """Use an engine of somebody's, without the demo's images before and after."""
    client = docker.from_env(version="auto")
    try:
        earlier = image_ids(client)
        remove_images(client, earlier)
        try:
            yield Machine(client, client.version()["Version"], clean_environment())
        finally:
            remove_images(client, earlier)
    finally:
        client.close()


def image_ids(client: DockerClient) -> set[str]:
    return {str(image.id) for image in client.images.list(all=True)}


def remove_images(client: DockerClient, earlier: set[str]) -> None:
    """Remove the images with the demo's names, and the untagged ones that it brought."""
    try:
        base_layer = client.images.get(BASE).attrs["RootFS"]["Layers"][0]
    except ImageNotFound:
        base_layer = None
    for name in (*IMAGES.values(), BASE):
        with contextlib.suppress(ImageNotFound):
            client.images.remove(name, force=True)
    # A parent can go when its children are gone, so this takes as many rounds as chains are long.
    removed = base_layer is not None
    while removed:
        removed = False
        for image in client.images.list(all=True):
            layers = image.attrs["RootFS"].get("Layers") or [None]
            if image.id in earlier or image.tags or layers[0] != base_layer:
                continue
            with contextlib.suppress(APIError):
                client.images.remove(str(image.id))
                removed = True


def make_base(client: DockerClient) -> None:
    """Make the base image of a busybox; an engine of somebody's may have to pull it."""
    try:
        import_busybox(client, f"{BASE}:latest")
    except EngineUnavailable:
        was_there = bool(client.images.list("busybox:stable"))
        client.images.pull("busybox", "stable").tag(BASE, "latest")
        if not was_there:
            client.images.remove("busybox:stable")


def interrupt(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    argparse.ArgumentParser(prog="scripts/demo", description=__doc__).parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    page = Page()
    folder = Path(tempfile.mkdtemp(prefix="longshore-demo-"))
    try:
        Demo(page, folder / "store").run()
    except (DemoError, DockerException) as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, DemoError) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
