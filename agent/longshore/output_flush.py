"""What `flush` says: what it hides, and what it hid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from longshore.core.keys import name_of
from longshore.output_json import plain
from longshore.wording import clean, columns, count, period

if TYPE_CHECKING:
    from longshore.core.entry import Entry
    from longshore.ops.flush import FlushPlan, FlushTarget


def plan_lines(plan: FlushPlan, *, now: bool) -> list[str]:
    """Tell what would be hidden.

    Args:
        now: what nothing refers to any more is then deleted.
    """
    head = ("SCOPE", "SERVICE", "PLATFORM", "ENTRIES", "NEWEST")
    rows = [
        (*_names(target), str(target.entries), period(plan.basis - target.stored_at) + " old")
        for target in plan.targets
    ]
    entries = count(sum(target.entries for target in plan.targets), "entry", "entries")
    lines = columns([head, *rows], right=(3,)).splitlines()
    lines.append(f"{entries} to hide: the next import of these finds nothing")
    if now:
        lines.append(
            "they are removed at once, and all that nothing refers to is deleted from the project"
        )
    return lines


def flushed_text(written: Sequence[Entry]) -> str:
    """Tell what was hidden."""
    lines = [
        f"no cached image for {clean(entry.service)} in scope {clean(entry.scope)}"
        f" ({clean(entry.platform)}) any more; entry {entry.id}"
        for entry in written
    ]
    return "\n".join(lines or ["nothing was flushed"])


def nothing_text(services: Sequence[str], scope: str | None) -> str:
    """Tell that there is nothing to hide."""
    what = clean(", ".join(services)) or "any service"
    where = f"scope {clean(scope)}" if scope is not None else "any scope"
    return f"there is nothing to flush: nothing is cached for {what} in {where}"


def target_json(
    target: FlushTarget, plan: FlushPlan, ids: Mapping[tuple[str, str, str], str]
) -> dict[str, Any]:
    """Describe what one `flushed` entry hides.

    Args:
        ids: of the entries that were written, by the segments of scope, service and platform.
    """
    key = target.newest
    scope, service, platform = (name_of(part) for part in (key.scope, key.service, key.platform))
    return {
        "scope": scope,
        "service": service,
        "platform": platform,
        "entries": target.entries,
        "newest": key.id,
        "stored_at": plain(target.stored_at),
        "age_seconds": plain(plan.basis - target.stored_at),
        "flushed_by": ids.get((key.scope, key.service, key.platform)),
    }


def _names(target: FlushTarget) -> tuple[str, str, str]:
    key = target.newest
    return clean(name_of(key.scope)), clean(name_of(key.service)), clean(name_of(key.platform))
