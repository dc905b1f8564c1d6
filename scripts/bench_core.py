"""Export and import beside `docker save` and `docker load`, alternating, on one machine.

Every figure is of this run; ratios compare medians of pairs that were measured in turn, so that a
noisy neighbour meets both. Engines are throw-away ones, stores are fresh directories.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker import DockerClient
from tests.support.engines import Generation, ThrowawayEngine, find_engine
from tests.support.images import import_busybox
from tests.support.workload import Workload, rebuild_modules, write_context

from longshore.core import chunking

PROJECT = ("--project", "bench", "--scope", "main", "--image", "web=web:1")


@dataclass
class Run:
    """One command: seconds, CPU seconds, and the most memory that it held."""

    seconds: float
    cpu_seconds: float
    rss_mib: float
    output: str
    compress_cpu_seconds: float = 0.0


@dataclass
class Bench:
    """What the measurements share."""

    folder: Path
    pairs: int
    generation: Generation
    in_memory: bool
    results: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def engine(self) -> Iterator[ThrowawayEngine]:
        """Start an engine that knows no images."""
        with ThrowawayEngine(find_engine(self.generation), in_memory=self.in_memory) as engine:
            yield engine

    def show(self, name: str, both: tuple[list[float], list[float]], goal: float) -> None:
        """Print one comparison, and keep it."""
        ours, theirs = both
        ratio = statistics.median(ours) / statistics.median(theirs)
        self.results[name] = {
            "longshore_seconds": list(ours),
            "docker_seconds": list(theirs),
            "ratio_of_medians": ratio,
            "goal": goal,
        }
        print(
            f"{name:34} longshore {spread(ours)}   docker {spread(theirs)}"
            f"   ratio {ratio:5.2f}   goal ≤ {goal}"
        )

    def note(self, name: str, value: float, unit: str, goal: str = "") -> None:
        """Print one figure, and keep it."""
        self.results[name] = {"value": value, "unit": unit, "goal": goal}
        print(f"{name:34} {value:10,.1f} {unit:6} {goal}")


def spread(seconds: Sequence[float]) -> str:
    """Write a median with its extremes."""
    return f"{statistics.median(seconds):6.2f} s ({min(seconds):.2f}-{max(seconds):.2f})"


def run(command: Sequence[str | Path], environment: dict[str, str], **options: Any) -> Run:
    """Run a command to its end, and read the kernel's account of it."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        options.setdefault("stdout", out)
        process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            stderr=subprocess.STDOUT if options["stdout"] is out else None,
            **options,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        out.seek(0)
        text = out.read().decode(errors="replace")
    if process.returncode != 0:
        raise SystemExit(f"{command} failed with {process.returncode}:\n{text}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


def longshore(
    verb: str, engine: ThrowawayEngine, store: Path, *more: str, measured: Path | None = None
) -> Run:
    """Run a longshore command, its start-up included.

    Args:
        measured: where to have written what its calls that compress take, if that is wanted.
    """
    agent = ["scripts.bench_cpu", str(measured)] if measured else ["longshore"]
    command = [sys.executable, "-m", *agent, verb, "--strict", *PROJECT]
    environment = engine.environment()
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles longshore at each start
    done = run([*command, "--store", f"file://{store}", *more], environment)
    if measured:
        done.compress_cpu_seconds = float(measured.read_text())
    return done


def drop_caches() -> None:
    """Forget what the kernel has read of files."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def chain_of(client: DockerClient, image: str) -> list[str]:
    """List an image and its parents, as `docker save` has to be told them to keep the chain."""
    api: Any = client.api  # the stubs leave this method untyped
    history: list[dict[str, Any]] = api.history(image)
    return [layer["Id"] for layer in history if layer["Id"] != "<missing>"]


def alternate(
    pairs: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Measure two things in turn, each first half of the time."""
    first: list[float] = []
    second: list[float] = []
    for number in range(pairs):
        for measure, into in ((ours, first), (theirs, second))[:: -1 if number % 2 else 1]:
            into.append(measure())
    return first, second


def bench_export(bench: Bench, engine: ThrowawayEngine, store: Path) -> None:
    """Export cold, against `docker save` of the same images to nowhere."""
    ids = chain_of(engine.api, "web:1")
    rss: list[float] = []
    cpu: list[float] = []

    def save() -> float:
        with open(os.devnull, "wb") as nowhere:
            command = ["docker", "save", "web:1", "base:1", *ids]
            return run(command, engine.environment(), stdout=nowhere).seconds

    def export() -> float:
        shutil.rmtree(store, ignore_errors=True)
        done = longshore("export", engine, store)
        rss.append(done.rss_mib)
        cpu.append(done.cpu_seconds)
        return done.seconds

    save()  # fills the page cache
    bench.show("export cold, warm page cache", alternate(bench.pairs, export, save), 1.4)
    bench.note("export, peak RSS", max(rss), "MiB", "goal ≤ 300")
    bench.note("export, agent CPU", statistics.median(cpu), "s")

    def after_drop(measure: Callable[[], float]) -> Callable[[], float]:
        def measured() -> float:
            drop_caches()
            return measure()

        return measured

    colds = alternate(max(2, bench.pairs // 2), after_drop(export), after_drop(save))
    bench.show("export cold, cold page cache", colds, 1.25)
    stored = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    bench.note("stored after the first export", stored / 1e6, "MB")
    again = longshore("export", engine, store, "--json")
    bench.note("export unchanged", again.seconds, "s")
    bench.note(
        "export unchanged, uploaded",
        json.loads(again.output[again.output.index("{") :])["uploaded_bytes"] / 1e3,
        "kB",
    )


def bench_rebuilt(bench: Bench, engine: ThrowawayEngine, store: Path, context: Path) -> None:
    """Export after one layer of many files was rebuilt, with one package of it updated."""
    rebuild_modules(context, scattered=3, seed=7)
    build_image(engine, context)
    done = longshore("export", engine, store, "--json")
    uploaded = json.loads(done.output[done.output.index("{") :])["uploaded_bytes"]
    packed = subprocess.Popen(["tar", "cf", "-", "-C", context, "modules"], stdout=subprocess.PIPE)
    from zstandard import ZstdCompressor

    assert packed.stdout is not None
    compressor = ZstdCompressor(level=3).compressobj()
    whole = 0
    while block := packed.stdout.read(1 << 20):
        whole += len(compressor.compress(block))
    whole += len(compressor.flush())
    packed.wait()
    bench.note("rebuilt layer, uploaded", uploaded / 1e6, "MB")
    bench.note("rebuilt layer, whole, zstd -3", whole / 1e6, "MB")
    bench.note("rebuilt layer, share uploaded", 100 * uploaded / whole, "%", "goal ≤ 5")
    bench.note("rebuilt layer, seconds", done.seconds, "s")


def bench_import(bench: Bench, engine: ThrowawayEngine, store: Path) -> None:
    """Import cold, against `docker load` of the same images from a local file."""
    archive = bench.folder / "images.tar"
    with archive.open("wb") as out:
        ids = chain_of(engine.api, "web:1")
        run(["docker", "save", "web:1", "base:1", *ids], engine.environment(), stdout=out)
    rss: list[float] = []
    cpu: list[float] = []

    def load() -> float:
        with bench.engine() as fresh:
            return run(["docker", "load", "-q", "-i", archive], fresh.environment()).seconds

    def restore() -> float:
        with bench.engine() as fresh:
            done = longshore("import", fresh, store)
            rss.append(done.rss_mib)
            cpu.append(done.cpu_seconds)
            assert fresh.api.images.get("web:1").id == engine.api.images.get("web:1").id
            return done.seconds

    bench.show("import cold", alternate(bench.pairs, restore, load), 1.10)
    bench.note("import, peak RSS", max(rss), "MiB", "goal ≤ 300")
    bench.note("import, agent CPU", statistics.median(cpu), "s")


def build_image(engine: ThrowawayEngine, context: Path) -> None:
    """Build the workload with the classic builder."""
    command = ["docker", "build", "-q", "--network=none", "-t", "web:1", str(context)]
    run(command, {**engine.environment(), "DOCKER_BUILDKIT": "0"})


def main() -> None:
    """Run what was asked for, and print a table."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="alternating pairs of each comparison")
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 is an image of about 1 GB")
    parser.add_argument("--generation", default="28.5", choices=["20.10", "26.1", "28.5"])
    parser.add_argument("--tmpfs", action="store_true", help="keep the engines' data in memory")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longshore-bench-", dir="/var/tmp") as folder:
        bench = Bench(Path(folder), options.pairs, options.generation, options.tmpfs)
        context = bench.folder / "context"
        context.mkdir()
        size = Workload()
        scaled = Workload(
            *(
                int(value * options.scale)
                for value in (
                    size.packages_bytes,
                    size.packages_files,
                    size.modules_bytes,
                    size.modules_files,
                )
            )
        )
        write_context(context, "base:1", scaled)
        with bench.engine() as engine:
            import_busybox(engine.api, "base:1")
            build_image(engine, context)
            image = engine.api.images.get("web:1")
            print(
                f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
                f" engine {engine.version}, data on {'tmpfs' if bench.in_memory else 'disk'};"
                f" image of {image.attrs['Size'] / 1e6:,.0f} MB,"
                f" chunks of {chunking.AVERAGE_BYTES // 1024} KiB\n"
            )
            store = bench.folder / "store"
            bench_export(bench, engine, store)
            bench_import(bench, engine, store)
            bench_rebuilt(bench, engine, store, context)
    if options.json:
        options.json.write_text(json.dumps(bench.results, indent=2) + "\n")


if __name__ == "__main__":
    main()
