"""The table of measured engines in `docs/engines.md` is read, compared and written."""

from __future__ import annotations

from pathlib import Path

from tests.support.builds import BUILDERS
from tests.support.machines import KINDS
from tests.support.matrix_report import BEGIN, END, Row, difference, read_rows, write_rows
from tests.support.scenarios import SCENARIOS

OLD = Row("Docker 20.10.24+dfsg1", "graphdriver (overlay2)", "classic", ("0 / 0 / 7",))
NEW = Row("Docker 28.5.2", "graphdriver (overlay2)", "BuildKit", ("1 / 1 / 5",))
EMPTY = f"# Engines\n\n{BEGIN}{END}\nThe end.\n"
DOCUMENT = Path(__file__).parents[1] / "docs" / "engines.md"


def test_rows_that_are_written_are_read_again_and_the_text_around_them_stays() -> None:
    document = write_rows(EMPTY, ["unchanged"], [NEW, OLD])

    assert read_rows(document) == [OLD, NEW]
    assert document.startswith("# Engines\n\n")
    assert document.endswith("\nThe end.\n")


def test_a_row_takes_the_place_of_the_one_of_an_earlier_patch_release() -> None:
    newer = Row("Docker 28.5.10", NEW.image_store, NEW.builder, ("2 / 2 / 5",))
    document = write_rows(EMPTY, ["unchanged"], [OLD, NEW])

    assert read_rows(write_rows(document, ["unchanged"], [newer])) == [OLD, newer]


def test_rows_are_sorted_by_release_store_and_builder() -> None:
    rows = [
        Row(f"Docker {release}", store, builder, ())
        for release in ("20.10.1", "100.0.0")
        for store in ("graphdriver (overlay2)", "containerd (overlayfs)")
        for builder in ("classic", "BuildKit")
    ]

    assert read_rows(write_rows(EMPTY, [], reversed(rows))) == rows


def test_what_was_measured_differs_from_other_figures_and_from_no_row() -> None:
    document = write_rows(EMPTY, ["unchanged"], [NEW])
    cold = Row(NEW.engine, NEW.image_store, NEW.builder, ("5 / 1 / 5",))
    patched = Row("Docker 28.5.9+dfsg1", NEW.image_store, NEW.builder, NEW.cells)

    assert difference(document, NEW) == ""
    assert difference(document, patched) == ""
    assert "measured ['5 / 1 / 5'], written ['1 / 1 / 5']" in difference(document, cold)
    assert "there is no such row" in difference(document, OLD)


def test_the_document_has_a_row_for_each_engine_store_and_builder_of_the_matrix() -> None:
    rows = read_rows(DOCUMENT.read_text(encoding="utf-8"))

    releases = [".".join(map(str, row.kind[0])) for row in rows]
    kinds = [
        (release, row.image_store.split()[0], row.builder)
        for release, row in zip(releases, rows, strict=True)
    ]
    assert sorted(kinds) == sorted((*kind, builder) for kind in KINDS for builder in BUILDERS)
    assert {len(row.cells) for row in rows} == {len(SCENARIOS)}
