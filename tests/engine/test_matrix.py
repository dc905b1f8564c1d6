"""An import makes the next build warm: on every engine and image store, with both builders.

The figures are what the table of `docs/engines.md` says. To write them there:

    LONGSHORE_TEST_WRITE_DOCS=1 scripts/test tests/engine/test_matrix.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.engine_fixtures import FreshEngine
from tests.support.builds import BUILDERS, Builder
from tests.support.engines import Generation, ImageStore
from tests.support.images import import_busybox
from tests.support.machines import KINDS, Machine, Told, is_there_memory
from tests.support.matrix import BASE, Cell, measure
from tests.support.matrix_report import Row, difference, write_rows
from tests.support.scenarios import LAYERS_BELOW_INSTALL, SCENARIOS, Scenario, check_out

DOCUMENT = Path(__file__).parents[2] / "docs" / "engines.md"
HOW_TO_WRITE = "to write it: LONGSHORE_TEST_WRITE_DOCS=1 scripts/test tests/engine/test_matrix.py"
(WITHOUT_ENV,) = (scenario for scenario in SCENARIOS if not scenario.has_env)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize(("generation", "image_store"), KINDS)
def test_the_build_after_an_import_runs_the_steps_that_the_last_machine_would_run(
    generation: Generation,
    image_store: ImageStore,
    builder: Builder,
    fresh_engine: FreshEngine,
    tmp_path: Path,
) -> None:
    # On tmpfs an empty directory weighs nothing: there a WORKDIR looks like a step without layer.
    weighs = builder == "classic" and image_store == "containerd"
    in_memory = not weighs and is_there_memory()
    measured = measure(
        lambda: fresh_engine(generation, image_store, in_memory=in_memory), builder, tmp_path
    )

    for scenario in SCENARIOS:
        cell = measured.cells[scenario.title]
        assert not (cell.cold.steps.cached and not scenario.staged), scenario
        assert len(cell.cold.steps.ran) > len(cell.local.steps.ran), scenario
        assert bool(cell.local.steps.ran) == bool(scenario.changed), scenario
        if builder == "classic" and image_store == "containerd":
            check_what_is_left_out(scenario, cell)
        else:
            assert not cell.told.notes
            assert cell.imported == cell.local, scenario
    check_document(
        Row(
            f"Docker {measured.version}",
            measured.image_store,
            measured.builder,
            tuple(str(cell) for cell in measured.cells.values()),
        )
    )


def check_what_is_left_out(scenario: Scenario, cell: Cell) -> None:
    """An image with which the build would fail is not named, and the user is told which and why."""
    if cell.told.cache_from:
        assert not scenario.has_env
        assert cell.imported == cell.local, scenario
        return
    assert scenario.has_env
    assert cell.imported.steps == cell.cold.steps, scenario
    assert max(*cell.imported.kept, *cell.cold.kept) <= LAYERS_BELOW_INSTALL, scenario
    images = (*scenario.stages, scenario.image)
    for image, note in zip(images, cell.told.notes, strict=True):
        assert note.startswith(
            f"{image} is left out: on this image store the classic builder fails at a cached step"
            " that made no layer (ENV "
        )
        assert note.endswith(
            "; build with BuildKit, and give the service"
            f" `x-longshore: {{buildkit_cache: .cache/{scenario.service}}}`"
        )


def check_document(row: Row) -> None:
    """Compare a row with the document, or write it."""
    document = DOCUMENT.read_text(encoding="utf-8")
    if os.environ.get("LONGSHORE_TEST_WRITE_DOCS") == "1":
        document = write_rows(document, [scenario.title for scenario in SCENARIOS], [row])
        DOCUMENT.write_text(document, encoding="utf-8")
    differs = difference(document, row)
    assert not differs, f"docs/engines.md differs. {differs}; {HOW_TO_WRITE}"


@pytest.mark.xfail(reason="the engine says 0 B, which cache-from takes for no layer")
def test_a_directory_that_weighs_nothing_is_a_layer_to_cache_from_as_to_the_classic_builder(
    fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    engine = fresh_engine("28.5", "containerd", in_memory=True)
    import_busybox(engine.api, BASE)
    check_out(tmp_path / "project", changed=False, buildkit_cache=False)
    machine = Machine(engine, tmp_path / "project", "classic", tmp_path / "store")
    machine.build(WITHOUT_ENV)

    assert machine.ask()[WITHOUT_ENV.service] == Told(cache_from=(WITHOUT_ENV.image,))
