"""Exports that read the engine's disk, beside `docker save` and exports through it, alternating.

Each store is a fresh directory. CPU is what the kernel accounts to the agent's process, start-up
included; `scripts/bench_cpu.py` tells how much of it was spent in calls that compress.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from scripts.bench_core import (
    Run,
    build_image,
    chain_of,
    drop_caches,
    longshore,
    run,
    spread,
)
from tests.support.engines import ThrowawayEngine, find_engine
from tests.support.images import import_busybox
from tests.support.workload import Workload, write_code, write_context


def uncompressed_seconds(done: Run) -> float:
    """Tell the CPU seconds of an agent's run that it did not spend in calls that compress."""
    return done.cpu_seconds - done.compress_cpu_seconds


def docker_save(engine: ThrowawayEngine, *through: str) -> Run:
    """Save the image and its chain, to nowhere or through a command."""
    ids = chain_of(engine.api, "web:1")
    with open(os.devnull, "wb") as nowhere:
        command = ["docker", "save", "web:1", "deps:1", "base:1", *ids]
        if not through:
            return run(command, engine.environment(), stdout=nowhere)
        saving = subprocess.Popen(command, env=engine.environment(), stdout=subprocess.PIPE)
        done = run(through, engine.environment(), stdin=saving.stdout, stdout=nowhere)
        assert saving.wait() == 0
        return done


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="scripts/bench direct", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 is an image of about 1 GB")
    parser.add_argument("--tmpfs", action="store_true", help="keep the engine's data in memory")
    parser.add_argument("--cold", action="store_true", help="forget what was read of files before")
    parser.add_argument("--gzip", action="store_true", help="measure docker save | gzip, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longshore-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        context, store = folder / "context", folder / "store"
        context.mkdir()
        size = Workload()
        scaled = [
            int(number * options.scale)
            for number in (
                size.packages_bytes,
                size.packages_files,
                size.modules_bytes,
                size.modules_files,
            )
        ]
        write_context(context, "base:1", Workload(*scaled))
        with ThrowawayEngine(find_engine("28.5"), in_memory=options.tmpfs) as engine:
            import_busybox(engine.api, "base:1")
            build_image(engine, context)
            (context / "Dockerfile").write_text("FROM deps:1\nCOPY code /app/code\n")
            (context / ".dockerignore").write_text("packages\nmodules\n")
            engine.api.images.get("web:1").tag("deps", "1")
            build_image(engine, context)  # from now on only the code is sent to the engine
            measure(engine, context, store, options)


def measure(
    engine: ThrowawayEngine, context: Path, store: Path, options: argparse.Namespace
) -> None:
    """Run the rounds on one engine."""
    total = engine.api.images.get("web:1").attrs["Size"]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, engine"
        f" {engine.version}, data on {'tmpfs' if options.tmpfs else 'disk'},"
        f" {'cold' if options.cold else 'warm'} page cache; image of {total / 1e6:,.0f} MB\n"
    )
    runs: dict[str, list[Run]] = {}

    def take(what: str, done: Run) -> Run:
        runs.setdefault(what, []).append(done)
        return done

    def cold() -> None:
        if options.cold:
            drop_caches()

    def exported(*more: str) -> Run:
        shutil.rmtree(store, ignore_errors=True)
        cold()
        return longshore(
            "export", engine, store, *more, measured=store.with_name("compress-seconds")
        )

    def saved() -> Run:
        cold()
        return docker_save(engine)

    docker_save(engine)  # fills the page cache
    for number in range(options.rounds):
        steps: list[tuple[str, Callable[[], Run]]] = [
            ("docker save > /dev/null", saved),
            ("export through docker save", lambda: exported("--no-direct")),
            ("export direct", exported),
        ]
        for what, step in steps[:: -1 if number % 2 else 1]:
            take(what, step())
        exported()  # what the next export is compared with
        write_code(context, number + 2)
        build_image(engine, context)
        kept = store.with_name("kept")
        shutil.copytree(store, kept)
        take("code changed, direct", longshore("export", engine, store))
        shutil.rmtree(store)
        kept.rename(store)
        take("code changed, through docker save", longshore("export", engine, store, "--no-direct"))
        take("nothing changed", longshore("export", engine, store))
    if options.gzip:
        take("docker save | gzip", docker_save(engine, "gzip"))
    for what, done in runs.items():
        cpu = statistics.median(each.cpu_seconds for each in done)
        rss = max(each.rss_mib for each in done)
        print(f"{what:36} {spread([d.seconds for d in done])}  {cpu:6.2f} s CPU  {rss:4.0f} MiB")
    theirs = statistics.median(each.seconds for each in runs["docker save > /dev/null"])
    direct = runs["export direct"]
    print(f"\ndirect / docker save: {statistics.median(d.seconds for d in direct) / theirs:.2f}")
    for what in ("export direct", "export through docker save"):
        cpu = statistics.median(uncompressed_seconds(each) for each in runs[what])
        print(f"{what}, CPU without compression: {cpu / total * 2**30:.2f} s a GiB")
    print(json.dumps({what: [each.seconds for each in done] for what, done in runs.items()}))


if __name__ == "__main__":
    main()
