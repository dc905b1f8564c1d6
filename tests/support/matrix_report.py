"""The table of `docs/engines.md`: one row for each engine, image store and builder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

BEGIN = "<!-- what tests/engine/test_matrix.py measured: begin -->\n"
END = "<!-- what tests/engine/test_matrix.py measured: end -->\n"
HEAD = ("engine", "image store", "builder")


@dataclass(frozen=True, slots=True)
class Row:
    """What one kind of engine did with one builder; the first two are the engine's own words."""

    engine: str
    image_store: str
    builder: str
    cells: tuple[str, ...]

    @property
    def kind(self) -> tuple[tuple[int, ...], bool, bool]:
        """What makes rows one and the same, whatever the patch release, and sorts them."""
        release = tuple(int(number) for number in re.findall(r"\d+", self.engine)[:2])
        return release, "containerd" in self.image_store, self.builder != "classic"


def read_rows(document: str) -> list[Row]:
    """Read the table's rows from the document."""
    lines = [line for line in _table(document).splitlines() if line.startswith("|")]
    rows = []
    for line in lines[2:]:
        engine, image_store, builder, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows.append(Row(engine, image_store, builder, tuple(cells)))
    return rows


def write_rows(document: str, scenarios: Sequence[str], rows: Iterable[Row]) -> str:
    """Put rows into the document, each in the place of the one of its kind."""
    kept = {row.kind: row for row in read_rows(document)}
    kept.update((row.kind, row) for row in rows)
    table = "".join(_render(scenarios, [kept[kind] for kind in sorted(kept)]))
    before, _, rest = document.partition(BEGIN)
    return before + BEGIN + table + END + rest.partition(END)[2]


def difference(document: str, row: Row) -> str:
    """Say how the document differs from a row; empty if it does not.

    A new patch release that does the same is no difference.
    """
    name = f"{row.engine}, {row.image_store}, {row.builder}"
    for written in read_rows(document):
        if written.kind == row.kind:
            if written.cells == row.cells:
                return ""
            return f"{name}: measured {list(row.cells)}, written {list(written.cells)}"
    return f"{name}: there is no such row"


def _table(document: str) -> str:
    return document.partition(BEGIN)[2].partition(END)[0]


def _render(scenarios: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    yield _line([*HEAD, *scenarios])
    yield "|" + "---|" * (len(HEAD) + len(scenarios)) + "\n"
    for row in rows:
        yield _line([row.engine, row.image_store, row.builder, *row.cells])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
