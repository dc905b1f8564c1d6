"""What `check` says: what is damaged, whom that costs, and what repair would do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from longshore.core.keys import name_of
from longshore.output_json import plain
from longshore.wording import clean, columns, count, size

if TYPE_CHECKING:
    from longshore.core.damage import Cost
    from longshore.core.keys import EntryKey
    from longshore.ops.check import CheckResult, DamagedObject, LostEntry
    from longshore.ops.repair import RepairPlan
    from longshore.store.contract import Store

_MOST_COSTS = 10


def check_text(result: CheckResult, *, every: bool) -> str:
    """Tell what a check found.

    Args:
        every: list all services that damage costs, however many there are.
    """
    name = clean(result.project)
    if result.damaged:
        lost = count(len(result.lost), "entry", "entries")
        what = count(len(result.damaged), "object")
        head = f"{name}: {what} damaged or missing; {lost} cannot be loaded"
    else:
        head = f"{name}: nothing is damaged"
    parts = [head]
    for one in result.damaged:
        parts += _damaged(one, every=every)
    parts.append(columns(list(_facts(result)), indent=2))
    parts += [f"  not checked: {clean(one.url)}: {clean(one.reason)}" for one in result.not_checked]
    return "\n".join(parts)


def _damaged(one: DamagedObject, *, every: bool) -> Iterator[str]:
    yield f"  {clean(one.url)}"
    yield f"    {clean(one.problem)}"
    if not one.costs:
        yield "    costs no service; as long as it is there, prune deletes nothing"
    most = len(one.costs) if every else _MOST_COSTS
    for cost in one.costs[:most]:
        yield f"    costs {_place(cost)}: {_entries(cost)}"
    if len(one.costs) > most:
        yield f"    and {len(one.costs) - most} more; --verbose lists them"


def _entries(cost: Cost) -> str:
    older = cost.entries - cost.newest
    if not cost.newest:
        return f"only {count(older, 'older entry', 'older entries')}"
    more = f", and {count(older, 'older one')}" if older else ""
    return f"the newest entry{more}"


def _facts(result: CheckResult) -> Iterator[tuple[str, str]]:
    objects = (
        count(result.entries, "entry", "entries"),
        count(result.recipes, "recipe"),
        count(result.packs, "pack"),
    )
    yield "checked", f"{', '.join(objects)}; {size(result.stored_bytes)} stored"
    layers = count(result.layers, "layer")
    if result.layers_read:
        yield "read", f"{result.layers_read} of {layers}, {size(result.read_bytes)}"
    elif result.layers:
        yield "read", f"none of {layers}; --read-data reads what is in packs"
    if result.layers_not_rebuilt:
        what = count(result.layers_not_rebuilt, "layer")
        yield "not rebuilt", f"{what} that repeat themselves beyond measure: only their chunks read"
    if result.unreferenced:
        what = count(result.unreferenced, "object")
        unreferenced = size(result.unreferenced_bytes)
        yield "unreferenced", f"{what}, {unreferenced}; prune deletes what nobody can need"
    if result.foreign:
        yield "foreign", f"{count(result.foreign, 'object')} that longshore did not put there"
    if result.denied:
        yield "refused", f"{count(result.denied, 'object')} may not be read"


def repair_lines(store: Store, plans: Sequence[RepairPlan]) -> list[str]:
    """Tell what a repair will do."""
    lines: list[str] = []
    for plan in plans:
        rows = [("remove", _place(one.key), one.key.id, _after(one)) for one in plan.entries]
        lines += [f"{clean(plan.project)}: to be removed, with a note for prune:"] if rows else []
        lines += columns(rows, indent=2).splitlines()
        if plan.notes:
            lines.append(
                f"{clean(plan.project)}: notes of prune that cannot be read, to be put away; the"
                " time that prune waits begins anew for everything:"
            )
            lines += [f"  {clean(store.url(note.key))}" for note in plan.notes]
    return lines


def _after(one: LostEntry) -> str:
    """Say what becomes of the service."""
    if not one.newest:
        return "an older entry"
    if one.next is None:
        return "the newest; nothing is cached then"
    # Of one that cannot be read it is not known whether it said that nothing older counts.
    flushed = "; if this was a flush, it is undone" if one.url in one.reason else ""
    return f"the newest; next is {one.next}{flushed}"


def check_json(result: CheckResult) -> dict[str, Any]:
    """Describe what a check found."""
    return {
        "damaged": [
            {
                "url": one.url,
                "problem": one.problem,
                "costs": [
                    {**_names(cost), "newest": cost.newest, "entries": cost.entries}
                    for cost in one.costs
                ],
            }
            for one in result.damaged
        ],
        "lost": [
            {
                **_names(one.key),
                "id": one.key.id,
                "url": one.url,
                "stored_at": plain(one.info.modified_at),
                "newest": one.newest,
                "reason": list(one.reason),
                "next": one.next,
            }
            for one in result.lost
        ],
        "not_checked": plain(result.not_checked),
        **{
            name: getattr(result, name)
            for name in (
                *("entries", "recipes", "packs", "stored_bytes"),
                *("layers", "layers_read", "layers_not_rebuilt", "read_bytes"),
                *("unreferenced", "unreferenced_bytes", "foreign", "denied"),
            )
        },
    }


def _names(place: Cost | EntryKey) -> dict[str, str]:
    return {
        "scope": name_of(place.scope),
        "service": name_of(place.service),
        "platform": name_of(place.platform),
    }


def _place(place: Cost | EntryKey) -> str:
    names = _names(place)
    return clean(f"{names['service']} of scope {names['scope']} ({names['platform']})")
