"""Import: give the engine the newest cached images of services, so that the next build is warm.

A cache never makes a build fail: whatever is wrong with one service is reported, counts as a miss
for it, and leaves the others alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from longshore.core.digests import Digest, chain_ids, short
from longshore.core.entry import Entry
from longshore.core.load_plan import (
    LoadPlan,
    SharedPlan,
    missing_images,
    plan_load,
    plan_shared,
)
from longshore.core.recipe import Recipe
from longshore.core.service import Service
from longshore.core.tags import share_out_tags
from longshore.engine.contract import Engine, EngineImage, require_graphdriver
from longshore.errors import (
    CorruptData,
    EngineError,
    LayerVanished,
    LongshoreError,
    NotCached,
)
from longshore.ops.lookup import Hit, find_entry
from longshore.ops.reachable import Reading
from longshore.ops.rebuilding import build_archive
from longshore.ops.report import Report
from longshore.ops.streams import one_ahead
from longshore.ops.tasks import for_each, side_by_side

_INSPECTED_AT_ONCE = 8
_LOADED_AT_ONCE = 4  # services; more would only share the same cores and the same memory


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """How an import runs; the defaults live in `config.py`.

    Args:
        window_bytes: how much may be read ahead, for all services together.
    """

    window_bytes: int
    clock: Callable[[], float]


@dataclass(slots=True)
class ImportedService:
    """What became of one service."""

    service: str
    outcome: Literal["hit", "miss", "failed"]
    reason: str = ""
    scope: str | None = None
    entry: str | None = None
    age: timedelta | None = None
    images: tuple[Digest, ...] = ()
    tags: tuple[str, ...] = ()
    layers: int = 0
    layers_sent: int = 0
    cache_from: tuple[str, ...] = ()


@dataclass(slots=True)
class ImportResult:
    """What an import did."""

    services: list[ImportedService] = field(default_factory=list)
    downloaded_bytes: int = 0
    seconds: float = 0.0


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
        self._images: dict[Digest, EngineImage] = {}
        self._chains: set[Digest] = set()
        self._window = settings.window_bytes
        self._loads = asyncio.Semaphore(_LOADED_AT_ONCE)
        self._expected: dict[Digest, Recipe] = {}
        self._unpacking = False

    async def run(self, services: Sequence[Service]) -> ImportResult:
        started = self._settings.clock()
        info = await self._engine.info()
        require_graphdriver(info)
        hits = await self._find(services, info.platform)
        if hits:
            own = {s.name: frozenset(ref.familiar for ref in s.images) for s in services}
            shared_out = share_out_tags({name: hit.entry for name, hit in hits.items()}, own)
            hits = {name: replace(hit, entry=shared_out[name]) for name, hit in hits.items()}
            await self._look_at_engine()
            await self._load_all({s.name: s for s in services}, hits)
        order = [service.name for service in services]
        self._result.services.sort(key=lambda done: order.index(done.service))
        self._result.seconds = self._settings.clock() - started
        return self._result

    async def _find(self, services: Sequence[Service], platform: str) -> dict[str, Hit]:
        """Find the entries of all services side by side; report those that have none."""
        found: dict[str, Hit | LongshoreError | None] = {}

        async def find(service: Service) -> None:
            try:
                found[service.name] = await find_entry(self._reading, service.name, platform)
            except (CorruptData, NotCached) as error:
                found[service.name] = error

        async with side_by_side() as group:
            for service in services:
                group.create_task(find(service))
        hits: dict[str, Hit] = {}
        for service in services:
            hit = found[service.name]
            if isinstance(hit, Hit):
                hits[service.name] = hit
            elif hit is None:
                reason = f"no cached image for {service.name}"
                self._report.warn(NotCached(reason))
                self._done(service.name, "miss", reason)
            else:
                self._miss(service.name, hit)
        return hits

    async def _look_at_engine(self) -> None:
        """Learn which images and which stacks of layers the engine has."""
        ids = await self._engine.image_ids()
        for image in await for_each(self._engine.inspect, ids, at_once=_INSPECTED_AT_ONCE):
            if image is not None:
                self._images[image.id] = image
                self._chains.update(chain_ids(image.diff_ids))

    def _has_all(self, entry: Entry) -> bool:
        """Tell whether the engine had every image of an entry, with its parent."""
        return not missing_images(entry, {i: image.parent for i, image in self._images.items()})

    async def _load_all(self, services: Mapping[str, Service], hits: dict[str, Hit]) -> None:
        recipes: dict[str, dict[Digest, Recipe]] = {}
        for name, hit in list(hits.items()):
            try:
                needed: Collection[Digest] = ()
                if not self._has_all(hit.entry):
                    needed = plan_load(hit.entry, self._chains).blobs
                recipes[name] = await self._reading.recipes_for(hit.entry, needed)
            except LongshoreError as error:
                self._miss(name, error)
                del hits[name]
        self._expected = {r.digest: r for by_blob in recipes.values() for r in by_blob.values()}
        self._report.begin(
            "downloading", sum(recipe.stored_bytes for recipe in self._expected.values())
        )
        shared = await self._load_shared(
            {name: hit.entry for name, hit in hits.items() if recipes[name]}, recipes
        )
        self._window = self._settings.window_bytes // max(1, min(len(hits), _LOADED_AT_ONCE))
        async with side_by_side() as group:
            for name, hit in hits.items():
                group.create_task(self._load_service(services[name], hit, recipes[name]))
        if shared is not None:
            await self._let_go(shared)
        self._report.end()

    async def _load_shared(
        self, entries: Mapping[str, Entry], recipes: Mapping[str, Mapping[Digest, Recipe]]
    ) -> SharedPlan | None:
        """Load what several services need once, before they load side by side."""
        shared = plan_shared(entries, self._chains)
        if shared is None:
            return None
        known = {blob: r for by_blob in recipes.values() for blob, r in by_blob.items()}
        try:
            await self._send(shared.load, known)
        except LongshoreError as error:
            # Each service tries for itself then; whoever needs what is damaged will say so.
            self._report.line(f"the shared layers could not be loaded first ({error})")
            return None
        self._chains |= shared.chains
        return shared

    async def _load_service(
        self, service: Service, hit: Hit, recipes: Mapping[Digest, Recipe]
    ) -> None:
        try:
            async with self._loads:
                sent = await self._load(service, hit.entry, recipes)
        except LongshoreError as error:
            self._miss(service.name, error)
            return
        entry = hit.entry
        tags = tuple(dict.fromkeys(tag for image in entry.images for tag in image.tags))
        self._result.services.append(
            ImportedService(
                service=service.name,
                outcome="hit",
                scope=entry.scope,
                entry=entry.id,
                age=hit.age,
                images=tuple(Digest(image.id) for image in entry.images),
                tags=tags,
                layers=len(entry.blobs),
                layers_sent=sent,
                cache_from=cache_from(service, entry),
            )
        )

    async def _load(self, service: Service, entry: Entry, recipes: Mapping[Digest, Recipe]) -> int:
        """Load an entry, and check that all of it is there. Returns how many layers were sent."""
        if self._has_all(entry):
            await self._tag(entry)
            await self._verify(entry)
            return 0
        plan = plan_load(entry, self._chains)
        try:
            await self._send(plan, recipes)
        except LayerVanished as error:
            self._report.line(f"{service.name}: {error}; loading in full")
            plan = plan_load(entry, ())
            await self._send(plan, await self._reading.recipes_for(entry, plan.blobs))
        await self._verify(entry)
        return len(recipes)

    async def _send(self, plan: LoadPlan, recipes: Mapping[Digest, Recipe]) -> None:
        archive = build_archive(
            self._reading.store,
            self._reading.project,
            files=plan.files,
            recipes=[recipes[blob] for blob in plan.blobs],
            window_bytes=self._window,
            fetched=self._fetched,
        )
        async with contextlib.aclosing(one_ahead(archive)) as blocks:
            await self._engine.load(blocks, self._unpacked)

    async def _tag(self, entry: Entry) -> None:
        for image in entry.images:
            present = self._images[Digest(image.id)].tags
            for tag in image.tags:
                if tag not in present:
                    await self._engine.tag(Digest(image.id), tag)

    async def _verify(self, entry: Entry) -> None:
        """Ask the engine for everything that the entry promised.

        Raises:
            EngineError: an image, a tag or a parent is not there.
        """
        for image in entry.images:
            found = await self._engine.inspect(image.id)
            if found is None:
                raise EngineError(f"the engine lacks the image {short(image.id)} after its load")
            if image.parent is not None and found.parent != image.parent:
                raise EngineError(f"the engine does not know the parent of {short(image.id)}")
            if lost := sorted(set(image.tags) - set(found.tags)):
                raise EngineError(f"the engine lacks the tag {lost[0]} after its load")

    async def _let_go(self, shared: SharedPlan) -> None:
        for image_id in shared.images:
            try:
                await self._engine.remove(image_id)
            except EngineError as error:
                self._report.line(f"an image of shared layers stays in the engine ({error})")

    def _fetched(self, size_bytes: int) -> None:
        self._result.downloaded_bytes += size_bytes
        if not self._unpacking:
            self._report.advance(size_bytes)

    def _unpacked(self, size_bytes: int) -> None:
        """Hear from the engine how far it is; that is what the user waits for in the end."""
        expected = self._expected.values()
        if not self._unpacking:
            if self._result.downloaded_bytes < sum(recipe.stored_bytes for recipe in expected):
                return  # another service is still on its way
            self._unpacking = True
            self._report.end()
            self._report.begin("unpacking", sum(recipe.size_bytes for recipe in expected))
        self._report.advance(size_bytes)

    def _miss(self, service: str, error: LongshoreError) -> None:
        outcome: Literal["miss", "failed"] = (
            "miss" if isinstance(error, CorruptData | NotCached) else "failed"
        )
        self._report.warn(error, f"{service}: {error}")
        self._done(service, outcome, str(error))

    def _done(self, service: str, outcome: Literal["miss", "failed"], reason: str) -> None:
        self._result.services.append(ImportedService(service, outcome, reason))


def cache_from(service: Service, entry: Entry) -> tuple[str, ...]:
    """Name the images that make the next build of a service warm, for `--cache-from`.

    These are the images that nothing else in the entry was built on: the service's own first, then
    those of its stages. By tag where there is one, which is all that BuildKit accepts.
    """
    parents = {image.parent for image in entry.images}
    own = [reference.familiar for reference in service.images]
    names: list[str] = []
    for image in entry.images:
        if image.id not in parents or set(own).intersection(image.tags):
            known = [tag for tag in own if tag in image.tags]
            names.append((known or image.tags or [image.id])[0])
    return tuple(dict.fromkeys(names))
