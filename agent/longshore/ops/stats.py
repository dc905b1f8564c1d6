"""What a project weighs, what it would weigh without longshore, and how it grows.

Everything is measured: from listings, and from the recipes that entries name. What exports said of
themselves is not used, as one export may be of many services. No pack is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

from msgspec import Struct, field

from longshore.core.chunk_table import ChunkTable, Rows, TableFull
from longshore.core.damage import place_of
from longshore.core.entry import Entry
from longshore.core.gc_documents import ObjectName, name_of_ref
from longshore.core.keys import EntryKey
from longshore.core.recipe import Recipe
from longshore.ops.examining import Examined, Examiner
from longshore.store.contract import Store

G = TypeVar("G")


class StatsSettings(Struct, frozen=True):
    """How figures are made.

    Args:
        limit_bytes: how much memory may be taken to tell chunks apart.
        last: of how many entries of each service it is told what they added.
    """

    limit_bytes: int
    last: int


class Sizes(Struct, frozen=True):
    """What some entries weigh.

    Attributes:
        entries: how many.
        logical_bytes: the images of the newest ones, each with all of its layers.
        all_logical_bytes: likewise of all entries.
        plain_bytes: their distinct chunks, before compression; `None`, as `chunk_bytes`, if there
            are too many to tell them apart.
        chunk_bytes: their distinct chunks, as stored.
    """

    entries: int
    logical_bytes: int
    all_logical_bytes: int
    plain_bytes: int | None
    chunk_bytes: int | None

    @property
    def deduplication(self) -> float | None:
        """How many times over the entries hold what is kept once."""
        return self.all_logical_bytes / self.plain_bytes if self.plain_bytes else None

    @property
    def compression(self) -> float | None:
        """How many times smaller chunks are than what is in them."""
        return (
            self.plain_bytes / self.chunk_bytes if self.plain_bytes and self.chunk_bytes else None
        )


class Held(Struct, frozen=True):
    """What lies in the store.

    Attributes:
        stored_bytes: entries, recipes and packs.
        unreferenced_bytes: the recipes and packs of these that nothing refers to.
    """

    stored_bytes: int
    unreferenced_bytes: int

    @property
    def referenced_bytes(self) -> int:
        """What is needed: entries, and what they refer to."""
        return self.stored_bytes - self.unreferenced_bytes


class ScopeStats(Struct, frozen=True):
    """One scope, by its segment."""

    scope: str
    held: Held
    sizes: Sizes


class Added(Struct, frozen=True):
    """What one entry added: the chunks, as stored, that no earlier entry of the project has."""

    id: str
    stored_at: datetime
    added_bytes: int | None


class ServiceStats(Struct, frozen=True):
    """One service and platform of a scope, by their segments.

    Attributes:
        growth: what its last entries added, the newest first.
    """

    scope: str
    service: str
    platform: str
    sizes: Sizes
    growth: tuple[Added, ...]


class ProjectStats(Struct, frozen=True):
    """The figures of a project.

    Attributes:
        unreadable: documents that are damaged, refused, or of a newer version, so that they are
            not in the figures.
        too_many: there is not the memory to tell chunks apart.
    """

    project: str
    held: Held
    sizes: Sizes
    scopes: tuple[ScopeStats, ...]
    services: tuple[ServiceStats, ...]
    unreadable: int
    too_many: bool


class _Weighed(Struct):
    """What is kept of each document.

    Attributes:
        layers: of each entry: its recipes, and the sizes of layers that are not kept.
        rows: the chunks of each recipe.
    """

    table: ChunkTable | None
    layers: dict[EntryKey, tuple[tuple[ObjectName, ...], int]] = field(default_factory=dict)
    rows: dict[ObjectName, Rows] = field(default_factory=dict)

    def add_entry(self, key: EntryKey, entry: Entry) -> None:
        recipes = tuple(map(name_of_ref, entry.recipe_refs().values()))
        lacking = sum(blob.size for blob in entry.blobs if blob.recipe is None)
        self.layers[key] = (recipes, lacking)

    def add_recipe(self, name: ObjectName, recipe: Recipe) -> None:
        if self.table is None:
            return
        try:
            self.rows[name] = self.table.add(recipe)
        except TableFull:
            self.table = None
            self.rows.clear()


async def measure_project(store: Store, project: str, settings: StatsSettings) -> ProjectStats:
    """Measure one project.

    Raises:
        StoreError: the store failed, or refuses to list.
    """
    weighed = _Weighed(ChunkTable(limit_bytes=settings.limit_bytes))
    examiner = Examiner(
        store, project, told_entry=weighed.add_entry, told_recipe=weighed.add_recipe
    )
    seen = await examiner.examine()
    return _Measuring(seen, weighed).measure(project, settings.last)


class _Measuring:
    def __init__(self, seen: Examined, weighed: _Weighed) -> None:
        self._seen = seen
        self._weighed = weighed
        self._keys = sorted(weighed.layers.keys() & seen.entries.keys(), key=self._age)
        newest = {place_of(key): key for key in sorted(self._keys, key=lambda key: key.id)}
        self._newest = frozenset(newest.values())

    def measure(self, project: str, last: int) -> ProjectStats:
        seen = self._seen
        held = self._held()
        growth = self._growth()
        by_scope = _grouped(self._keys, lambda key: key.scope)
        by_place = _grouped(self._keys, place_of)
        scopes = sorted(held.keys() | by_scope.keys())
        return ProjectStats(
            project=project,
            held=Held(
                sum(one.stored_bytes for one in held.values()),
                sum(one.unreferenced_bytes for one in held.values()),
            ),
            sizes=self._sizes(self._keys),
            scopes=tuple(
                ScopeStats(scope, held.get(scope, Held(0, 0)), self._sizes(by_scope.get(scope, ())))
                for scope in scopes
            ),
            services=tuple(
                ServiceStats(
                    *place,
                    self._sizes(by_place[place]),
                    tuple(growth[key] for key in reversed(by_place[place][-last:])),
                )
                for place in sorted(by_place)
            ),
            unreadable=len(seen.newer) + len(seen.denied) + len(seen.findings.problems),
            too_many=self._weighed.table is None,
        )

    def _age(self, key: EntryKey) -> tuple[datetime, str]:
        return self._seen.entries[key].info.modified_at, key.id

    def _held(self) -> dict[str, Held]:
        """Add up what lies in each scope."""
        stored: Counter[str] = Counter()
        unreferenced: Counter[str] = Counter()
        for found in self._seen.entries.values():
            stored[found.key.scope] += found.info.size_bytes
        for name, size in self._seen.sizes.items():
            scope = name.partition("/")[0]
            stored[scope] += size
            if name not in self._seen.referenced:
                unreferenced[scope] += size
        return {scope: Held(stored[scope], unreferenced[scope]) for scope in stored}

    def _sizes(self, keys: Iterable[EntryKey]) -> Sizes:
        keys = tuple(keys)
        logical = {key: self._logical(key) for key in keys}
        plain = stored = None
        if self._weighed.table is not None:
            recipes = {name for key in keys for name in self._weighed.layers[key][0]}
            weight = self._weighed.table.weigh(self._rows(recipes))
            plain, stored = weight.plain_bytes, weight.stored_bytes
        return Sizes(
            entries=len(keys),
            logical_bytes=sum(logical[key] for key in keys if key in self._newest),
            all_logical_bytes=sum(logical.values()),
            plain_bytes=plain,
            chunk_bytes=stored,
        )

    def _logical(self, key: EntryKey) -> int:
        recipes, lacking = self._weighed.layers[key]
        known = (self._seen.recipes.get(name) for name in recipes)
        return lacking + sum(needs.size_bytes for needs in known if needs is not None)

    def _growth(self) -> dict[EntryKey, Added]:
        """Tell of each entry what it added, going through all of them from the oldest on."""
        table = self._weighed.table
        seen = bytearray(len(table) if table is not None else 0)
        growth: dict[EntryKey, Added] = {}
        for key in self._keys:
            added = None
            if table is not None:
                recipes = self._weighed.layers[key][0]
                added = table.weigh(self._rows(recipes), seen).stored_bytes
            growth[key] = Added(key.id, self._seen.entries[key].info.modified_at, added)
        return growth

    def _rows(self, recipes: Iterable[ObjectName]) -> Iterable[Rows]:
        return (self._weighed.rows[name] for name in recipes if name in self._weighed.rows)


def _grouped(keys: Iterable[EntryKey], group: Callable[[EntryKey], G]) -> dict[G, list[EntryKey]]:
    groups: dict[G, list[EntryKey]] = {}
    for key in keys:
        groups.setdefault(group(key), []).append(key)
    return groups
