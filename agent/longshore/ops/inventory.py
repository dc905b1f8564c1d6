"""What a project has in the store, and what refers to what: the view of prune, check and stats.

Everything is looked at from outside: documents of all scopes, whoever wrote them, and of newer
versions, too. Of a document only `refs` counts, which every version can read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct, field

from longshore.core.documents import Peek, peek
from longshore.core.envelope import unseal
from longshore.core.gc_documents import (
    ObjectName,
    is_recipe,
    name_of_ref,
    object_key,
    parse_object_key,
)
from longshore.core.keys import EntryKey, parse_entry_key, scopes_prefix
from longshore.errors import CorruptData, LongshoreError, ObjectMissing, UnsupportedFormat
from longshore.ops.newest import FoundEntry
from longshore.ops.room import Room
from longshore.ops.tasks import for_each
from longshore.store.contract import Store

LISTED_AT_ONCE = 16
READ_AT_ONCE = 8


class References(Struct):
    """What entries and recipes refer to.

    Attributes:
        of_entries: the recipes that each entry names; entries that vanished are not in it.
        of_recipes: the packs that each recipe names; recipes that are not there name nothing.
        unreadable: of documents that are there, and whose references cannot be told: the error, by
            the key of the entry or the name of the recipe.
        missing: recipes that an entry names, and that are not there.
        flushed: entries that say that what is older is to be forgotten.
    """

    of_entries: dict[EntryKey, tuple[ObjectName, ...]] = field(default_factory=dict)
    of_recipes: dict[ObjectName, tuple[ObjectName, ...]] = field(default_factory=dict)
    unreadable: dict[EntryKey | ObjectName, LongshoreError] = field(default_factory=dict)
    missing: set[ObjectName] = field(default_factory=set)
    flushed: set[EntryKey] = field(default_factory=set)

    def reached_by(self, entries: Iterable[EntryKey]) -> set[ObjectName]:
        """Collect what entries reach: their recipes, and the packs of these."""
        reached: set[ObjectName] = set()
        for entry in entries:
            reached.update(self.of_entries.get(entry, ()))
        for recipe in tuple(reached):
            reached.update(self.of_recipes.get(recipe, ()))
        return reached

    def is_known(self, entry: EntryKey) -> bool:
        """Tell whether all that an entry reaches is known."""
        return entry in self.of_entries and not any(
            recipe in self.unreadable or recipe in self.missing
            for recipe in self.of_entries[entry]
            if is_recipe(recipe)
        )


async def list_scopes(store: Store, project: str) -> list[str]:
    """List the scopes of a project, as segments of keys."""
    return sorted([scope async for scope in store.list_folders(scopes_prefix(project))])


async def list_all_entries(store: Store, project: str, scopes: Collection[str]) -> list[FoundEntry]:
    """List every entry of some scopes, not only the newest."""

    async def list_scope(scope: str) -> list[FoundEntry]:
        found: list[FoundEntry] = []
        async for info in store.list(f"{scopes_prefix(project)}{scope}/entries/"):
            key = parse_entry_key(info.key)
            if key is not None:
                found.append(FoundEntry(key, info))
        return found

    listed = await for_each(list_scope, scopes, at_once=LISTED_AT_ONCE)
    return [found for entries in listed for found in entries]


async def list_objects(
    store: Store, project: str, scopes: Collection[str]
) -> dict[ObjectName, int]:
    """List every recipe and pack of some scopes, with their sizes in bytes."""
    sizes: dict[ObjectName, int] = {}

    async def list_folder(prefix: str) -> None:
        async for info in store.list(prefix):
            name = parse_object_key(info.key)
            if name is not None:
                sizes[name] = info.size_bytes

    prefixes = [
        f"{scopes_prefix(project)}{scope}/{folder}/"
        for scope in scopes
        for folder in ("recipes", "packs")
    ]
    await for_each(list_folder, prefixes, at_once=LISTED_AT_ONCE)
    return sizes


async def read_references(
    store: Store, project: str, entries: Collection[FoundEntry]
) -> References:
    """Read what entries refer to, and what their recipes do.

    Raises:
        StoreError: the store failed, or refuses a document.
    """
    found = References()
    # One text for each name: there are many references, and few objects.
    names: dict[ObjectName, ObjectName] = {}

    def named(read: Peek) -> tuple[ObjectName, ...]:
        new = (name_of_ref(ref) for ref in read.refs)
        return tuple(dict.fromkeys(names.setdefault(name, name) for name in new))

    room = Room()  # one document is open at a time, however large they are

    async def read_entry(entry: FoundEntry) -> None:
        try:
            read, _ = await room.open(
                store, entry.info.key, lambda stored: peek(unseal(stored).payload)
            )
            found.of_entries[entry.key] = named(read)
            if read.kind == "flushed":
                found.flushed.add(entry.key)
        except ObjectMissing:
            return  # removed meanwhile, by somebody who noted it down
        except (CorruptData, UnsupportedFormat) as error:
            url = store.url(entry.info.key)
            found.unreadable[entry.key] = type(error)(f"{url}: {error}")

    async def read_recipe(name: ObjectName) -> None:
        key = object_key(project, name)
        try:
            read, _ = await room.open(store, key, peek)
            found.of_recipes[name] = named(read)
        except ObjectMissing:
            found.missing.add(name)
        except (CorruptData, UnsupportedFormat) as error:
            found.unreadable[name] = type(error)(f"{store.url(key)}: {error}")

    await for_each(read_entry, entries, at_once=READ_AT_ONCE)
    recipes = {name for refs in found.of_entries.values() for name in refs if is_recipe(name)}
    await for_each(read_recipe, sorted(recipes), at_once=READ_AT_ONCE)
    return found
