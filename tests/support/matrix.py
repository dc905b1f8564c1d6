"""What a build runs without a cache, on the machine of the last build, and after an import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import ImageNotFound
from tests.support.builds import Builder, Steps
from tests.support.engines import ThrowawayEngine
from tests.support.images import import_busybox, transfer
from tests.support.machines import NOTHING, Machine, Told
from tests.support.scenarios import SCENARIOS, Scenario, check_out

BASE = "base:1"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a second build did.

    Attributes:
        kept: how many layers of each image are those of the first build. It does not depend on what
            the builder says: an `install` that runs again makes another layer.
    """

    steps: Steps
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One scenario's second build on three machines.

    Attributes:
        cold: a fresh machine that has the base image, and nothing else.
        local: the machine of the first build.
        imported: a fresh machine that has imported.
        told: what that one was told to build with.
    """

    cold: Rebuilt
    local: Rebuilt
    imported: Rebuilt
    told: Told

    def __str__(self) -> str:
        ran = (self.imported, self.local, self.cold)
        return " / ".join(str(len(rebuilt.steps.ran)) for rebuilt in ran)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one kind of engine does with one builder; version and store are its own words."""

    version: str
    image_store: str
    builder: Builder
    cells: dict[str, Cell]


def measure(start: Callable[[], ThrowawayEngine], builder: Builder, folder: Path) -> Measured:
    """Build, export, import, and build again with something changed.

    Two engines work side by side: the first machine beside the cold one, and then beside the one
    that imports.

    Args:
        start: starts a fresh engine.
        folder: an empty one.
    """
    first, second, third = (start() for _ in range(3))
    import_busybox(first.api, BASE)
    _pull(BASE, first, third)

    def machine(engine: ThrowawayEngine, name: str, *, changed: bool) -> Machine:
        needs_cache = builder == "BuildKit" and engine.image_store == "containerd"
        check_out(folder / name, changed=changed, buildkit_cache=needs_cache)
        return Machine(engine, folder / name, builder, folder / "store")

    before = machine(first, "before", changed=False)
    cold = machine(third, "cold", changed=True)
    local = machine(first, "local", changed=True)
    imported = machine(second, "imported", changed=True)

    with ThreadPoolExecutor() as pool:
        cold_builds = pool.submit(_build_all, cold, {})
        _build_all(before, before.ask())
        layers = _layers(before)
        before.longshore("export")
        imported.longshore("import")
        _pull(BASE, first, second)
        told = imported.ask()
        cold_steps = cold_builds.result()

        local_builds = pool.submit(_build_all, local, {})
        imported_steps = _build_all(imported, told)
        local_steps = local_builds.result()

    def rebuilt(machine: Machine, steps: Mapping[Scenario, Steps]) -> dict[Scenario, Rebuilt]:
        now = _layers(machine)
        return {
            scenario: Rebuilt(steps[scenario], tuple(map(_in_common, layers[scenario], images)))
            for scenario, images in now.items()
        }

    on_cold, on_local = rebuilt(cold, cold_steps), rebuilt(local, local_steps)
    on_imported = rebuilt(imported, imported_steps)
    return Measured(
        first.version,
        _image_store(first),
        builder,
        {
            s.title: Cell(on_cold[s], on_local[s], on_imported[s], told[s.service])
            for s in SCENARIOS
        },
    )


def _build_all(machine: Machine, told: Mapping[str, Told]) -> dict[Scenario, Steps]:
    return {s: machine.build(s, told.get(s.service, NOTHING)) for s in SCENARIOS}


def _layers(machine: Machine) -> dict[Scenario, list[list[str]]]:
    return {scenario: machine.layers(scenario) for scenario in SCENARIOS}


def _pull(image: str, source: ThrowawayEngine, engine: ThrowawayEngine) -> None:
    """Bring an image that a build needs and the import did not bring, as a registry would."""
    try:
        engine.api.images.get(image)
    except ImageNotFound:
        transfer(source.api, engine.api, image)


def _in_common(before: list[str], after: list[str]) -> int:
    """Count the layers at the bottom that are the same."""
    same = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        same += 1
    return same


def _image_store(engine: ThrowawayEngine) -> str:
    """Name the image store as the engine describes it."""
    info: dict[str, Any] = engine.api.info()
    status = [tuple(pair) for pair in info["DriverStatus"]]
    snapshotter = ("driver-type", "io.containerd.snapshotter.v1") in status
    return f"{'containerd' if snapshotter else 'graphdriver'} ({info['Driver']})"
