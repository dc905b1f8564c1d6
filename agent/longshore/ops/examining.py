"""Read and check all documents of a project: entries, recipes, and the notes of prune.

Only reads. What is damaged is found out about each document on its own; what that costs is for
`core.damage`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from datetime import datetime

from msgspec import Struct, field
from msgspec.structs import replace

from longshore.core import codec
from longshore.core.archive_form import ArchiveForm
from longshore.core.damage import Findings, RecipeNeeds, needs_of
from longshore.core.documents import MAX_STORED_DOCUMENT_BYTES, peek
from longshore.core.entry import Entry, decode_entry
from longshore.core.envelope import unseal
from longshore.core.gc_documents import (
    ObjectName,
    decode_gc,
    gc_prefix,
    is_recipe,
    name_of_ref,
    object_key,
    parse_gc_key,
    parse_object_key,
)
from longshore.core.keys import EntryKey, Ref, is_segment, parse_entry_key, scopes_prefix, segment
from longshore.core.layout_form import LayoutForm
from longshore.core.recipe import Recipe, decode_recipe
from longshore.errors import (
    AccessDenied,
    CorruptData,
    LongshoreError,
    ObjectMissing,
    UnsupportedFormat,
)
from longshore.ops.inventory import LISTED_AT_ONCE, READ_AT_ONCE, list_all_entries, list_scopes
from longshore.ops.newest import FoundEntry
from longshore.ops.reachable import MAX_AGE_OF_BASIS
from longshore.ops.tasks import for_each
from longshore.store.contract import ObjectInfo, Store

LARGE_DOCUMENT_BYTES = 1 << 20  # of JSON; read, it takes several times that
_TOO_LATE = "it was published more than 12 hours after its export began, so parts of it may be gone"


class Examined(Struct):
    """A project's documents, as far as they can be read.

    Attributes:
        entries: all that are there, whatever they hold.
        findings: what is wrong with entries and recipes, and with packs as far as sizes tell.
        recipes: what each recipe needs that an entry needs and that can be read.
        referenced: all that documents refer to, including what only those of newer versions do.
        sizes: every recipe and pack that is there.
        note_infos: the documents of `gc/`.
        damaged_notes: those of them that cannot be read, and why.
        newer: documents of a newer version, and what they need: URL and reason.
        denied: what may not be read.
        foreign: objects that are not longshore's.
        entry_bytes: what the entries weigh.
    """

    entries: dict[EntryKey, FoundEntry] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    recipes: dict[ObjectName, RecipeNeeds] = field(default_factory=dict)
    referenced: set[ObjectName] = field(default_factory=set)
    sizes: dict[ObjectName, int] = field(default_factory=dict)
    note_infos: list[ObjectInfo] = field(default_factory=list)
    damaged_notes: list[tuple[ObjectInfo, str]] = field(default_factory=list)
    newer: dict[str, str] = field(default_factory=dict)
    denied: list[AccessDenied] = field(default_factory=list)
    foreign: int = 0
    entry_bytes: int = 0

    @property
    def stored_at(self) -> dict[EntryKey, datetime]:
        """The store time of every entry."""
        return {key: found.info.modified_at for key, found in self.entries.items()}


class Examiner:
    """Examine one project.

    Args:
        told_entry: is given every entry that can be read, as long as it is at hand.
        told_recipe: likewise every recipe, of those that an entry refers to.
    """

    def __init__(
        self,
        store: Store,
        project: str,
        *,
        told_entry: Callable[[EntryKey, Entry], None] | None = None,
        told_recipe: Callable[[ObjectName, Recipe], None] | None = None,
    ) -> None:
        self.store = store
        self.project = project
        self._told_entry = told_entry
        self._told_recipe = told_recipe
        self.seen = Examined()
        self._names: dict[ObjectName, ObjectName] = {}
        self._scopes: frozenset[str] = frozenset()
        self._large = asyncio.Lock()

    async def examine(self) -> Examined:
        """Read everything, in the order in which a reader would: entries, recipes, packs' sizes.

        Raises:
            StoreError: the store failed, or refuses to list.
        """
        seen = self.seen
        folders = await list_scopes(self.store, self.project)
        scopes = [folder for folder in folders if is_segment(folder)]
        self._scopes = frozenset(scopes)
        listed = await list_all_entries(self.store, self.project, scopes)
        seen.entries = {found.key: found for found in listed}
        await for_each(self._read_entry, listed, at_once=READ_AT_ONCE)
        # What an entry needs was stored before it, so it is there to be listed afterwards.
        wanted = {name for name in seen.referenced if is_recipe(name)}
        await for_each(self._read_recipe, sorted(wanted), at_once=READ_AT_ONCE)
        await self._list_objects(scopes)
        await self._find_short_packs()
        await self._read_notes()
        return seen

    async def recipe(self, name: ObjectName) -> Recipe:
        """Read a recipe.

        Raises:
            UnsupportedFormat: a newer longshore wrote it.
            CorruptData: it is missing or damaged.
        """
        stored = await self.store.get(
            object_key(self.project, name), limit_bytes=MAX_STORED_DOCUMENT_BYTES
        )
        return await self._decode(name, stored.data)

    def missing(self, name: ObjectName) -> str:
        """Say that an object is not there."""
        scope = name.partition("/")[0]
        return "it is missing" + ("" if scope in self._scopes else ", as is its whole scope")

    def shared(self, names: Iterable[ObjectName]) -> tuple[ObjectName, ...]:
        """Give one text to each name: there are many references, and few objects."""
        return tuple(dict.fromkeys(self._names.setdefault(name, name) for name in names))

    async def _read_entry(self, found: FoundEntry) -> None:
        seen, url = self.seen, self.store.url(found.info.key)
        seen.entry_bytes += found.info.size_bytes
        try:
            stored = await self.store.get(found.info.key, limit_bytes=MAX_STORED_DOCUMENT_BYTES)
            payload = unseal(stored.data).payload
            async with self._room(payload):
                opened = await asyncio.to_thread(_open_entry, payload, self.project, found.key)
            seen.referenced.update(self.shared(opened.refs))
            entry = opened.require()
            if stored.modified_at - entry.basis > MAX_AGE_OF_BASIS:
                raise CorruptData(_TOO_LATE)
            needed = self.shared(map(name_of_ref, entry.recipe_refs().values()))
            seen.findings.needed[found.key] = needed
            if named := tuple(name for name in opened.refs if name not in needed):
                seen.findings.named[found.key] = self.shared(named)
            if self._told_entry is not None:
                self._told_entry(found.key, entry)
        except ObjectMissing:
            del seen.entries[found.key]  # removed meanwhile
        except UnsupportedFormat as error:
            seen.newer[url] = str(error)
        except AccessDenied as error:
            seen.denied.append(error)
        except CorruptData as error:
            seen.findings.problems[found.key] = without_url(url, error)

    async def _read_recipe(self, name: ObjectName) -> None:
        seen = self.seen
        url = self.store.url(object_key(self.project, name))
        try:
            stored = await self.store.get(
                object_key(self.project, name), limit_bytes=MAX_STORED_DOCUMENT_BYTES
            )
            async with self._room(stored.data):
                try:
                    packs = await asyncio.to_thread(_refs_of, stored.data)
                except CorruptData:
                    seen.findings.unreadable.add(name)
                    raise
            seen.referenced.update(self.shared(packs))
            recipe = await self._decode(name, stored.data)
            needs = needs_of(recipe)
            ends = {self._names.setdefault(pack, pack): end for pack, end in needs.ends.items()}
            seen.recipes[name] = replace(needs, ends=ends)
            if self._told_recipe is not None:
                self._told_recipe(name, recipe)
        except UnsupportedFormat as error:
            seen.newer[url] = str(error)
        except AccessDenied as error:
            seen.denied.append(error)
        except ObjectMissing:
            seen.findings.blame(name, name, self.missing(name))
        except CorruptData as error:
            seen.findings.blame(name, name, without_url(url, error))

    async def _decode(self, name: ObjectName, stored: bytes) -> Recipe:
        scope, _, identifier = name.partition("/")
        async with self._room(stored):
            return await asyncio.to_thread(decode_recipe, stored, Ref(scope, identifier))

    def _room(self, frame: bytes) -> asyncio.Lock | nullcontext[None]:
        """Have only one large document taken apart at a time."""
        return self._large if codec.content_size(frame) > LARGE_DOCUMENT_BYTES else nullcontext()

    async def _list_objects(self, scopes: Collection[str]) -> None:
        """List what lies in the scopes, and count what longshore did not put there."""
        seen, root = self.seen, segment(self.project)

        async def list_folder(prefix: str) -> None:
            async for info in self.store.list(prefix):
                name = parse_object_key(info.key)
                if name is not None:
                    seen.sizes[self._names.get(name, name)] = info.size_bytes
                elif parse_entry_key(info.key) is None:
                    seen.foreign += 1

        prefixes = [f"{scopes_prefix(self.project)}{scope}/" for scope in scopes]
        prefixes += [
            f"{root}/{folder}/"
            async for folder in self.store.list_folders(f"{root}/")
            if folder not in ("scopes", "gc") and is_segment(folder)
        ]
        await for_each(list_folder, prefixes, at_once=LISTED_AT_ONCE)

    async def _find_short_packs(self) -> None:
        """Hold what recipes need of packs against their sizes."""
        seen = self.seen
        ends: dict[ObjectName, int] = {}
        for needs in seen.recipes.values():
            for pack, end in needs.ends.items():
                ends[pack] = max(ends.get(pack, 0), end)
        short = [pack for pack, end in ends.items() if seen.sizes.get(pack, -1) < end]

        async def look_again(pack: ObjectName) -> tuple[ObjectName, int | None]:
            info = await self.store.head(object_key(self.project, pack))
            return pack, None if info is None else info.size_bytes

        sizes = dict(await for_each(look_again, short, at_once=LISTED_AT_ONCE))
        for recipe, needs in seen.recipes.items():
            for pack in sizes.keys() & needs.ends.keys():
                size = sizes[pack]
                if size is None:
                    seen.findings.blame(recipe, pack, self.missing(pack))
                elif size < needs.ends[pack]:
                    text = f"it ends after {size:,} bytes, and {ends[pack]:,} are needed"
                    seen.findings.blame(recipe, pack, text)

    async def _read_notes(self) -> None:
        seen = self.seen

        async def read(info: ObjectInfo) -> None:
            found = parse_gc_key(self.project, info.key)
            if found is None:
                seen.foreign += 1
                return
            seen.note_infos.append(info)
            try:
                stored = await self.store.get(info.key, limit_bytes=MAX_STORED_DOCUMENT_BYTES)
                async with self._room(stored.data):
                    await asyncio.to_thread(decode_gc, stored.data, found[1])
            except ObjectMissing:
                seen.note_infos.remove(info)  # a run of prune dropped it
            except UnsupportedFormat as error:
                seen.newer[self.store.url(info.key)] = str(error)
            except AccessDenied as error:
                seen.denied.append(error)
            except CorruptData as error:
                seen.damaged_notes.append((info, without_url(self.store.url(info.key), error)))

        listed = [info async for info in self.store.list(gc_prefix(self.project))]
        await for_each(read, listed, at_once=READ_AT_ONCE)


class _Opened(Struct, frozen=True):
    """An entry, as far as it can be read: what it refers to can be told of those of any version."""

    refs: tuple[ObjectName, ...]
    found: Entry | LongshoreError

    def require(self) -> Entry:
        """Return the entry.

        Raises:
            LongshoreError: it cannot be read.
        """
        if isinstance(self.found, LongshoreError):
            raise self.found
        return self.found


def _open_entry(payload: bytes, project: str, key: EntryKey) -> _Opened:
    refs = _refs_of(payload)
    try:
        entry = decode_entry(payload, project, key)
        _check_form(entry)
    except (CorruptData, UnsupportedFormat) as error:
        return _Opened(refs, error)
    return _Opened(refs, entry)


def _refs_of(stored: bytes) -> tuple[ObjectName, ...]:
    return tuple(dict.fromkeys(map(name_of_ref, peek(stored).refs)))


def _check_form(entry: Entry) -> None:
    """Make sure that an engine of the kind that the entry came from can be sent its images.

    Raises:
        CorruptData: its documents do not lead from the images to the layers.
    """
    if entry.kind == "image":
        form = LayoutForm() if entry.engine.image_store == "containerd" else ArchiveForm()
        form.describe(entry)


def without_url(url: str, error: LongshoreError) -> str:
    """Put an error without the object's URL, which stands before it anyway."""
    return str(error).removeprefix(f"{url}: ").removeprefix(f"{url} ")
