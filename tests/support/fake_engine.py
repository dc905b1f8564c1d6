"""A Docker engine in memory that can misbehave: a graphdriver store, by moby's own rules.

It saves archives as engines up to 24 do (legacy) or from 25 on (OCI layout), and loads what
`image/tarexport/load.go` loads: a layer's member is looked at only if its chain_id is not there,
a parent counts only if it is an image of the same archive, and its history has to be the child's
without the last step. It shares no code with longshore but the contract.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import ClientSession
from tests.support.images import pack

from longshore.core.digests import Digest
from longshore.core.images import Step
from longshore.engine.contract import Engine, EngineImage, EngineInfo, ImageEvent
from longshore.errors import EngineError, EngineUnavailable, LayerVanished

_BLOCK_BYTES = 64 << 10


@dataclass(slots=True)
class FakeImage:
    """An image in the engine's store."""

    config: bytes
    tags: set[str] = field(default_factory=set)
    parent: str | None = None

    @property
    def diff_ids(self) -> list[str]:
        return list(json.loads(self.config)["rootfs"]["diff_ids"])

    @property
    def history(self) -> list[dict[str, Any]]:
        return list(json.loads(self.config).get("history") or ())


class FakeEngine(Engine):
    """Images in dictionaries, and switches to misbehave.

    Args:
        archive: the form of what `save` writes.

    Attributes:
        unreachable: every call fails as if nobody listened.
        save_dies_after: break a save off behind so many bytes, as an engine that is killed.
        save_appends: what follows a save that is cut short: an error as engines write it.
        load_error: what the answer to a load says in-band, instead of loading.
        vanish: chain_ids that are lost when a load begins, after anybody could have asked.
        hang: an event-like coroutine function that every save awaits before its first byte.
        loads: how many bytes each load brought.
        inspected: the names that were looked up, in order.
        silent: builds, tags and loads are told nobody, as engine 26 does it with BuildKit's.
        data_root: where it says that its data is.
        asks_registries: it is on this machine, and finds what listens on loopback.
    """

    def __init__(
        self,
        *,
        archive: Literal["legacy", "oci"] = "oci",
        platform: str = "linux-amd64",
    ) -> None:
        self.archive = archive
        self.platform = platform
        self.images: dict[str, FakeImage] = {}
        self.layers: dict[str, bytes] = {}
        """By chain_id, as the layer store has them."""
        self.unreachable = False
        self.asks_registries = False
        self.save_dies_after: int | None = None
        self.save_appends = b""
        self.load_error: str | None = None
        self.vanish: set[str] = set()
        self.hang: Callable[[], Any] | None = None
        self.data_root: str | None = None
        self.saves = 0
        self.loads: list[int] = []
        self.inspected: list[str] = []
        self.silent = False
        self.closed = False
        self._listeners: list[asyncio.Queue[ImageEvent | None]] = []

    def build(self, steps: Sequence[tuple[str, Mapping[str, bytes] | None]], *tags: str) -> Digest:
        """Build as the classic builder does: an image for each step, the last one tagged.

        Args:
            steps: command and files of the layer it makes; `None` if it makes none.
        """
        parent: str | None = None
        for number in range(1, len(steps) + 1):
            history: list[dict[str, Any]] = []
            layers: list[bytes] = []
            for command, files in steps[:number]:
                history.append({"created": "2026-01-02T03:04:05Z", "created_by": command})
                if files is None:
                    history[-1]["empty_layer"] = True
                else:
                    layers.append(pack(files))
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {},
                    "history": history,
                    "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
                }
            ).encode()
            for chain, layer in zip(_chains([_digest(la) for la in layers]), layers, strict=True):
                self.layers[chain] = layer
            image = self.images.setdefault(_digest(config), FakeImage(config))
            image.parent = parent
            parent = _digest(config)
        assert parent is not None
        for tag in tags:
            self._tag(parent, tag)
            self._tell_tag(parent, tag)
        return Digest(parent)

    async def info(self) -> EngineInfo:
        self._reach()
        return EngineInfo(
            version="28.5.2" if self.archive == "oci" else "20.10.24",
            api_version="1.51" if self.archive == "oci" else "1.41",
            image_store="graphdriver",
            platform=self.platform,
            storage_driver="overlay2",
            address="unix:///run/fake.sock",
            data_root=self.data_root,
        )

    async def inspect(self, name: str) -> EngineImage | None:
        self._reach()
        self.inspected.append(name)
        for identifier, image in self.images.items():
            if name == identifier or name in image.tags:
                return EngineImage(
                    id=Digest(identifier),
                    tags=tuple(sorted(image.tags)),
                    parent=Digest(image.parent) if image.parent in self.images else None,
                    diff_ids=tuple(Digest(diff_id) for diff_id in image.diff_ids),
                    size_bytes=sum(len(self.layers[chain]) for chain in _chains(image.diff_ids)),
                )
        return None

    async def history(self, name: str) -> tuple[Step, ...]:
        found = await self.inspect(name)
        assert found is not None
        return tuple(
            Step(
                created_by=item.get("created_by", ""),
                created=item.get("created", ""),
                empty_layer=item.get("empty_layer", False),
            )
            for item in self.images[found.id].history
        )

    async def image_ids(self) -> frozenset[Digest]:
        self._reach()
        return frozenset(map(Digest, self.images))

    async def save(self, ids: Sequence[Digest]) -> AsyncGenerator[bytes, None]:
        self._reach()
        self.saves += 1
        if self.hang is not None:
            await self.hang()
        data = self._legacy(ids) if self.archive == "legacy" else self._oci(ids)
        if self.save_dies_after is not None:
            data = data[: self.save_dies_after] + self.save_appends
        for start in range(0, len(data), _BLOCK_BYTES):
            yield data[start : start + _BLOCK_BYTES]
        if self.save_dies_after is not None and not self.save_appends:
            raise EngineUnavailable("the Docker engine broke the connection off")

    async def load(
        self, archive: AsyncIterator[bytes], progress: Callable[[int], None] | None = None
    ) -> None:
        self._reach()
        data = b"".join([block async for block in archive])
        self.loads.append(len(data))
        if self.load_error is not None:
            raise EngineError(f"the Docker engine could not load the images: {self.load_error}")
        for chain in self.vanish:
            self.layers.pop(chain, None)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]
        items = json.loads(files["manifest.json"])
        for item in items:
            self._load_image(item, files)
        for item in items:
            self._set_parent(item, {_digest(files[other["Config"]]) for other in items}, files)
        if not self.silent:
            for item in items:
                image_id = Digest(_digest(files[item["Config"]]))
                self.tell(ImageEvent("load", image_id, image_id))

    async def tag(self, image_id: Digest, tag: str) -> None:
        self._reach()
        self._tag(image_id, tag)
        self._tell_tag(image_id, tag)

    async def remove(self, image_id: Digest) -> None:
        self._reach()
        self.images.pop(image_id, None)
        held = {chain for image in self.images.values() for chain in _chains(image.diff_ids)}
        self.layers = {chain: layer for chain, layer in self.layers.items() if chain in held}

    async def look_up(self, reference: str) -> Digest | None:
        """Ask as an engine on the same machine would, if this is one."""
        host, _, name = reference.partition("/")
        repository, _, tag = name.rpartition(":")
        if not self.asks_registries:
            return None
        url = f"http://{host}/v2/{repository}/manifests/{tag}"
        async with ClientSession() as session, session.head(url) as answer:
            return Digest(answer.headers["Docker-Content-Digest"]) if answer.ok else None

    async def events(self) -> AsyncGenerator[ImageEvent | None, None]:
        self._reach()
        told: asyncio.Queue[ImageEvent | None] = asyncio.Queue()
        self._listeners.append(told)
        try:
            yield None
            while (event := await told.get()) is not None:
                yield event
        finally:
            self._listeners.remove(told)
        raise EngineUnavailable("the Docker engine at unix:///run/fake.sock ended")

    async def close(self) -> None:
        self.closed = True

    @property
    def listeners(self) -> int:
        """How many follow the events at the moment."""
        return len(self._listeners)

    def tell(self, event: ImageEvent) -> None:
        """Emit an event to all that follow them."""
        for told in self._listeners:
            told.put_nowait(event)

    def break_off(self, *, unreachable: bool = True) -> None:
        """End all streams of events, as an engine that stops, and perhaps stays away."""
        self.unreachable = unreachable
        for told in self._listeners:
            told.put_nowait(None)

    def _tell_tag(self, identifier: str, tag: str) -> None:
        if not self.silent:
            self.tell(ImageEvent("tag", tag, Digest(identifier)))

    def _reach(self) -> None:
        if self.unreachable:
            raise EngineUnavailable(
                "the Docker engine at unix:///run/fake.sock cannot be reached (no such file);"
                " is it running, and is DOCKER_HOST right?"
            )

    def _tag(self, identifier: str, tag: str) -> None:
        for image in self.images.values():
            image.tags.discard(tag)
        self.images[identifier].tags.add(tag)

    def _load_image(self, item: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        config = files[item["Config"]]
        image = FakeImage(config)
        if len(item["Layers"]) != len(image.diff_ids):
            raise EngineError("invalid manifest, layers length mismatch")
        for name, diff_id, chain in zip(
            item["Layers"], image.diff_ids, _chains(image.diff_ids), strict=True
        ):
            if chain in self.layers:
                continue
            if name not in files:
                raise LayerVanished(
                    "the Docker engine lost a layer during the load: open"
                    f" /var/lib/docker/tmp/docker-import-1/{name}: no such file or directory"
                )
            if _digest(files[name]) != diff_id:
                raise EngineError(f"invalid diffID for layer {diff_id}")
            self.layers[chain] = files[name]
        self.images.setdefault(_digest(config), image)
        for tag in item.get("RepoTags") or ():
            self._tag(_digest(config), tag)

    def _set_parent(
        self, item: Mapping[str, Any], named: set[str], files: Mapping[str, bytes]
    ) -> None:
        parent = item.get("Parent")
        if not parent or parent not in named:
            return
        image = self.images[_digest(files[item["Config"]])]
        if self.images[parent].history != image.history[:-1]:
            raise EngineError(f"{parent} is not a valid parent of it")
        image.parent = parent

    def _oci(self, ids: Sequence[str]) -> bytes:
        files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        manifest = []
        for identifier in ids:
            image = self.images[identifier]
            layers = dict(zip(image.diff_ids, _chains(image.diff_ids), strict=True))
            files[_blob(identifier)] = image.config
            files |= {_blob(diff_id): self.layers[chain] for diff_id, chain in layers.items()}
            manifest.append(self._item(image, _blob(identifier), [_blob(d) for d in layers], ids))
        files["index.json"] = b'{"schemaVersion":2,"manifests":[]}'
        files["manifest.json"] = json.dumps(manifest).encode()
        return pack(files, folders={"blobs": 0o755, "blobs/sha256": 0o755})

    def _legacy(self, ids: Sequence[str]) -> bytes:
        files: dict[str, bytes] = {"repositories": b"{}"}
        links: dict[str, str] = {}
        first: dict[str, str] = {}
        manifest = []
        for identifier in ids:
            image = self.images[identifier]
            names = []
            chains = _chains(image.diff_ids)
            for diff_id, chain in zip(image.diff_ids, chains, strict=True):
                # The top folder's name depends on the image, so each has one of its own.
                top = chain == chains[-1]
                folder = _digest((chain + identifier * top).encode())[7:]
                name = f"{folder}/layer.tar"
                names.append(name)
                files[f"{folder}/VERSION"] = b"1.0"
                files[f"{folder}/json"] = b"{}"
                if diff_id not in first:
                    first[diff_id] = name
                    files[name] = self.layers[chain]
                elif first[diff_id] != name:
                    links[name] = f"../{first[diff_id]}"
            files[f"{identifier[7:]}.json"] = image.config
            manifest.append(self._item(image, f"{identifier[7:]}.json", names, ids))
        files["manifest.json"] = json.dumps(manifest).encode()
        return pack(files, links=links)

    def _item(
        self, image: FakeImage, config: str, layers: Sequence[str], ids: Sequence[str]
    ) -> dict[str, Any]:
        item: dict[str, Any] = {"Config": config, "RepoTags": None, "Layers": list(layers)}
        if image.parent in ids:
            item["Parent"] = image.parent
        return item


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


def _chains(diff_ids: Sequence[str]) -> list[str]:
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(_digest(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains
