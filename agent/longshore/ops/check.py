"""Check a project: is all that its entries need there, and is it sound? Nothing is changed.

Every document is read, and held against the others and against the sizes of packs. What is in the
packs is read if that is asked for: all of it, or a share that is another one each time.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from longshore.core.damage import Cost, Damage, Lost, assess
from longshore.core.documents import printable
from longshore.core.gc_documents import ObjectName, is_recipe, object_key
from longshore.core.keys import EntryKey
from longshore.core.rebuild_plan import choose_share
from longshore.errors import AccessDenied
from longshore.ops.examining import Examined, Examiner
from longshore.ops.inventory import LISTED_AT_ONCE
from longshore.ops.report import Report
from longshore.ops.tasks import for_each
from longshore.ops.verifying import Verified, Verifier
from longshore.store.contract import ObjectInfo, Store

_DENIED_SHOWN = 10
_SEED_BYTES = 16


class CheckSettings(Struct, frozen=True):
    """How a check runs.

    Args:
        share: of what recipes name in packs: 0 to read no pack, 1 to read all.
        window_bytes: how much to read ahead.
        random: makes so many random bytes.
    """

    share: float
    window_bytes: int
    random: Callable[[int], bytes]


class DamagedObject(Struct, frozen=True):
    """An object that is damaged or missing.

    Attributes:
        problem: what is wrong, in one line.
        costs: the services whose entries cannot be loaded because of it; none of what only costs
            that prune cannot delete anything: its notes, and recipes that only documents of newer
            versions name.
    """

    url: str
    problem: str
    costs: tuple[Cost, ...]


class LostEntry(Struct, frozen=True):
    """An entry that cannot be loaded.

    Attributes:
        newest: it is the newest of its service and platform, so nothing can be imported.
        reason: what is damaged, as URLs, the entry itself among them.
        next: id of the entry that will be the newest once this is removed; `None` if none is left.
    """

    key: EntryKey
    info: ObjectInfo
    url: str
    newest: bool
    reason: tuple[str, ...]
    next: str | None


class NotChecked(Struct, frozen=True):
    """A document of a newer longshore: whether it is sound cannot be told."""

    url: str
    reason: str


class CheckResult(Struct, frozen=True):
    """What a check found.

    Attributes:
        damaged_notes: what prune noted down and cannot be read; those are in `damaged` as well.
        layers: that the entries need, each once.
        layers_read: of these, those whose chunks were read.
        layers_not_rebuilt: of these, those that repeat themselves beyond measure.
        unreferenced: recipes and packs that nothing refers to; prune will see to them.
        foreign: objects that are not longshore's.
        denied: objects that may not be read.
    """

    project: str
    damaged: tuple[DamagedObject, ...]
    lost: tuple[LostEntry, ...]
    damaged_notes: tuple[ObjectInfo, ...]
    not_checked: tuple[NotChecked, ...]
    entries: int
    recipes: int
    packs: int
    stored_bytes: int
    layers: int
    layers_read: int
    layers_not_rebuilt: int
    read_bytes: int
    unreferenced: int
    unreferenced_bytes: int
    foreign: int
    denied: int

    @property
    def is_beyond_repair(self) -> bool:
        """Whether something is damaged that repair does not remove."""
        return sum(not one.costs for one in self.damaged) > len(self.damaged_notes)


async def check_project(
    store: Store, project: str, settings: CheckSettings, report: Report
) -> CheckResult:
    """Check one project.

    What may not be read is reported, and the rest is checked.

    Raises:
        StoreError: the store failed, or refuses to list.
    """
    examiner = Examiner(store, project)
    seen = await examiner.examine()
    layers = {
        name: seen.recipes[name].stored_bytes
        for needed in seen.findings.needed.values()
        for name in needed
        if name in seen.recipes
    }
    verified = Verified()
    if settings.share > 0:
        chosen = choose_share(layers, settings.share, settings.random(_SEED_BYTES))
        verifier = Verifier(examiner, report, window_bytes=settings.window_bytes)
        verified = await verifier.verify(chosen)
    _report_denied(seen.denied, report)
    await _forget_removed(store, seen)
    damages, lost = assess(seen.findings, seen.stored_at)
    return _result(store, project, seen, damages, lost, verified, len(layers))


async def _forget_removed(store: Store, seen: Examined) -> None:
    """Leave out entries that went meanwhile: what they needed may have gone with them."""
    _, lost = assess(seen.findings, seen.stored_at)

    async def look(one: Lost) -> None:
        if await store.head(seen.entries[one.key].info.key) is None:
            del seen.entries[one.key]

    await for_each(look, lost, at_once=LISTED_AT_ONCE)


def _report_denied(denied: list[AccessDenied], report: Report) -> None:
    for error in denied[:_DENIED_SHOWN]:
        report.warn(error)
    if len(denied) > _DENIED_SHOWN:
        more = len(denied) - _DENIED_SHOWN
        report.warn(AccessDenied(f"{more} more objects may not be read, so they are not checked"))


def _result(
    store: Store,
    project: str,
    seen: Examined,
    damages: tuple[Damage, ...],
    lost: tuple[Lost, ...],
    verified: Verified,
    layers: int,
) -> CheckResult:
    def url(target: EntryKey | ObjectName) -> str:
        if isinstance(target, EntryKey):
            return store.url(seen.entries[target].info.key)
        return store.url(object_key(project, target))

    damaged = [DamagedObject(url(d.target), printable(d.problem), d.costs) for d in damages]
    damaged += [
        DamagedObject(store.url(info.key), printable(problem), ())
        for info, problem in seen.damaged_notes
    ]
    unreferenced = seen.sizes.keys() - seen.referenced
    return CheckResult(
        project=project,
        damaged=tuple(damaged),
        lost=tuple(
            LostEntry(
                key=one.key,
                info=seen.entries[one.key].info,
                url=url(one.key),
                newest=one.newest,
                reason=tuple(map(url, one.culprits)),
                next=one.next.id if one.next else None,
            )
            for one in lost
        ),
        damaged_notes=tuple(info for info, _ in seen.damaged_notes),
        not_checked=tuple(NotChecked(url, printable(r)) for url, r in sorted(seen.newer.items())),
        entries=len(seen.entries),
        recipes=sum(map(is_recipe, seen.sizes)),
        packs=sum(not is_recipe(name) for name in seen.sizes),
        stored_bytes=sum(seen.sizes.values()) + seen.entry_bytes,
        layers=layers,
        layers_read=verified.blobs,
        layers_not_rebuilt=verified.not_rebuilt,
        read_bytes=verified.read_bytes,
        unreferenced=len(unreferenced),
        unreferenced_bytes=sum(seen.sizes[name] for name in unreferenced),
        foreign=seen.foreign,
        denied=len(seen.denied),
    )
