"""What a sidecar costs and gives: its end, its answers under load, imports through it, its client.

Pairs are measured in turn, so that a noisy neighbour meets both. The engine is a throw-away one,
the store a fresh directory. Where imports are measured, the sidecar does not watch the engine: it
would export what the others bring.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench_core import alternate, build_image, longshore, run
from tests.support.engines import ThrowawayEngine, find_engine
from tests.support.images import import_busybox
from tests.support.workload import Workload, write_context

from longshore.cli_sidecar import Lost, Sidecar

IMAGE = ("--project", "bench", "--scope", "main", "--image", "web=web:1")
REQUESTS = 1000


@dataclass
class Bench:
    """What the measurements share."""

    folder: Path
    pairs: int
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """Where the cache is."""
        return self.folder / "store"

    def note(self, name: str, seconds: Sequence[float], goal: str = "") -> None:
        """Print one figure, and keep it."""
        self.results[name] = {"seconds": list(seconds), "goal": goal}
        print(
            f"{name:46} {statistics.median(seconds):7.3f} s"
            f" ({min(seconds):.3f}-{max(seconds):.3f})   {goal}",
            flush=True,
        )

    @contextmanager
    def sidecar(
        self, environment: dict[str, str], *options: str
    ) -> Iterator[tuple[Sidecar, subprocess.Popen[bytes]]]:
        """Start a sidecar, and wait until it is ready."""
        path = self.folder / "s.sock"
        command = [sys.executable, "-m", "longshore", "serve", "--socket", str(path)]
        process = subprocess.Popen(
            [*command, *IMAGE, "--store", f"file://{self.store}", *options],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        api = Sidecar(path)
        try:
            while True:
                with suppress(Lost):
                    if api.ask("GET", "/readyz?wait=60", seconds=70)[0] == 200:
                        break
                if process.poll() is not None:
                    raise SystemExit("the sidecar did not start")
            yield api, process
        finally:
            process.terminate()
            process.wait()


def do(api: Sidecar, command: str) -> dict[str, Any]:
    """Have a sidecar do a job, and wait for its end."""
    _, job = api.ask("POST", "/api/v1/jobs", {"command": command, "options": {"strict": True}})
    for _, name, event in api.events(f"/api/v1/jobs/{job['id']}/events", "0", seconds=600):
        if name == "ended":
            if event["exit_code"] != 0:
                raise SystemExit(f"{command} failed: {event['reason']}")
            return event
    raise SystemExit(f"{command} has no end")


def bench_end(bench: Bench, environment: dict[str, str]) -> None:
    """Measure from SIGTERM to the end of a sidecar that does nothing."""
    seconds = []
    for _ in range(bench.pairs):
        with bench.sidecar(environment, "--no-import") as (_, process):
            began = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            code = process.wait()
            seconds.append(time.perf_counter() - began)
            assert code == 0
    bench.note("SIGTERM to the end, idle", seconds, "goal ≤ 1")


def bench_answers(bench: Bench, engine: ThrowawayEngine, environment: dict[str, str]) -> None:
    """Measure a thousand requests of each kind while imports run."""
    with bench.sidecar(environment, "--no-import", "--no-export") as (api, _):
        for path in ("/healthz", "/metrics"):
            try:
                if api.ask("GET", path)[0] == 404:
                    print(f"{path}: not there")
                    continue
            except Lost:
                pass  # no JSON; it is there
            idle = [answer(api, path) for _ in range(REQUESTS)]
            busy: list[float] = []
            over = threading.Event()

            def imports(over: threading.Event = over) -> None:
                while not over.is_set():
                    forget(engine)
                    do(api, "import")

            working = threading.Thread(target=imports)
            working.start()
            while len(busy) < REQUESTS:
                (job,) = api.ask("GET", "/api/v1/jobs")[1]["jobs"][:1] or [{"state": ""}]
                if job["state"] == "running":
                    busy += [answer(api, path) for _ in range(20)]
            over.set()
            working.join()
            bench.note(f"{path}, {REQUESTS} requests, idle", idle)
            bench.note(f"{path}, {REQUESTS} requests, import runs", busy, "slowest: goal ≤ 0.250")


def answer(api: Sidecar, path: str) -> float:
    """Ask for something on a connection of its own, and measure how long the answer takes."""
    began = time.perf_counter()
    with suppress(Lost):  # metrics are no JSON
        api.ask("GET", path)
    return time.perf_counter() - began


def forget(engine: ThrowawayEngine) -> None:
    """Remove all images from the engine."""
    for image in engine.api.images.list():
        engine.api.images.remove(str(image.id), force=True)
    engine.api.images.prune(filters={"dangling": True})


def bench_imports(bench: Bench, engine: ThrowawayEngine, environment: dict[str, str]) -> None:
    """Import by the command itself, and through a sidecar."""
    socket = str(bench.folder / "s.sock")

    def own() -> float:
        forget(engine)
        return longshore("import", engine, bench.store, "--no-sidecar").seconds

    def through() -> float:
        forget(engine)
        return longshore("import", engine, bench.store, "--socket", socket).seconds

    with bench.sidecar(environment, "--no-import", "--no-export") as (api, _):
        do(api, "import")  # fills the page cache
        by_sidecar, by_itself = alternate(bench.pairs, through, own)
    bench.note("import by the command itself", by_itself)
    bench.note("import through the sidecar", by_sidecar, "goal: within the spread")


def bench_client(bench: Bench, engine: ThrowawayEngine, environment: dict[str, str]) -> None:
    """Measure what the command line adds to a job that finds all there."""
    socket = ("--socket", str(bench.folder / "s.sock"))
    with bench.sidecar(environment, "--no-export") as (api, _):

        def asked() -> float:
            began = time.perf_counter()
            do(api, "import")
            return time.perf_counter() - began

        def handed_over() -> float:
            return longshore("import", engine, bench.store, *socket).seconds

        both = alternate(4 * bench.pairs, handed_over, asked)
        added = [ours - theirs for ours, theirs in zip(*both, strict=True)]
        bench.note("import handed over, nothing to do", both[0])
        bench.note("the same, asked for over HTTP", both[1])
        bench.note("start-up of the client: the difference", added, "goal < 0.2")
        plain = dict(environment)
        waits = [
            run([sys.executable, "-m", "longshore", "wait", "--live", *socket], plain)
            for _ in range(4 * bench.pairs)
        ]
        bench.note("longshore wait --live", [done.seconds for done in waits], "goal < 0.2")
        bench.note("longshore wait --live, CPU", [done.cpu_seconds for done in waits])
        nothing = [run([sys.executable, "-c", "pass"], plain) for _ in range(4 * bench.pairs)]
        bench.note("python -c pass", [done.seconds for done in nothing])


def main() -> None:
    """Run it all, and print a table."""
    parser = argparse.ArgumentParser(prog="scripts/bench sidecar", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="alternating pairs of each comparison")
    parser.add_argument("--scale", type=float, default=0.2, help="1.0 is an image of about 1 GB")
    parser.add_argument("--tmpfs", action="store_true", help="keep the engine's data in memory")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    options = parser.parse_args()
    size = Workload()
    workload = Workload(
        int(size.packages_bytes * options.scale),
        int(size.packages_files * options.scale),
        int(size.modules_bytes * options.scale),
        int(size.modules_files * options.scale),
    )
    with tempfile.TemporaryDirectory(prefix="longshore-bench-", dir="/var/tmp") as folder:
        bench = Bench(Path(folder), options.pairs)
        context = bench.folder / "context"
        context.mkdir()
        write_context(context, "base:1", workload)
        with ThrowawayEngine(find_engine("28.5"), in_memory=options.tmpfs) as engine:
            import_busybox(engine.api, "base:1")
            build_image(engine, context)
            image = engine.api.images.get("web:1")
            print(
                f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
                f" engine {engine.version}, image of {image.attrs['Size'] / 1e6:,.0f} MB,"
                f" load {os.getloadavg()[0]:.1f}\n"
            )
            longshore("export", engine, bench.store, "--no-sidecar")
            environment = engine.environment()
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            measure: Callable[..., None]
            bench_end(bench, environment)
            for measure in (bench_imports, bench_client, bench_answers):
                measure(bench, engine, environment)
    if options.json:
        options.json.write_text(json.dumps(bench.results, indent=2) + "\n")


if __name__ == "__main__":
    main()
