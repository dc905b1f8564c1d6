"""`--direct` and `--data-root`: where they are set, and what an export then says."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Shell
from tests.support.overlay_root import OverlayRoot


def written(shell: Shell, path: Path) -> str:
    """Write the engine's data root; gives where it is."""
    OverlayRoot(path).write(shell.engine)
    return str(path)


def test_layers_are_read_where_the_engine_says_that_they_lie(built: Shell, tmp_path: Path) -> None:
    built.engine.data_root = written(built, tmp_path / "docker")

    assert built("export", "web") == 0

    assert "3 layers read from the engine's disk\n" in built.out
    assert built.engine.saves == 0


def test_nothing_is_read_if_it_is_turned_off(built: Shell, tmp_path: Path) -> None:
    built.engine.data_root = written(built, tmp_path / "docker")

    document = built.json("export", "web", "--no-direct")

    assert (document["direct_layers"], document["saved_layers"]) == (0, 3)
    assert built.engine.saves == 1


def test_the_root_may_be_named_by_a_variable(built: Shell, tmp_path: Path) -> None:
    built.environment["LONGSHORE_DATA_ROOT"] = written(built, tmp_path / "elsewhere")

    document = built.json("export", "web")

    assert (document["direct_layers"], document["saved_layers"]) == (3, 0)


def test_a_root_that_was_named_and_cannot_be_read_is_told(built: Shell) -> None:
    assert built("export", "web", "--data-root", "/nowhere", "--strict") == 0

    assert "not read from the engine's disk, but saved: /nowhere: No such file" in built.err


def test_the_doctor_tells_which_root_is_read(built: Shell, tmp_path: Path) -> None:
    root = written(built, tmp_path / "docker")

    found = built.json("doctor", "--data-root", root)["findings"]

    assert f"exports read layers from {root}" in {finding["text"] for finding in found}
