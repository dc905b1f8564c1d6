"""What a run of the pipelines came to: medians with their spread, tables, JSON, charts."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench_plan import BUILDS, PHASES, USUAL_BUILDS, Outcome
from scripts.bench_ways import WAYS

BEGIN, END = "<!-- pipelines: begin -->", "<!-- pipelines: end -->"
WHAT_CHANGED = {
    "nothing": "nothing changed",
    "code": "code changed",
    "dependency": "a dependency changed",
    "first": "the first save",
    "ten": "ten builds, another dependency each",
    "busy": "a build that keeps all cores busy",
}


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its extremes."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Take the median of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def text(self, unit: float = 1.0, digits: int = 1) -> str:
        """Write it; the extremes only if there are several values."""
        median = f"{self.median / unit:,.{digits}f}"
        if self.count < 2:
            return median
        return f"{median} ({self.least / unit:,.{digits}f}-{self.most / unit:,.{digits}f})"


@dataclass(frozen=True, slots=True)
class Row:
    """All measurements of one pipeline in the same circumstances."""

    project: str
    network: str
    build: str
    pipeline: str
    outcomes: tuple[Outcome, ...]

    @property
    def good(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not outcome.error]

    @property
    def errors(self) -> list[str]:
        return [outcome.error for outcome in self.outcomes if outcome.error]

    def phase(self, name: str) -> Spread:
        """Take the seconds of one phase."""
        return Spread.of([outcome.seconds.get(name, 0.0) for outcome in self.good])

    def total(self) -> Spread:
        """Take the seconds that the user waits."""
        return Spread.of([outcome.total_seconds for outcome in self.good])

    def figure(self, name: str) -> Spread:
        """Take another figure."""
        return Spread.of([float(getattr(outcome, name)) for outcome in self.good])

    def cpu(self) -> Spread:
        """Take the agent's processor seconds; those of the build are the same for all."""
        return Spread.of(
            [
                sum(value for name, value in outcome.cpu_seconds.items() if name != "build")
                for outcome in self.good
            ]
        )


def rows_of(outcomes: Iterable[Outcome]) -> list[Row]:
    """Gather measurements; of a cell that was measured again after it failed, the last counts."""
    last = {outcome.cell: outcome for outcome in outcomes}
    gathered: dict[tuple[str, str, str, str], list[Outcome]] = {}
    for cell, outcome in last.items():
        key = (cell.project, cell.network, cell.build, cell.pipeline)
        gathered.setdefault(key, []).append(outcome)
    order = list(WAYS)
    rows = [Row(*key, tuple(found)) for key, found in gathered.items()]
    return sorted(
        rows,
        key=lambda row: (
            row.project,
            row.network,
            BUILDS.index(row.build),
            order.index(row.pipeline) if row.pipeline in order else len(order),
        ),
    )


def title(letter: str) -> str:
    """Name a pipeline."""
    return f"({letter}) {WAYS[letter].title}" if letter in WAYS else f"({letter})"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    written = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join(written) + "\n"


def builds_table(rows: Sequence[Row]) -> str:
    """Write the builds of one project in one network, whatever changed."""
    lines: list[list[str]] = []
    for row in rows:
        name = title(row.pipeline)
        if not row.good:
            lines.append([name, f"failed: {row.errors[0][:80]}", *[""] * 9])
            continue
        lines.append(
            [
                name + (f", {len(row.errors)} failed" if row.errors else ""),
                *(row.phase(phase).text() for phase in PHASES),
                row.total().text(),
                row.figure("uploaded_bytes").text(1e6),
                row.figure("downloaded_bytes").text(1e6),
                row.cpu().text(),
                row.figure("engine_cpu_seconds").text(),
                row.figure("peak_bytes").text(1 << 20, 0),
                f"{len(row.good[-1].steps)}",
            ]
        )
    head = ["pipeline", "restore, s", "build, s", "save, s", "sum, s", "up, MB", "down, MB"]
    return table([*head, "agent CPU, s", "engine CPU, s", "agent RSS, MiB", "steps run"], lines)


def first_table(rows: Sequence[Row]) -> str:
    """Write the saves into empty places."""
    lines = [
        [
            title(row.pipeline),
            row.phase("save").text(),
            row.figure("uploaded_bytes").text(1e6),
            row.cpu().text(),
            row.figure("engine_cpu_seconds").text(),
            row.figure("peak_bytes").text(1 << 20, 0),
        ]
        for row in rows
        if row.good
    ]
    head = ["pipeline", "save, s", "up, MB", "agent CPU, s", "engine CPU, s", "agent RSS, MiB"]
    return table(head, lines)


def ten_table(rows: Sequence[Row]) -> str:
    """Write what is stored after ten builds."""
    lines = []
    for row in rows:
        if row.good and (stored := row.good[-1].stored_bytes) and stored[0]:
            outcome = row.good[-1]
            lines.append(
                [
                    title(row.pipeline),
                    f"{stored[0] / 1e6:,.1f}",
                    f"{stored[-1] / 1e6:,.1f}",
                    f"{stored[-1] / stored[0]:.2f}",
                    f"{outcome.uploaded_bytes / 1e6:,.1f}",
                ]
            )
    head = ["pipeline", "after the first, MB", "after ten, MB", "ratio", "uploaded in all, MB"]
    return table(head, lines)


def busy_table(rows: Sequence[Row]) -> str:
    """Write what a background export costs the build beside it."""
    lines = [
        [title(row.pipeline), row.phase("alone").text(), row.phase("beside an export").text()]
        for row in rows
        if row.good
    ]
    return table(["pipeline", "alone, s", "beside an export, s"], lines)


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two medians of one run that must not be more than `most`, plus `slack` seconds."""

    number: str
    text: str
    build: str
    ours: str
    theirs: str
    what: str
    most: float
    slack: float = 0.0


BUSY, GROWN = "busy", "grown"
RATIOS = (BUSY, GROWN)
EXPORT_CPU, IMPORT_CPU = "export_cpu_per_gib", "import_cpu_per_gib"
GOALS = (
    Goal("1", "save, code changed, beside the tarball", "code", "fgh", "b", "save", 0.05),
    Goal("1", "save, code changed, beside the push + 0.8 s", "code", "fg", "d", "save", 1.0, 0.8),
    Goal("1", "the same through a sidecar, + 0.3 s", "code", "h", "d", "save", 1.0, 0.3),
    Goal("2", "uploaded, a dependency changed", "dependency", "fgh", "d", "uploaded_bytes", 0.05),
    Goal("2", "save, a dependency changed", "dependency", "fgh", "d", "save", 0.5),
    Goal("3", "save, nothing changed: 0.8 s", "nothing", "fg", "", "save", 0.0, 0.8),
    Goal("3", "the same through a sidecar: 0.3 s", "nothing", "h", "", "save", 0.0, 0.3),
    Goal("3", "a busy build beside an export, beside one alone", "busy", "h", "", BUSY, 1.1),
    Goal("4", "first save, beside `docker save` to nowhere", "first", "fg", "x", "save", 0.6),
    Goal("5", "restore, beside `docker load`", "nothing", "fghi", "x", "restore", 1.05),
    Goal("5", "restore, beside a pull", "nothing", "fghi", "d", "restore", 1.0),
    Goal("5", "restore of a part, beside the whole", "dependency", "fgh", "i", "restore", 1.0),
    Goal("6", "stored after ten builds, beside the first", "ten", "bcdefgh", "", GROWN, 1.15),
    Goal(
        "7",
        "agent CPU, first save, a GiB, less zstd: 4 s",
        "first",
        "fg",
        "",
        EXPORT_CPU,
        4,
    ),
    Goal("7", "agent CPU, restore, a GiB: 3.5 s", "nothing", "fgh", "", IMPORT_CPU, 3.5),
    Goal("7", "peak RSS of a first save: 300 MiB", "first", "fgh", "", "peak_bytes", 0, 300 << 20),
    Goal("7", "peak RSS of a build: 300 MiB", "nothing", "fgh", "", "peak_bytes", 0, 300 << 20),
)


STARTUP_SECONDS = 0.15


def value_of(row: Row, what: str) -> float:
    """Take the median that a goal is about."""
    if what in PHASES:
        return row.phase(what).median
    if what == BUSY:
        return row.phase("beside an export").median / row.phase("alone").median
    if what == GROWN:
        return statistics.median(
            outcome.stored_bytes[-1] / outcome.stored_bytes[0] for outcome in row.good
        )
    return row.figure(what).median


def goals_table(rows: Sequence[Row], starts: Sequence[float] = ()) -> str:
    """Compare what was measured with the goals, as ratios of one run."""
    lines = []
    if starts:
        text = ["1", "`longshore --version`", "", "", ""]
        median = statistics.median(starts)
        lines.append([*text, f"{median:.3f} s", "0.15 s", yes(median <= STARTUP_SECONDS)])
    places = dict.fromkeys((row.project, row.network) for row in rows)
    for goal in GOALS:
        for place in places:
            here = {
                row.pipeline: row
                for row in rows
                if (row.project, row.network) == place and row.build == goal.build and row.good
            }
            for letter in goal.ours:
                if letter not in here or (goal.theirs and goal.theirs not in here):
                    continue
                judged = judge(goal, here[letter], here.get(goal.theirs))
                lines.append([goal.number, goal.text, *place, title(letter), *judged])
    head = ["goal", "what", "project", "network", "pipeline", "is", "is to be at most", "met"]
    return table(head, lines)


def judge(goal: Goal, ours: Row, theirs: Row | None) -> list[str]:
    """Say what is, what is to be, and whether it is so."""
    is_bytes = goal.what.endswith("bytes")
    unit, name = (1e6, " MB") if is_bytes else (1.0, "" if goal.what in RATIOS else " s")
    value = value_of(ours, goal.what)
    if theirs is None:
        most = goal.most or goal.slack
        return [f"{value / unit:,.2f}{name}", f"{most / unit:,.2f}{name}", yes(value <= most)]
    other = value_of(theirs, goal.what)
    most = goal.most * other + goal.slack
    ratio = f"{value / other:.3f} " if other else ""
    return [
        f"{ratio}({value / unit:,.2f}{name} : {other / unit:,.2f}{name})",
        f"{goal.most:g}" + (f" + {goal.slack:g} s" if goal.slack else ""),
        yes(value <= most),
    ]


def yes(met: bool) -> str:
    """Answer."""
    return "yes" if met else "no"


def machine_text(facts: dict[str, Any]) -> str:
    """Say on what was measured."""
    return (
        f"{facts['cores']} cores ({facts['processor']}), {facts['memory_bytes'] / 1e9:.0f} GB,"
        f" Python {facts['python']}, engine {facts['engine']} with its data on"
        f" {facts['engine_data']}, revision {facts['revision']};"
        f" load before the run {facts['load']:.1f}.\n"
    )


def markdown(rows: Sequence[Row], machines: Sequence[dict[str, Any]], charts: Sequence[str]) -> str:
    """Write the whole report."""
    parts = [machine_text(facts) for facts in machines[-1:]]
    for project, network in dict.fromkeys((row.project, row.network) for row in rows):
        here = [row for row in rows if (row.project, row.network) == (project, network)]
        parts.append(f"### {project}, network {network}\n")
        parts += [
            f"![Seconds of each pipeline]({name})\n"
            for name in charts
            if Path(name).name.startswith(f"{project}-{network}-")
        ]
        for build in USUAL_BUILDS:
            if found := [row for row in here if row.build == build]:
                parts += [f"{WHAT_CHANGED[build].capitalize()}:\n", builds_table(found)]
        for build, write in (("first", first_table), ("ten", ten_table), ("busy", busy_table)):
            if found := [row for row in here if row.build == build]:
                parts += [f"{WHAT_CHANGED[build].capitalize()}:\n", write(found)]
    starts = machines[-1].get("startup_seconds", ()) if machines else ()
    parts += ["### Goals\n", goals_table(rows, starts)]
    return "\n".join(parts)


def put_between(text: str, new: str) -> str:
    """Put the report between its marks, or at the end of a text that has none."""
    block = f"{BEGIN}\n\n{new}\n{END}"
    before, begin, rest = text.partition(BEGIN)
    if not begin:
        return f"{text.rstrip()}\n\n{block}\n"
    return before + block + rest.partition(END)[2]


def write_report(results: Path, docs: Path | None) -> None:
    """Write the report beside the results: Markdown, JSON, charts; and into a document, if told."""
    outcomes, machines = [], []
    for line in results.read_text().splitlines():
        document = json.loads(line)
        if "cell" in document:
            outcomes.append(Outcome.from_json(document))
        else:
            machines.append(document["machine"])
    rows = rows_of(outcomes)
    folder = docs.parent / docs.stem if docs else results.with_suffix("")
    charts = _charts(rows, folder)
    text = markdown(rows, machines, [f"{folder.name}/{name}" for name in charts])
    results.with_suffix(".md").write_text(text)
    document = {"machines": machines, "outcomes": [outcome.to_json() for outcome in outcomes]}
    results.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    if docs:
        docs.write_text(put_between(docs.read_text(), text))
    print(text)


def _charts(rows: Sequence[Row], folder: Path) -> list[str]:
    # Not in PYTHONPATH, or every agent that is measured would have it, too.
    sys.path.append(os.environ.get("BENCH_CHARTS", ""))
    try:
        from scripts.bench_charts import draw
    except ImportError:
        print("(no charts: pip install 'longshore[bench]' brings matplotlib)\n")
        return []
    return draw(rows, folder)
