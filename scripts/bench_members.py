"""`docker load` of plain layers beside the same layers compressed by zstd, alternating.

Engines from 23.0 on take compressed members in an archive. Longshore would have to compress them
anew, since it keeps contents and headers apart; so a gain must be larger than what that costs,
which is measured, too.
"""

from __future__ import annotations

import argparse
import statistics
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path

import zstandard
from scripts.bench_core import Bench, alternate, build_image, chain_of, run, spread
from tests.support.images import import_busybox
from tests.support.workload import Workload, write_context

LEVEL = 1
_DOCUMENTS = 1 << 20  # members up to this size stay as they are


def compress_members(plain: Path, compressed: Path) -> float:
    """Write an archive anew with its layers compressed. Returns the seconds of compression."""
    seconds = 0.0
    with tarfile.open(plain) as source, tarfile.open(compressed, "w") as target:
        for member in source:
            content = source.extractfile(member) if member.isreg() else None
            if content is None:
                target.addfile(member)
                continue
            data = content.read()
            if member.size > _DOCUMENTS:
                started = time.perf_counter()
                data = zstandard.ZstdCompressor(level=LEVEL, threads=-1).compress(data)
                seconds += time.perf_counter() - started
                member.size = len(data)
            target.addfile(member, BytesIO(data))
    return seconds


def main() -> None:
    """Measure, and print the comparison."""
    parser = argparse.ArgumentParser(prog="scripts/bench members", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=0.3, help="1.0 is an image of about 1 GB")
    parser.add_argument("--generation", default="28.5", choices=["26.1", "28.5"])
    parser.add_argument("--tmpfs", action="store_true", help="keep the engines' data in memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longshore-bench-", dir="/var/tmp") as folder:
        bench = Bench(Path(folder), options.pairs, options.generation, options.tmpfs)
        context, plain, compressed = (bench.folder / n for n in ("context", "plain", "zstd"))
        context.mkdir()
        full = Workload()
        write_context(
            context,
            "base:1",
            Workload(
                int(full.packages_bytes * options.scale),
                int(full.packages_files * options.scale),
                int(full.modules_bytes * options.scale),
                int(full.modules_files * options.scale),
            ),
        )
        with bench.engine() as engine:
            import_busybox(engine.api, "base:1")
            build_image(engine, context)
            with plain.open("wb") as out:
                ids = chain_of(engine.api, "web:1")
                run(["docker", "save", "web:1", *ids], engine.environment(), stdout=out)
            version = engine.version
        seconds = compress_members(plain, compressed)

        def load(archive: Path) -> float:
            with bench.engine() as fresh:
                return run(["docker", "load", "-q", "-i", archive], fresh.environment()).seconds

        zstd, raw = alternate(options.pairs, lambda: load(compressed), lambda: load(plain))
        sizes = [path.stat().st_size / 1e6 for path in (plain, compressed)]
        print(f"engine {version}; {sizes[0]:,.0f} MB plain, {sizes[1]:,.0f} MB by zstd -{LEVEL}")
        print(f"load of plain members {spread(raw)}")
        print(f"load of zstd members  {spread(zstd)}")
        print(f"ratio {statistics.median(zstd) / statistics.median(raw):.2f}")
        print(f"to compress them takes {seconds:.2f} s on all cores")


if __name__ == "__main__":
    main()
