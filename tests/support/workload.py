"""A large image of real bytes, for benchmarks: many files, like a service's dependencies.

The bytes come from this machine's own programs and libraries, cut into files whose sizes are
spread as those of real packages are (half of them below 4 KiB), so that they compress as real
layers do. Nothing is downloaded.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOTS = ("/usr/lib", "/usr/share", "/usr/bin", sys.base_prefix, "/opt", "/var/lib", "/etc")
DOCKERFILE = """FROM {base}
COPY packages /usr/lib/packages
COPY modules /app/node_modules
ENV NODE_ENV=production
COPY code /app/code
CMD ["/bin/sh"]
"""


@dataclass(frozen=True)
class Workload:
    """How large the image is."""

    packages_bytes: int = 850_000_000
    packages_files: int = 34_000
    modules_bytes: int = 112_000_000
    modules_files: int = 12_600
    seed: int = 1


def write_context(folder: Path, base: str, workload: Workload) -> None:
    """Write the context of the build: a Dockerfile and the trees that it copies."""
    source = _real_bytes()
    rng = random.Random(workload.seed)
    _write_tree(folder / "packages", source, workload.packages_bytes, workload.packages_files, rng)
    _write_tree(folder / "modules", source, workload.modules_bytes, workload.modules_files, rng)
    write_code(folder, 1)
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))


def write_code(folder: Path, version: int) -> None:
    """Write the project's own code, of which each version differs."""
    (folder / "code").mkdir(exist_ok=True)
    for number in range(50):
        text = f"# version {version}\n" + "print('hello')\n" * number
        (folder / "code" / f"module{number}.py").write_text(text)


def rebuild_modules(folder: Path, *, scattered: int, seed: int) -> None:
    """Make the modules anew as a package manager would that updates one package of about 40 files.

    All files get new times; those of one package other contents, and so do some others.
    """
    rng = random.Random(seed)
    files = sorted(path for path in (folder / "modules").rglob("*") if path.is_file())
    package = files[len(files) // 2].parents[1]
    updated = {path for path in files if package in path.parents}
    for path in sorted(updated | set(rng.sample(files, scattered))):
        path.write_bytes(path.read_bytes() + b"// patched\n")
    for number, path in enumerate(files):
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))


def _write_tree(
    folder: Path, source: Iterator[bytes], size_bytes: int, files: int, rng: random.Random
) -> None:
    # Log-normal: half of the files are small, and a few hold most of the bytes.
    weights = [rng.lognormvariate(0, 2.0) for _ in range(files)]
    scale = size_bytes / sum(weights)
    buffer = bytearray()
    for number, weight in enumerate(weights):
        wanted = max(1, int(weight * scale))
        while len(buffer) < wanted:
            buffer += next(source)
        path = folder / f"package{number // 40}" / f"lib{number % 7}" / f"file{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer[:wanted])
        del buffer[:wanted]


def _real_bytes() -> Iterator[bytes]:
    """Go through the contents of this machine's files, none twice; then through pseudo-random."""
    seen: set[tuple[int, int]] = set()
    for root in ROOTS:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    facts = os.lstat(path)
                    if not os.path.isfile(path) or os.path.islink(path):
                        continue
                    if (facts.st_dev, facts.st_ino) in seen or facts.st_size > 50_000_000:
                        continue
                    seen.add((facts.st_dev, facts.st_ino))
                    with open(path, "rb") as file:
                        yield file.read()
                except OSError:
                    continue
    rng = random.Random(2)
    while True:
        yield rng.randbytes(1 << 16)
