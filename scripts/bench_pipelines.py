"""Whole builds on throw-away machines, with every pipeline in turn: restore, build, save.

Every machine is a fresh engine that has the base image and nothing else. All pipelines see the same
commits, and each keeps its images in a place of its own. Each finished measurement is a line of
the results file; a run that is started again leaves out what that file has.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from scripts.bench_machine import (
    BASE,
    CellFailed,
    Machine,
    Used,
    Version,
    cpu_seconds,
    processes_of,
    timed,
)
from scripts.bench_mirror import Mirror
from scripts.bench_network import NETWORKS, Link, Network, Registry
from scripts.bench_plan import BUILDS, USUAL_BUILDS, Cell, Outcome, cells, in_turn, next_version
from scripts.bench_projects import PROJECTS, Project, fetch, fetch_registry
from scripts.bench_report import write_report
from scripts.bench_ways import (
    WAYS,
    HandOver,
    Longshore,
    LongshoreSidecar,
    Surroundings,
    Way,
    build_plainly,
    read_options,
)
from scripts.debian_packages import CannotFetchError
from tests.support.engines import ImageStore, ThrowawayEngine, find_engine
from tests.support.images import import_busybox
from tests.support.seaweedfs import ADMIN, SeaweedFS, find_weed

QUICK_PIPELINES = "abdfgh"
TEN = 10
STARTS = 9
LONGEST_SETTLING_SECONDS = 60.0


def say(text: str) -> None:
    """Tell on standard error what goes on."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


@dataclass
class Bench:
    """What all measurements of a run share."""

    folder: Path
    in_memory: bool
    mirror_url: str
    results: Path
    base: dict[ImageStore, Path] = field(default_factory=dict)
    numbers: int = 0

    @contextlib.contextmanager
    def machine(self, project: Project, way: type[Way], version: Version) -> Iterator[Machine]:
        """Start a build machine with the checkout of one commit."""
        with ThrowawayEngine(
            find_engine("28.5"), way.image_store, in_memory=self.in_memory
        ) as engine:
            self.numbers += 1
            checkout = self.folder / f"checkout{self.numbers}" / project.name
            checkout.mkdir(parents=True)
            machine = Machine(engine, project, checkout, self.mirror_url)
            machine.write_checkout(version)
            machine.run("docker", "load", "--quiet", "--input", self.base_archive())
            machine.used = Used()
            yield machine
            shutil.rmtree(checkout.parent)

    def base_archive(self) -> Path:
        """Make the one base image of all machines."""
        file = self.folder / "base.tar"
        if not file.exists():
            with ThrowawayEngine(find_engine("28.5")) as engine:
                import_busybox(engine.api, BASE)
                command = ["docker", "save", "--output", str(file), BASE]
                subprocess.run(command, env=engine.environment(), check=True)
        return file

    def keep(self, outcome: Outcome) -> None:
        """Add a measurement to the results file, and say what it came to."""
        with self.results.open("a") as file:
            file.write(json.dumps(outcome.to_json()) + "\n")
        cell = outcome.cell
        head = (
            f"{cell.project} {cell.network} {cell.build} #{cell.pair} {WAYS[cell.pipeline].title}"
        )
        if outcome.error:
            say(f"{head}: FAILED: {outcome.error}")
            return
        seconds = " ".join(f"{name} {value:.1f}s" for name, value in outcome.seconds.items())
        say(
            f"{head}: {seconds} up {outcome.uploaded_bytes / 1e6:.1f} MB"
            f" down {outcome.downloaded_bytes / 1e6:.1f} MB steps {len(outcome.steps)}"
        )


@dataclass
class Campaign:
    """The measurements of one project in one network."""

    bench: Bench
    project: Project
    network: Network
    around: Surroundings
    ways: dict[str, Way]
    done: set[Cell]
    versions: dict[str, Version] = field(default_factory=dict)

    def run(self, builds: Sequence[str], pairs: int) -> None:
        """Measure all that is not done yet."""
        wanted = list(cells(self.project.name, self.network.name, builds, [*self.ways], pairs))
        missing = [cell for cell in wanted if cell not in self.done]
        if any(cell.build in USUAL_BUILDS for cell in missing):
            self._seed()
        version = Version()
        for build in sorted(builds, key=BUILDS.index):
            here = [cell for cell in wanted if cell.build == build]
            if build == "first":
                self._first(here)
            elif build == "ten":
                self._ten(here)
            elif build == "busy":
                self._busy(here)
            for pair in range(pairs if build in USUAL_BUILDS else 0):
                version = next_version(build, version)
                for cell in here:
                    if cell.pair == pair and cell not in self.done:
                        self._measure(cell, version)

    def _seed(self) -> None:
        """Have every pipeline keep the first build."""
        for store in dict.fromkeys(way.image_store for way in self.ways.values()):
            ways = [way for way in self.ways.values() if way.image_store == store]
            say(f"{self.project.name} {self.network.name}: the first build, {store} store")
            with self.bench.machine(self.project, type(ways[0]), Version()) as machine:
                build_plainly(machine, ways[0].builder)
                for way in ways:
                    try:
                        way.tag(machine)
                        with way.present(machine):
                            way.save(machine)
                    except CellFailed as error:
                        say(f"{way.title}: its first save FAILED: {error}")

    def _measure(self, cell: Cell, version: Version) -> None:
        way = self.ways[cell.pipeline]
        outcome = Outcome(cell)
        try:
            with self.bench.machine(self.project, type(way), version) as machine:
                before = way.traffic()
                engine = _engine_cpu(machine)
                with way.present(machine):
                    with timed(outcome.seconds, "restore"):
                        way.restore(machine)
                    restore = machine.used.cpu_seconds
                    with timed(outcome.seconds, "build"):
                        outcome.steps = way.build(machine)
                    build = machine.used.cpu_seconds
                    restore = build if way.agent_builds else restore
                    with timed(outcome.seconds, "save"):
                        way.save(machine)
                total = machine.used.cpu_seconds
                outcome.cpu_seconds = {
                    "restore": restore,
                    "build": build - restore,
                    "save": total - build,
                }
                self._account(outcome, way, machine, before, engine)
        except Exception as error:  # whatever it was, the others are measured
            outcome.error = f"{type(error).__name__}: {error}"
        self.bench.keep(outcome)

    def _account(
        self, outcome: Outcome, way: Way, machine: Machine, before: Any, engine: float
    ) -> None:
        moved = way.traffic() - before
        outcome.uploaded_bytes, outcome.downloaded_bytes = moved.up, moved.down
        outcome.engine_cpu_seconds = _engine_cpu(machine) - engine
        outcome.peak_bytes = machine.used.peak_bytes
        outcome.image_bytes = sum(
            machine.engine.api.images.get(f"{service.name}:latest").attrs["Size"]
            for service in self.project.services
        )

    def _fresh(self, cell: Cell) -> Way:
        """Make the cell's pipeline anew, in a place that holds nothing."""
        place = f"{self.project.name}-{cell.build}{cell.pair}-{cell.pipeline}"
        return type(self.ways[cell.pipeline])(self.around, place)

    def _first(self, wanted: Sequence[Cell]) -> None:
        """Measure saves of the same images into empty places, in turn."""
        missing = [cell for cell in wanted if cell not in self.done]
        for store in dict.fromkeys(self.ways[cell.pipeline].image_store for cell in missing):
            here = [cell for cell in missing if self.ways[cell.pipeline].image_store == store]
            with self.bench.machine(
                self.project, type(self.ways[here[0].pipeline]), Version()
            ) as machine:
                build_plainly(machine, self.ways[here[0].pipeline].builder)
                for cell in here:
                    way, outcome = self._fresh(cell), Outcome(cell)
                    try:
                        way.tag(machine)
                        if cell.pipeline == "x":
                            way.save(machine)
                        if isinstance(way, Longshore) and not isinstance(way, LongshoreSidecar):
                            way.measured = self.bench.folder / "compress-seconds"
                        with way.present(machine):
                            before, engine = way.traffic(), _engine_cpu(machine)
                            machine.used = Used()
                            with timed(outcome.seconds, "save"):
                                way.save(machine)
                        outcome.cpu_seconds = {"save": machine.used.cpu_seconds}
                        self._account(outcome, way, machine, before, engine)
                        outcome.stored_bytes = [way.stored_bytes()]
                        if isinstance(way, Longshore) and way.measured:
                            outcome.compress_cpu_seconds = float(way.measured.read_text())
                    except Exception as error:  # as above
                        outcome.error = f"{type(error).__name__}: {error}"
                    self.bench.keep(outcome)

    def _ten(self, wanted: Sequence[Cell]) -> None:
        """Save ten builds, and look each time at what is stored."""
        missing = [cell for cell in wanted if cell not in self.done]
        for store in dict.fromkeys(self.ways[cell.pipeline].image_store for cell in missing):
            here = [cell for cell in missing if self.ways[cell.pipeline].image_store == store]
            ways = {cell: self._fresh(cell) for cell in here}
            outcomes = {cell: Outcome(cell) for cell in here}
            first = type(ways[here[0]])
            with self.bench.machine(self.project, first, Version()) as machine:
                for number in range(TEN):
                    machine.write_checkout(Version(1, number))
                    say(f"{self.project.name} {self.network.name}: build {number + 1} of {TEN}")
                    build_plainly(machine, first.builder)
                    for cell, way in ways.items():
                        outcome = outcomes[cell]
                        if outcome.error:
                            continue
                        try:
                            way.tag(machine)
                            before = way.traffic()
                            with way.present(machine):
                                way.save(machine)
                            moved = way.traffic() - before
                            outcome.uploaded_bytes += moved.up
                            outcome.downloaded_bytes += moved.down
                            outcome.stored_bytes.append(way.stored_bytes())
                        except Exception as error:  # as above
                            outcome.error = f"{type(error).__name__}: {error}"
            for outcome in outcomes.values():
                self.bench.keep(outcome)

    def _busy(self, wanted: Sequence[Cell]) -> None:
        """Measure a build that keeps all cores busy, alone and while a sidecar exports."""
        for cell in wanted:
            if cell in self.done:
                continue
            way, outcome = self._fresh(cell), Outcome(cell)
            assert isinstance(way, LongshoreSidecar)
            try:
                with self.bench.machine(self.project, type(way), Version()) as machine:
                    if cell.pair % 2:
                        self._compile_beside_export(way, machine, outcome)
                    with timed(outcome.seconds, "alone"):
                        machine.compile()
                    if not cell.pair % 2:
                        self._compile_beside_export(way, machine, outcome)
            except Exception as error:  # as above
                outcome.error = f"{type(error).__name__}: {error}"
            self.bench.keep(outcome)

    def _compile_beside_export(
        self, way: LongshoreSidecar, machine: Machine, outcome: Outcome
    ) -> None:
        with way.present(machine, exports=True):
            build_plainly(machine, way.builder)
            end = time.monotonic() + LONGEST_SETTLING_SECONDS
            while not way.exports_running():
                if time.monotonic() > end:
                    raise CellFailed("the sidecar did not export what was built")
                time.sleep(0.05)
            with timed(outcome.seconds, "beside an export"):
                machine.compile()
            if not way.exports_running():
                say("the export ended before the build did: the project is too small for this")


def _engine_cpu(machine: Machine) -> float:
    root = machine.engine.root
    return cpu_seconds(processes_of([f"{root}/daemon.json", f"{root}/containerd.toml"]))


@contextlib.contextmanager
def servers(
    bench: Bench, network: Network, options: frozenset[str], hand_over: HandOver
) -> Iterator[Surroundings]:
    """Start fresh servers behind links."""
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=bench.folder, prefix="servers-"))
        )
        weed = find_weed()
        if weed is None:
            raise SystemExit("bench: no `weed` binary: run scripts/setup")
        seaweedfs = stack.enter_context(SeaweedFS(weed))
        bucket = seaweedfs.make_bucket("bench")
        client = boto3.client(
            "s3",
            endpoint_url=seaweedfs.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=ADMIN.access_key,
            aws_secret_access_key=ADMIN.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )

        def stored(prefix: str) -> int:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return sum(each["Size"] for page in pages for each in page.get("Contents", ()))

        registries = {}
        for letter in "de":
            registry = stack.enter_context(Registry(fetch_registry(), folder / letter))
            registries[letter] = registry, stack.enter_context(Link(registry.port, network))
        link = stack.enter_context(Link(seaweedfs.port, network))
        yield Surroundings(folder, bucket, link, registries, stored, options, hand_over)


def startup_seconds() -> list[float]:
    """Measure how long longshore takes to say its version, once the files are in memory."""
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [str(Path(sys.executable).with_name("longshore")), "--version"]
    taken: dict[str, float] = {}
    seconds = []
    for number in range(STARTS + 1):
        taken.clear()
        with timed(taken, "start"):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        if number:
            seconds.append(taken["start"])
    return seconds


def describe(options: frozenset[str], in_memory: bool, hand_over: str) -> dict[str, Any]:
    """Say where and with what this was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "memory_bytes": memory,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "engine": find_engine("28.5").version,
        "engine_data": "tmpfs" if in_memory else "disk",
        "revision": revision.stdout.strip(),
        "options": sorted(options),
        "hand_over": hand_over,
        "startup_seconds": startup_seconds(),
    }


def read_results(file: Path) -> list[Outcome]:
    """Read what was measured before."""
    if not file.exists():
        return []
    lines = file.read_text().splitlines()
    return [Outcome.from_json(json.loads(line)) for line in lines if '"cell"' in line]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench pipelines", description=__doc__)
    lettered = ", ".join(f"{letter} {way.title}" for letter, way in WAYS.items())
    known = [name for name in PROJECTS if name != "small"]
    parser.add_argument("--quick", action="store_true", help="one small project, five minutes")
    parser.add_argument("--project", action="append", choices=[*PROJECTS], help="repeatable")
    parser.add_argument("--network", action="append", choices=[*NETWORKS], help="repeatable")
    parser.add_argument("--builds", help=f"of {','.join(BUILDS)}; usual: {','.join(USUAL_BUILDS)}")
    parser.add_argument("--pipelines", help=f"comma-separated letters: {lettered}")
    parser.add_argument("--pairs", type=int, help="how often each is measured; usual: 3, quick 1")
    parser.add_argument("--tmpfs", action="store_true", help="keep the engines' data in memory")
    parser.add_argument(
        "--hand-over", choices=["api", "cli"], default="api", help="how h tells its sidecar"
    )
    parser.add_argument(
        "--results", type=Path, help="the file of lines; what it has is not measured again"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing, write the report")
    parser.add_argument("--docs", type=Path, help="put tables and charts into this Markdown file")
    options = parser.parse_args(arguments)
    quick: bool = options.quick
    options.project = options.project or (["small"] if quick else known)
    options.network = options.network or (["limited"] if quick else [*NETWORKS])
    usual = USUAL_BUILDS
    options.builds = options.builds.split(",") if options.builds else list(usual)
    letters = options.pipelines or ",".join(QUICK_PIPELINES if quick else WAYS)
    options.pipelines = letters.split(",")
    options.pairs = options.pairs or (1 if quick else 3)
    options.tmpfs = options.tmpfs or quick
    if options.results is None:
        name = time.strftime("quick-%Y%m%d-%H%M%S.jsonl") if quick else "pipelines.jsonl"
        options.results = Path("/var/tmp/longshore-bench") / name
    for wrong in [each for each in options.builds if each not in BUILDS]:
        parser.error(f"there is no build {wrong}")
    for wrong in [each for each in options.pipelines if each not in WAYS]:
        parser.error(f"there is no pipeline {wrong}")
    return options


def measure(options: argparse.Namespace) -> None:
    """Run the campaigns."""
    projects = [PROJECTS[name] for name in options.project]
    cache = fetch(projects)
    available = read_options()
    chosen = []
    for letter in options.pipelines:
        if reason := WAYS[letter].lacks(available):
            say(f"{WAYS[letter].title} is left out: {reason}")
        else:
            chosen.append(letter)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a") as file:
        facts = describe(available, options.tmpfs, options.hand_over)
        file.write(json.dumps({"machine": facts}) + "\n")
    done = {outcome.cell for outcome in read_results(options.results) if not outcome.error}
    with (
        tempfile.TemporaryDirectory(prefix="longshore-bench-", dir="/var/tmp") as folder,
        Mirror(cache) as mirror,
    ):
        bench = Bench(Path(folder), options.tmpfs, mirror.url, options.results)
        for project in projects:
            for name in options.network:
                network = NETWORKS[name]
                wanted = cells(project.name, name, options.builds, chosen, options.pairs)
                if all(cell in done for cell in wanted):
                    continue
                with servers(bench, network, available, options.hand_over) as around:
                    ways = {
                        letter: WAYS[letter](around, f"{project.name}-{letter}")
                        for letter in in_turn(chosen, 0)
                    }
                    campaign = Campaign(bench, project, network, around, ways, done)
                    campaign.run(options.builds, options.pairs)


def main() -> int:
    """Measure what was asked for, and report."""
    options = parse(sys.argv[1:])
    if not options.report:
        for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has them ignored
            signal.signal(number, signal.default_int_handler)
        try:
            measure(options)
        except CannotFetchError as error:
            sys.stderr.write(f"bench: {error}\n")
            return 3
        except KeyboardInterrupt:
            say(f"stopped; the same command goes on from {options.results}")
    write_report(options.results, options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
