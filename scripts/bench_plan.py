"""What a run of the pipelines consists of, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scripts.bench_machine import Version

# What changed since the last build; `first` saves into an empty place and restores nothing, `ten`
# saves ten builds with another dependency each, and looks at what is stored then; `busy` compiles
# on all cores while a sidecar exports what was built just before.
BUILDS = ("nothing", "code", "dependency", "first", "ten", "busy")
BUSY_PIPELINE = "h"
# A registry mounts what it has under another name already: nothing is saved there twice.
REGISTRY_PIPELINES = "de"
USUAL_BUILDS = BUILDS[:3]
PHASES = ("restore", "build", "save")


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: one pipeline, once."""

    project: str
    network: str
    build: str
    pair: int
    pipeline: str


@dataclass(slots=True)
class Outcome:
    """What one measurement came to; `error` says why it came to nothing."""

    cell: Cell
    seconds: dict[str, float] = field(default_factory=dict)
    uploaded_bytes: int = 0
    downloaded_bytes: int = 0
    stored_bytes: list[int] = field(default_factory=list)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    compress_cpu_seconds: float | None = None
    engine_cpu_seconds: float = 0.0
    image_bytes: int = 0
    peak_bytes: int = 0
    steps: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def total_seconds(self) -> float:
        """What the user waits."""
        return sum(self.seconds.values())

    @property
    def export_cpu_per_gib(self) -> float:
        """The agent's processor seconds for each GiB saved, without those of compression."""
        return (self.cpu_seconds["save"] - (self.compress_cpu_seconds or 0)) / self._gib

    @property
    def import_cpu_per_gib(self) -> float:
        """The agent's processor seconds for each GiB restored."""
        return self.cpu_seconds["restore"] / self._gib

    @property
    def _gib(self) -> float:
        return self.image_bytes / (1 << 30)

    def to_json(self) -> dict[str, Any]:
        """Write it as a document."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Outcome:
        """Read it back."""
        return cls(**{**document, "cell": Cell(**document["cell"])})


def in_turn(pipelines: Sequence[str], pair: int) -> list[str]:
    """Order pipelines such that each is early as often as it is late."""
    return list(pipelines) if pair % 2 == 0 else list(pipelines)[::-1]


def cells(
    project: str, network: str, builds: Sequence[str], pipelines: Sequence[str], pairs: int
) -> Iterator[Cell]:
    """List what is measured of one project in one network, in order.

    `ten` is a single one, as it is of bytes only; it and `first` come in the order of BUILDS.
    """
    for build in sorted(builds, key=BUILDS.index):
        for pair in range(1 if build == "ten" else pairs):
            for pipeline in in_turn(pipelines, pair):
                if build == "busy" and pipeline != BUSY_PIPELINE:
                    continue
                if build == "first" and pipeline in REGISTRY_PIPELINES:
                    continue
                yield Cell(project, network, build, pair, pipeline)


def next_version(build: str, before: Version) -> Version:
    """Say what the checkout holds when `build` says what changed."""
    if build == "code":
        return Version(before.code + 1, before.dependency)
    if build == "dependency":
        return Version(before.code, before.dependency + 1)
    return before
