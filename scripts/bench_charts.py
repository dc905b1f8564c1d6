"""The bars of the pipelines' seconds, as small PNGs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import pyplot
from scripts.bench_plan import PHASES, USUAL_BUILDS
from scripts.bench_report import WHAT_CHANGED, Row, title

pyplot.switch_backend("agg")  # files only

# Distinct without colour, too, and for those who see no red.
COLOURS = {"restore": "#0072b2", "build": "#c9c9c9", "save": "#e69f00"}
DOTS_PER_INCH = 90
ENGINE_ALONE = "x"


def draw(rows: Sequence[Row], folder: Path) -> list[str]:
    """Draw one chart for each project and network, and return the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for project, network in dict.fromkeys((row.project, row.network) for row in rows):
        here = [
            row
            for row in rows
            if (row.project, row.network) == (project, network)
            and row.build in USUAL_BUILDS
            and row.pipeline != ENGINE_ALONE
            and row.good
        ]
        if here:
            name = f"{project}-{network}-seconds.png"
            _draw_seconds(here, f"{project}, network {network}", folder / name)
            names.append(name)
        ten = [
            row
            for row in rows
            if (row.project, row.network, row.build) == (project, network, "ten")
            and row.good
            and any(row.good[-1].stored_bytes)
        ]
        if ten:
            name = f"{project}-{network}-stored.png"
            _draw_stored(ten, f"{project}: stored after each of ten builds", folder / name)
            names.append(name)
    return names


def _draw_seconds(rows: Sequence[Row], heading: str, file: Path) -> None:
    builds = [build for build in USUAL_BUILDS if any(row.build == build for row in rows)]
    letters = list(dict.fromkeys(row.pipeline for row in rows))
    figure, axes = pyplot.subplots(
        1,
        len(builds),
        figsize=(2.2 + 2.9 * len(builds), 1.3 + 0.34 * len(letters)),
        sharey=True,
        sharex=True,
        squeeze=False,
    )
    for axis, build in zip(axes[0], builds, strict=True):
        for place, letter in enumerate(letters):
            found = [row for row in rows if (row.build, row.pipeline) == (build, letter)]
            if not found:
                continue
            left = 0.0
            for phase in PHASES:
                width = found[0].phase(phase).median
                axis.barh(
                    place,
                    width,
                    left=left,
                    height=0.7,
                    color=COLOURS[phase],
                    label=phase if not place else None,
                )
                left += width
            spread = found[0].total()
            if spread.count > 1:
                axis.plot([spread.least, spread.most], [place, place], color="black", linewidth=1)
            axis.annotate(
                f" {spread.median:.1f}",
                (max(left, spread.most if spread.count > 1 else 0), place),
                va="center",
                fontsize=8,
            )
        axis.set_title(WHAT_CHANGED[build], fontsize=9)
        axis.set_xlabel("seconds", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.16)
    axes[0][0].set_yticks(range(len(letters)), [title(letter) for letter in letters])
    axes[0][0].invert_yaxis()
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.suptitle(heading, fontsize=10)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(file, dpi=DOTS_PER_INCH)
    pyplot.close(figure)


def _draw_stored(rows: Sequence[Row], heading: str, file: Path) -> None:
    figure, axis = pyplot.subplots(figsize=(7.0, 3.4))
    for row in rows:
        stored = row.good[-1].stored_bytes
        if any(stored):
            axis.plot(
                range(1, len(stored) + 1),
                [value / 1e6 for value in stored],
                marker=".",
                label=title(row.pipeline),
            )
    axis.set_xlabel("builds", fontsize=8)
    axis.set_ylabel("MB", fontsize=8)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)
    axis.set_title(heading, fontsize=10)
    figure.tight_layout()
    figure.savefig(file, dpi=DOTS_PER_INCH)
    pyplot.close(figure)
