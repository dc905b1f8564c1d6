"""What `setup` says: the plan, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from longshore.wording import clean, columns, count

if TYPE_CHECKING:
    from longshore.core.bucket_plan import Step
    from longshore.ops.setup import SetupResult

_WORDS = {"right": "ok", "refused": "unknown"}


def plan_lines(steps: Sequence[Step]) -> list[str]:
    """Tell what each property is or will be, a line or more for each."""
    rows = []
    for step in steps:
        rows.append((_WORDS.get(step.verdict, step.verdict), _said(step)))
        rows += [("", f"note: {note}") for note in step.notes]
    return _lines(rows)


def setup_text(result: SetupResult) -> str:
    """Tell the plan; or what was done, if something was."""
    if not result.to_do:
        return "\n".join([*plan_lines(result.plan), "nothing to change"])
    if not result.agreed:
        rest = "nothing was changed" if result.agreed is False else "nothing was changed yet"
        return "\n".join([*plan_lines(result.plan), f"{_changes(result.to_do)} to make; {rest}"])
    rows = []
    for step in result.plan:
        if step.name in result.done:
            rows.append(("done", step.text))
        elif step.name in result.problems:
            rows.append(("not done", f"{step.text}: {result.problems[step.name]}"))
        else:
            rows.append((_WORDS.get(step.verdict, step.verdict), _said(step)))
        rows += [("", f"note: {note}") for note in step.notes]
    return "\n".join([*_lines(rows), f"{_changes(len(result.done))} made"])


def _said(step: Step) -> str:
    if step.verdict == "change":
        return f"{step.text} (now: {step.now})"
    return f"{step.text}: {step.now}" if step.now else step.text


def _lines(rows: Sequence[tuple[str, str]]) -> list[str]:
    return columns([(word, clean(text)) for word, text in rows]).splitlines()


def _changes(number: int) -> str:
    return count(number, "change")
