"""Texts that others wrote do not steer a terminal, whichever command shows them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from longshore import output
from longshore.core.comparing import ImageComparison
from longshore.errors import CorruptData, NotCached
from longshore.ops.buildkit_cache import ImportedCache
from longshore.ops.compare import Comparison
from longshore.ops.imported import ImportedService, ImportResult
from longshore.ops.listing import ListedEntry
from longshore.ops.showing import ShownEntry
from longshore.output_json import plain, problem_json, to_text
from longshore.progress import BarReport, LineReport
from longshore.wording import clean

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "a\rb\nc\x0b\x0c\x1c\x1d\x1e\x85",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe\N{LEFT-TO-RIGHT ISOLATE}",
    "\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}",
    "\ud800 lone",
    "a" + "\N{COMBINING ENCLOSING CIRCLE}" * 500,
    "\N{ZERO WIDTH SPACE}\N{ZERO WIDTH JOINER}\N{WORD JOINER}\ufeff",
    "\0\b\x7f",
    "[red]markup[/red] {0} %s %(x)s",
    "\U000e0041\U000e0042",
]
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.lists(st.sampled_from(HOSTILE)).map("".join),
)
numbers = st.integers(0, 2**63 - 1)
# What fails is plain to see; to make it small would take minutes.
few = settings(max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def of(kind: Any) -> st.SearchStrategy[Any]:
    """Make values of a type, with hostile texts wherever there are texts."""
    known: dict[Any, st.SearchStrategy[Any]] = {
        str: texts,
        int: numbers,
        bool: st.booleans(),
        float: st.floats(0, 1e9),
        NoneType: st.none(),
        datetime: st.datetimes(timezones=st.just(UTC)),
        timedelta: st.timedeltas(timedelta(), timedelta(days=400_000)),
    }
    kind = getattr(kind, "__supertype__", kind)  # Digest
    arguments = get_args(kind)
    if kind in known:
        return known[kind]
    if get_origin(kind) is Literal:
        return st.sampled_from(arguments)
    if get_origin(kind) is tuple:
        return st.lists(of(arguments[0]), max_size=2).map(tuple)
    if isinstance(kind, type) and issubclass(kind, Struct):
        hints = get_type_hints(kind)
        if kind is ImportedService:
            hints["handover"] = NoneType
        return st.builds(kind, **{name: of(hints[name]) for name in kind.__struct_fields__})
    assert arguments, kind
    return st.one_of(*map(of, arguments))


def assert_harmless(shown: str) -> None:
    marks = 0
    for character in shown:
        assert character.isprintable() or character == "\n", repr(character)
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        assert marks <= 4
    assert "\ud800" not in shown


@given(texts)
@example("e\N{COMBINING ACUTE ACCENT}")
def test_cleaned_text_is_harmless(text: str) -> None:
    assert_harmless(clean(text))
    assert "\n" not in clean(text)


@pytest.mark.parametrize(
    "text", ["naïve", "e\N{COMBINING ACUTE ACCENT}", "漢字", "กำปั่น", "🚢", "web:1"]
)
def test_what_people_write_is_left_as_it_is(text: str) -> None:
    assert clean(text) == text


@few
@given(st.lists(of(ListedEntry), max_size=3), st.booleans(), st.none() | st.integers(1, 200))
def test_a_list_is_harmless(entries: list[ListedEntry], full: bool, width: int | None) -> None:
    shown = output.list_text(entries, full=full, width=width)

    assert_harmless(shown)
    assert shown.count("\n") <= 4 * len(entries) + 1


@few
@given(of(ShownEntry), st.booleans())
def test_an_entry_is_shown_without_harm(entry: ShownEntry, full: bool) -> None:
    assert_harmless(output.show_text(entry, full=full))


@few
@given(of(Comparison), st.booleans())
def test_a_comparison_is_shown_without_harm(comparison: Comparison, full: bool) -> None:
    assert_harmless(output.diff_text(comparison, full=full))


@few
@given(
    st.builds(
        ImportResult,
        st.lists(of(ImportedService), max_size=2),
        st.lists(of(ImportedCache), max_size=2),
        numbers,
        st.floats(0, 1e6),
    )
)
def test_the_result_of_an_import_is_shown_without_harm(result: ImportResult) -> None:
    assert_harmless(output.import_text(result))


@few
@given(
    of(ListedEntry) | of(ShownEntry) | of(Comparison) | of(ImageComparison),
    texts,
)
def test_json_is_of_printable_ascii_and_is_valid(value: Any, text: str) -> None:
    written = to_text(
        {"value": plain(value), "error": problem_json(CorruptData(text), f"web: {text}")}
    )

    assert written.isascii()
    assert all(line.isprintable() for line in written.split("\n"))
    assert json.loads(written)["error"]["message"] == f"web: {text}"


@given(texts)
@example("x" * 1_000_000)
def test_narration_is_harmless_and_of_bearable_length(text: str) -> None:
    stream = io.StringIO()
    report = LineReport(stream, quiet=False, colour=False)

    report.line(text)
    report.warn(CorruptData(text))
    report.warn(NotCached(text), f"web: {text}")
    report.fail(CorruptData(text))
    report.begin(text, 10)
    report.advance(5)
    report.end()

    lines = stream.getvalue().split("\n")
    assert len(lines) <= 6
    for line in lines:
        assert_harmless(line)
        assert len(line) < 50_000


def test_narration_beside_a_bar_is_harmless() -> None:
    for text in HOSTILE:
        stream = io.StringIO()
        report = BarReport(stream, quiet=False, colour=False)
        report.begin("downloading", 10)
        before = len(stream.getvalue())
        report.warn(CorruptData(text))
        said = stream.getvalue()[before:]
        report.close()

        assert clean(text) in said
        assert "owned\x07" not in said
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in said


def test_what_the_terminal_has_no_letters_for_is_escaped_and_no_crash() -> None:
    code = (
        "from longshore.wiring import real_world as w; w().stdout.write('caf\\u00e9\\u2026\\ud800')"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, b"caf\\xe9\\u2026\\ud800")
