"""Import: give the engine the newest cached images of services, so that the next build is warm.

A cache never makes a build fail: whatever is wrong with one service is reported, counts as a miss
for it, and leaves the others alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from longshore.core.archive_form import require_readable
from longshore.core.builder import Client
from longshore.core.digests import Digest
from longshore.core.dockerfile import Unclear
from longshore.core.engine_facts import parse_version
from longshore.core.entry import Entry
from longshore.core.prefix import Left, tags_of
from longshore.core.recipe import Recipe
from longshore.core.service import Service
from longshore.core.tags import share_out_tags
from longshore.engine.contract import Engine, EngineInfo
from longshore.errors import CorruptData, LongshoreError, NotCached, kept
from longshore.ops.buildkit_cache import ImportedCache, import_cache
from longshore.ops.handing_over import hand_over_services, ignores_images
from longshore.ops.imported import ImportedService, ImportResult
from longshore.ops.loading import FORMS, Loader
from longshore.ops.lookup import Hit, find_entry
from longshore.ops.prefixing import BuildContext, leave_out
from longshore.ops.reachable import Reading
from longshore.ops.rebuilding import RANGE_BYTES
from longshore.ops.recipes import recipes_for
from longshore.ops.report import Report
from longshore.ops.room import READ_AT_ONCE
from longshore.ops.serving_caches import AT_ONCE, ServedCache, serve_cache
from longshore.ops.tasks import for_each, side_by_side

_LOADED_AT_ONCE = 4  # services; more would only share the same cores and the same memory


class ImportSettings(Struct, frozen=True):
    """How an import runs; the defaults live in `config.py`.

    Args:
        window_bytes: how much may be read ahead, for all services together; what documents hold
            counts against it.
        client: finds out what will build; `None` if nobody wants to know what to tell it.
        contexts: what services will be built from; of them only what can still hit is loaded.
        builds: the services that are built for sure, right after this import.
        builds_with: finds out what will build these; `None` if that does not matter.
        serve: takes caches that these builds fetch themselves; `None` to write them before.
    """

    window_bytes: int
    clock: Callable[[], float]
    client: Callable[[], Client] | None = None
    contexts: Mapping[str, BuildContext] = field(default_factory=dict)
    builds: frozenset[str] = frozenset()
    builds_with: Callable[[], Client] | None = None
    serve: Callable[[ServedCache], None] | None = None


async def import_services(
    engine: Engine,
    reading: Reading,
    services: Sequence[Service],
    settings: ImportSettings,
    report: Report,
) -> ImportResult:
    """Load the newest entry of each service into the engine.

    Raises:
        EngineUnavailable: the engine cannot be reached.
        StoreError: the store cannot be asked what it has. What fails later is a miss.
    """
    return await _Import(engine, reading, settings, report).run(services)


class _Import:
    def __init__(
        self, engine: Engine, reading: Reading, settings: ImportSettings, report: Report
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._settings = settings
        self._report = report
        self._result = ImportResult()
        self._loads = asyncio.Semaphore(_LOADED_AT_ONCE)
        self._expected: dict[Digest, Recipe] = {}
        self._left: dict[str, Left] = {}
        self._unpacking = False
        self._unpacked_early = 0

    async def run(self, services: Sequence[Service]) -> ImportResult:
        started = self._settings.clock()
        info = await self._engine.info()
        hits = await self._find([s for s in services if s.keeps_image], info)
        await self._import_caches(services, info.platform)
        for name in await self._unused(hits, info):
            self._leave_out(name, hits.pop(name))
        if hits:
            found = {name: hit.entry for name, hit in hits.items()}
            own = {s.name: frozenset(ref.familiar for ref in s.images) for s in services}
            shared_out = share_out_tags(found, own)
            hits = {name: replace(hit, entry=shared_out[name]) for name, hit in hits.items()}
            loader = Loader(
                self._engine,
                self._reading,
                FORMS[info.image_store],
                self._report,
                window_bytes=self._window_bytes,
                fetched=self._fetched,
                unpacked=self._unpacked,
            )
            await loader.look([hit.entry for hit in hits.values()])
            images = {service.name: service.images for service in services}
            hits = {
                name: replace(hit, entry=loader.leave_foreign_tags(name, hit.entry, images[name]))
                for name, hit in hits.items()
            }
            by_name = {service.name: service for service in services}
            for name, hit in hits.items():
                if name in self._settings.contexts:
                    cut = await self._cut(loader, by_name[name], hit.entry, found)
                    hits[name] = replace(hit, entry=cut)
            await self._load_all(loader, by_name, hits)
        await self._hand_over(services)
        order = [service.name for service in services]
        self._result.services.sort(key=lambda done: order.index(done.service))
        self._result.seconds = self._settings.clock() - started
        return self._result

    async def _find(self, services: Sequence[Service], info: EngineInfo) -> dict[str, Hit]:
        """Find the entries of all services side by side; report those that have none."""
        found: dict[str, Hit | LongshoreError | None] = {}

        async def find(service: Service) -> None:
            try:
                hit = await find_entry(self._reading, service.name, info.platform)
                if hit is not None:
                    self._reading.room.take(hit.entry.held_bytes)
                    FORMS[info.image_store].describe(
                        hit.entry
                    )  # what cannot be described is a miss, here
                    if info.image_store == "graphdriver":
                        require_readable(hit.entry, parse_version(info.version))
                found[service.name] = hit
            except (CorruptData, NotCached) as error:
                found[service.name] = kept(error)

        await for_each(find, services, at_once=READ_AT_ONCE)
        hits: dict[str, Hit] = {}
        for service in services:
            hit = found[service.name]
            if isinstance(hit, Hit):
                hits[service.name] = hit
                for passed in hit.passed:
                    self._report.line(f"{service.name}: {passed}")
            elif hit is None:
                reason = f"no cached image for {service.name}"
                if service.buildkit_cache is None:
                    self._report.warn(NotCached(reason))
                else:
                    self._report.line(reason)
                self._done(service.name, "miss", reason)
            else:
                self._miss(service.name, hit)
        return hits

    async def _unused(self, hits: Mapping[str, Hit], info: EngineInfo) -> list[str]:
        """Name the services whose images nobody will look at.

        They are built from their cache directories, by a builder that does not look at images. What
        else an entry holds, such as a base image, others may need.
        """
        cached = {cache.service for cache in self._result.caches if cache.outcome == "hit"}
        unused = [
            name
            for name, hit in hits.items()
            if name in cached & self._settings.builds and len(hit.entry.images) == 1
        ]
        if not unused or self._settings.builds_with is None:
            return []
        try:
            return unused if await ignores_images(self._settings.builds_with, info) else []
        except LongshoreError as error:
            self._report.line(f"what will build cannot be told, so images are loaded ({error})")
            return []

    def _leave_out(self, service: str, hit: Hit) -> None:
        self._result.services.append(
            ImportedService(
                service=service,
                outcome="hit",
                scope=hit.entry.scope,
                entry=hit.entry.id,
                age=hit.age,
                layers=len(hit.entry.blobs),
                left=Left(
                    reason="BuildKit builds it from its cache directory",
                    size_bytes=sum(blob.size for blob in hit.entry.blobs),
                ),
            )
        )

    async def _cut(
        self, loader: Loader, service: Service, entry: Entry, found: Mapping[str, Entry]
    ) -> Entry:
        """Leave out what the next build of a service certainly cannot use.

        Args:
            found: all entries as they are stored: a base image that several services have goes with
                one of them, and is the base image of all.
        """
        if not entry.images or entry.images[0].parent is None:
            return entry  # as BuildKit's are
        if loader.knows(entry, service.images):
            return entry  # a machine that is kept has more to build on than this entry
        bases: dict[str, set[Digest]] = {}
        for tag, config in tags_of(found.values()):
            bases.setdefault(tag, set()).add(config)
        bases |= loader.bases(entry)  # the engine keeps its own
        context = self._settings.contexts[service.name]
        try:
            cut = await leave_out(
                self._reading,
                found[service.name],
                entry,
                service,
                context,
                bases,
                window_bytes=self._window_bytes,
                fetched=self._fetched_early,
            )
        except (Unclear, LongshoreError) as reason:
            self._report.line(f"{service.name}: loaded whole: {reason}")
            return entry
        if cut is None:
            return entry
        entry, self._left[service.name] = cut
        return entry

    def _fetched_early(self, size_bytes: int) -> None:
        self._result.downloaded_bytes += size_bytes

    async def _import_caches(self, services: Sequence[Service], platform: str) -> None:
        cached = [service for service in services if service.buildkit_cache is not None]

        async def one(service: Service) -> ImportedCache:
            return await import_cache(
                self._reading,
                service,
                platform,
                window_bytes=self._window_bytes // min(len(cached), _LOADED_AT_ONCE),
                fetched=self._fetched_early,
                report=self._report,
            )

        served = [s for s in cached if self._settings.serve and s.name in self._settings.builds]
        caches = await self._serve_caches(served, platform)
        written = [service for service in cached if service.name not in caches]
        with self._reading.room.for_now():
            for cache in await for_each(one, written, at_once=_LOADED_AT_ONCE):
                caches[cache.service] = cache
        self._result.caches = [caches[service.name] for service in cached]
        for service, cache in zip(cached, self._result.caches, strict=True):
            if not service.keeps_image:
                self._result.services.append(
                    ImportedService(
                        service=cache.service,
                        outcome=cache.outcome,
                        reason=cache.reason,
                        scope=cache.scope,
                        entry=cache.entry,
                        age=cache.age,
                        left=Left("its image is not kept", 0) if cache.outcome == "hit" else None,
                    )
                )

    async def _serve_caches(
        self, services: Sequence[Service], platform: str
    ) -> dict[str, ImportedCache]:
        """Hand over caches to who serves them; what they hold of the memory stays theirs."""
        turns = asyncio.Semaphore(AT_ONCE)
        caches: dict[str, ImportedCache] = {}
        for service in services:
            assert self._settings.serve is not None, "see _import_caches"
            caches[service.name] = await serve_cache(
                self._reading,
                service,
                platform,
                turns,
                window_bytes=self._window_bytes // AT_ONCE,
                serve=self._settings.serve,
                report=self._report,
            )
        return caches

    @property
    def _window_bytes(self) -> int:
        left = self._settings.window_bytes - self._reading.room.held_bytes
        return max(left, RANGE_BYTES)

    async def _hand_over(self, services: Sequence[Service]) -> None:
        """Find out what makes the next builds warm; that it cannot be told is no failure."""
        hits = {done.service: done for done in self._result.services if done.outcome == "hit"}
        if not hits or self._settings.client is None:
            return
        chosen = [service for service in services if service.name in hits]
        try:
            client = await asyncio.to_thread(self._settings.client)
            for handover in await hand_over_services(self._engine, chosen, client, str):
                hits[handover.service].handover = handover
                for note in handover.notes:
                    self._report.line(f"{handover.service}: {note}")
        except LongshoreError as error:
            self._report.line(f"what makes the next build warm cannot be told ({error})")

    async def _load_all(
        self, loader: Loader, services: Mapping[str, Service], hits: dict[str, Hit]
    ) -> None:
        recipes: dict[str, dict[Digest, Recipe]] = {}
        for name, hit in list(hits.items()):
            try:
                recipes[name] = await recipes_for(self._reading, hit.entry, loader.lacks(hit.entry))
            except LongshoreError as error:
                self._miss(name, error)
                del hits[name]
        loader.window_bytes = self._window_bytes
        known = {blob: r for by_blob in recipes.values() for blob, r in by_blob.items()}
        self._expected = known
        self._report.begin("downloading", sum(recipe.stored_bytes for recipe in known.values()))
        shared = await loader.load_shared(
            {name: hit.entry for name, hit in hits.items() if recipes[name]}, known
        )
        loader.window_bytes //= max(1, min(len(hits), _LOADED_AT_ONCE))
        async with side_by_side() as group:
            for name, hit in hits.items():
                group.create_task(self._load(loader, services[name], hit, recipes[name]))
        if shared is not None:
            await loader.let_go(shared.images)
        self._report.end()

    async def _load(
        self, loader: Loader, service: Service, hit: Hit, recipes: Mapping[Digest, Recipe]
    ) -> None:
        entry = hit.entry
        try:
            async with self._loads:
                await loader.load(service.name, entry, recipes)
        except LongshoreError as error:
            self._miss(service.name, error)
            return
        tags = tuple(dict.fromkeys(tag for image in entry.images for tag in image.tags))
        self._result.services.append(
            ImportedService(
                service=service.name,
                outcome="hit",
                scope=entry.scope,
                entry=entry.id,
                age=hit.age,
                images=tuple(image.id for image in loader.expected(entry)),
                tags=tags,
                layers=len(entry.blobs),
                layers_sent=len(recipes),
                left=self._left.get(service.name),
            )
        )

    def _fetched(self, size_bytes: int) -> None:
        self._result.downloaded_bytes += size_bytes
        if not self._unpacking:
            self._report.advance(size_bytes)

    def _unpacked(self, size_bytes: int) -> None:
        """Hear from the engine how far it is; that is what the user waits for in the end."""
        expected = self._expected.values()
        if not self._unpacking:
            if self._result.downloaded_bytes < sum(recipe.stored_bytes for recipe in expected):
                self._unpacked_early += size_bytes  # something is still on its way
                return
            self._unpacking = True
            self._report.end()
            self._report.begin("unpacking", sum(recipe.size_bytes for recipe in expected))
            self._report.advance(self._unpacked_early)
        self._report.advance(size_bytes)

    def _miss(self, service: str, error: LongshoreError) -> None:
        outcome: Literal["miss", "failed"] = (
            "miss" if isinstance(error, CorruptData | NotCached) else "failed"
        )
        self._report.warn(kept(error), f"{service}: {error}")
        self._done(service, outcome, str(error))

    def _done(self, service: str, outcome: Literal["miss", "failed"], reason: str) -> None:
        self._result.services.append(ImportedService(service, outcome, reason))
