"""What an attacker can write who has the rights of a scope: any bytes, under any key of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import blake3

from longshore.core import codec
from longshore.core.digests import digest_of
from longshore.core.images import CONFIG, LAYER
from longshore.store.contract import Store

PROJECT, PLATFORM = "shop", "linux-amd64"
BASIS = "2999-01-01T00:00:00Z"  # never too old, by no clock

Json = Any  # what a JSON document holds, at any depth


def name(number: int, *, kind: int = 1) -> str:
    """Return the id of an entry, a recipe or a pack."""
    return f"019caf1d-{kind:04x}-7000-8000-{number:012x}"


def written(document: Json) -> bytes:
    """Write a document as it is stored, whatever it holds."""
    return codec.compress(json.dumps(document, separators=(",", ":")).encode(), 1)


def sealed(payload: bytes, signatures: bytes = b"") -> bytes:
    """Put a document into an envelope."""
    return b"LNGSHR1\n" + len(signatures).to_bytes(4, "big") + signatures + payload


def config(diff_ids: Sequence[str], **more: Json) -> bytes:
    """Write the config of an image."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "history": [{"created_by": "step"} for _ in diff_ids],
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            **more,
        }
    ).encode()


def document(data: bytes, media_type: str = CONFIG) -> dict[str, str]:
    """Describe a document of an image."""
    return {
        "digest": digest_of(data),
        "media_type": media_type,
        "data": base64.b64encode(data).decode(),
    }


def blob(digest: str, size: int, recipe: int | None = 0) -> dict[str, Json]:
    """Describe a layer."""
    return {"digest": digest, "size": size, "media_type": LAYER, "recipe": recipe}


def entry(
    layers: Mapping[str, int],
    *,
    service: str = "web",
    scope: str = "main",
    tags: Sequence[str] = ("web:1",),
    **more: Json,
) -> dict[str, Json]:
    """Describe a valid entry of one image.

    Args:
        layers: their sizes, by digest; each has a recipe of its own.
        more: what is to be otherwise.
    """
    image = config(list(layers))
    return {
        "format": 1,
        "requires": [],
        "kind": "image",
        "project": PROJECT,
        "scope": scope,
        "service": service,
        "platform": PLATFORM,
        "id": name(1),
        "basis": BASIS,
        "agent": "test",
        "engine": {"version": "28.5.2", "image_store": "graphdriver"},
        "refs": [[scope, f"{digest[7:]}.{name(1)}"] for digest in layers],
        "documents": [document(image)],
        "images": [
            {
                "id": digest_of(image),
                "config": digest_of(image),
                "tags": list(tags),
                "parent": None,
                "diff_ids": list(layers),
                "layers": list(layers),
            }
        ],
        "blobs": [blob(digest, size, n) for n, (digest, size) in enumerate(layers.items())],
        **more,
    }


async def put_entry(store: Store, document: Mapping[str, Json]) -> str:
    """Store an entry under the key that it names."""
    service = document["service"].replace(":", "~3A")
    data = sealed(written(document))
    return await put_bytes(store, data, scope=document["scope"], service=service)


async def put_bytes(
    store: Store, data: bytes, *, scope: str = "main", service: str = "web", number: int = 1
) -> str:
    """Store any bytes in the place of an entry."""
    key = f"{PROJECT}/scopes/{scope}/entries/{service}/{PLATFORM}/{name(number)}"
    await store.put(key, data)
    return key


class Pack:
    """A pack in the making, and the chunks that lie in it."""

    def __init__(self, number: int, scope: str = "main") -> None:
        self.ref = [scope, name(number, kind=2)]
        self.key = f"{PROJECT}/scopes/{scope}/packs/{self.ref[1]}"
        self.data = bytearray()

    def add(self, plain: bytes, *, gap: int = 0, frame: bytes | None = None) -> dict[str, Json]:
        """Add a chunk. Returns what a recipe says of it, but for the pack.

        Args:
            gap: bytes that nobody needs, in front of it.
            frame: what to store instead of an honest frame.
        """
        self.data += bytes(gap)
        stored = codec.compress(plain, 1) if frame is None else frame
        row = {
            "offset": len(self.data),
            "stored": len(stored),
            "plain": len(plain),
            "blake3": blake3.blake3(plain).digest(),
        }
        self.data += stored
        return row


def stream(rows: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Describe a stream of chunks; those without a pack lie in the first one."""
    return {
        "pack": [row.get("pack", 0) for row in rows],
        "offset": [row["offset"] for row in rows],
        "stored": [row["stored"] for row in rows],
        "plain": [row["plain"] for row in rows],
        "blake3": base64.b64encode(b"".join(row["blake3"] for row in rows)).decode(),
    }


def recipe(
    digest: str, packs: Sequence[Pack], *streams: Sequence[Mapping[str, Json]]
) -> dict[str, Json]:
    """Describe a recipe: of a tar with two streams, else raw."""
    return {
        "format": 1,
        "requires": [],
        "digest": digest,
        "size": sum(row["plain"] for rows in streams for row in rows),
        "method": "tar" if len(streams) == 2 else "raw",
        "codec": "zstd",
        "refs": [pack.ref for pack in packs],
        "streams": [stream(rows) for rows in streams],
    }


async def put_recipe(store: Store, document: Mapping[str, Json], scope: str = "main") -> str:
    """Store a recipe under the key that an entry of `entry` names."""
    return await put_recipe_bytes(store, document["digest"], written(document), scope)


async def put_recipe_bytes(store: Store, digest: str, data: bytes, scope: str = "main") -> str:
    """Store any bytes in the place of a recipe."""
    key = f"{PROJECT}/scopes/{scope}/recipes/{digest[7:]}.{name(1)}"
    await store.put(key, data)
    return key


def fake_digest(number: int) -> str:
    """Return a digest of nothing in particular."""
    return "sha256:" + hashlib.sha256(b"%d" % number).hexdigest()
