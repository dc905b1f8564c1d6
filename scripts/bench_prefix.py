"""An import for a build whose dependency has changed, beside one of the whole image, alternating.

The image holds packages, and after the changed `package.json` a layer of many files, which the next
build makes anew. Both imports go into fresh engines.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Any

from scripts.bench_core import Bench, alternate, build_image, longshore, spread
from tests.support.images import import_busybox, transfer
from tests.support.workload import Workload, write_context

DOCKERFILE = """FROM base:1
COPY packages /usr/lib/packages
COPY package.json /app/package.json
COPY modules /app/node_modules
CMD ["/bin/sh"]
"""


def main() -> None:
    """Measure, and print the comparison."""
    parser = argparse.ArgumentParser(prog="scripts/bench prefix", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--packages", type=int, default=5_000, help="files before the change")
    parser.add_argument("--modules", type=int, default=20_000, help="files after it")
    parser.add_argument("--tmpfs", action="store_true", help="keep the engines' data in memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longshore-bench-", dir="/var/tmp") as folder:
        bench = Bench(Path(folder), options.pairs, "28.5", options.tmpfs)
        context, store = bench.folder / "context", bench.folder / "store"
        context.mkdir()
        write_context(
            context,
            "base:1",
            Workload(
                options.packages * 10_000,
                options.packages,
                options.modules * 9_000,
                options.modules,
            ),
        )
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "package.json").write_text('{"version": 1}')
        results: dict[str, dict[str, Any]] = {}
        cpu: dict[str, list[float]] = {}
        with bench.engine() as first:
            import_busybox(first.api, "base:1")
            build_image(first, context)
            longshore("export", first, store)
            (context / "package.json").write_text('{"version": 2}')

            def load(name: str, *flags: str) -> float:
                began, seconds = _cpu_seconds(), 0.0
                with bench.engine() as fresh:
                    transfer(first.api, fresh.api, "base:1")
                    if flags:
                        done = longshore("import", fresh, store, "--json", *flags)
                        results[name] = json.loads(done.output[done.output.index("{") :])
                        seconds = done.seconds
                cpu.setdefault(name, []).append(_cpu_seconds() - began)
                return seconds

            load("nothing")
            load("nothing")
            ours, whole = alternate(
                options.pairs,
                lambda: load("prefix", f"--for-build={context}"),
                lambda: load("whole", "--whole"),
            )
        (left,) = results["prefix"]["services"]
        share = options.modules / (options.modules + options.packages)
        fell = 1 - statistics.median(ours) / statistics.median(whole)
        idle = statistics.median(cpu["nothing"])  # to start and stop an engine
        used = {name: statistics.median(spent) - idle for name, spent in cpu.items()}
        for name, seconds in (("whole", whole), ("prefix", ours)):
            print(
                f"{name:7} {spread(seconds)}, {used[name]:.1f} s of CPU with the engine's,"
                f" {results[name]['downloaded_bytes']:,} bytes downloaded"
            )
        print(
            f"{left['left_out_reason']}, so {left['steps_left_out']} steps were left out;"
            f" share of the files not loaded {share:.2f}; the time fell by {fell:.2f},"
            f" the CPU time by {1 - used['prefix'] / used['whole']:.2f}"
        )


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
