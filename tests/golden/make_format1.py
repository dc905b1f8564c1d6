"""Write the objects of `tests/golden/format1`, which every later version has to be able to read.

    python -m tests.golden.make_format1

All inputs are fixed. The files are not written anew when a compressor's output changes: they are
what an earlier version stored, and that is what they are for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import zstandard
from msgspec.structs import replace
from tests.support.tars import TRAILER, config_json, file_part, header, pax_record, record

from longshore.core import codec
from longshore.core.cutting import BlobCutter, Cut
from longshore.core.digests import digest_of
from longshore.core.entry import (
    Blob,
    EngineFacts,
    Entry,
    Figures,
    Image,
    Source,
    encode_entry,
)
from longshore.core.envelope import Envelope, Signature, seal
from longshore.core.images import CONFIG, LAYER
from longshore.core.keys import Ref
from longshore.core.recipe import Chunk, Recipe, encode_recipe
from longshore.core.signing import SigningKey

FOLDER: Final = Path(__file__).parent / "format1"
PROJECT: Final = "my app"
SCOPE: Final = "feature/x"
ENTRY_ID: Final = "019424f8-632e-7001-8203-000000000001"
FLUSHED_ID: Final = "019424f8-632f-7001-8203-000000000002"
PACK: Final = Ref(SCOPE, "019424f8-6300-7001-8203-000000000003")
SIGNING_KEY: Final = SigningKey.from_random(bytes(range(32)))
RECIPE_ID: Final = "019424f8-6301-7001-8203-000000000004"


def tar_layer() -> bytes:
    """Make a layer of several chunks, with what tars can hold: records, links, odd padding."""
    lines = b"".join(
        b"%06d: a line of a file that is nearly like the one before\n" % number
        for number in range(40_000)
    )
    override = record(pax_record(b"path", "grüße".encode() * 30) + pax_record(b"size", b"3"))
    parts = [
        file_part(lines),
        file_part(b"odd padding", padding=b"\xff" * 501),
        file_part(b"abc", head=override + header(size=0)),
        file_part(b"v7", head=header(size=2, magic=b"")),
    ]
    data = b"".join(part.header + part.content + part.padding for part in parts)
    return data + header(kind=b"5") + header(b"link", kind=b"2") + TRAILER + b"behind the end"


def raw_layer() -> bytes:
    """Make a blob that is no tar."""
    return b"\x1f\x8b\x08\0" + hashlib.shake_256(b"a compressed layer").digest(20_000)


def config() -> bytes:
    """Make the config of an image of both."""
    return config_json([tar_layer(), raw_layer()])


@dataclass(frozen=True)
class Stored:
    """A pack, and the recipes of what is in it."""

    pack: bytes
    recipes: tuple[Recipe, ...]


def recipe_ref(blob: bytes) -> Ref:
    """Name the recipe of a blob."""
    return Ref(SCOPE, f"{digest_of(blob)[7:]}.{RECIPE_ID}")


def store(*blobs: bytes) -> Stored:
    """Put blobs into one pack."""
    pack, placed, recipes = bytearray(), dict[bytes, Chunk](), []
    for blob in blobs:
        cutter = BlobCutter()
        cuts: list[Cut] = cutter.feed(memoryview(blob))
        last, facts = cutter.finish()
        for one in cuts + last:
            frame = codec.compress(one.data, 19)
            placed[one.id] = Chunk(one.id, len(one.data), PACK, len(pack), len(frame))
            pack += frame
        streams = tuple(tuple(placed[chunk] for chunk in stream) for stream in facts.streams)
        recipes.append(Recipe(facts.digest, facts.size_bytes, facts.method, streams))
    return Stored(bytes(pack), tuple(recipes))


def entry() -> Entry:
    """Make an entry of one image with both layers."""
    layers = [tar_layer(), raw_layer()]
    diff_ids: list[str] = [digest_of(layer) for layer in layers]
    image = digest_of(config())
    tags = ["app:1", "registry.example.com:5000/app:1"]
    return Entry(
        kind="image",
        project=PROJECT,
        scope=SCOPE,
        service="web",
        platform="linux-amd64",
        id=ENTRY_ID,
        basis=datetime(2025, 1, 2, 3, 4, 5, 678_000, UTC),
        agent="1.0.0",
        engine=EngineFacts("28.0.1", "graphdriver"),
        documents={image: config()},
        media_types={image: CONFIG},
        images=(Image(image, image, tags, None, diff_ids, diff_ids),),
        blobs=tuple(
            Blob(digest_of(layer), len(layer), LAYER, number) for number, layer in enumerate(layers)
        ),
        refs=tuple(map(recipe_ref, layers)),
        source=Source("0123abc", SCOPE, "https://ci.example.com/jobs/1"),
        figures=Figures(sum(map(len, layers)), 12_345, 2, 1.5),
    )


def flushed() -> Entry:
    """Make the entry that empties a scope."""
    return replace(
        entry(),
        kind="flushed",
        id=FLUSHED_ID,
        documents={},
        media_types={},
        images=(),
        blobs=(),
        refs=(),
        source=Source(),
        figures=Figures(0, 0, 0, 0.0),
    )


def with_future_fields(stored: bytes) -> bytes:
    """Add fields to a document, as a later version may without a new format."""
    document = json.loads(zstandard.decompress(stored))
    document["colour"] = {"of": ["the", "future"]}
    for name in ("images", "blobs", "streams"):
        for item in document.get(name, ()):
            item["colour"] = "blue"
    return codec.compress(json.dumps(document).encode(), 19)


def objects() -> dict[str, bytes]:
    """Make all objects, by the names of their files."""
    stored = store(tar_layer(), raw_layer())
    tar, raw = map(encode_recipe, stored.recipes)
    return {
        "pack": stored.pack,
        "recipe-tar": tar,
        "recipe-raw": raw,
        "recipe-tar-future": with_future_fields(tar),
        "entry": seal(Envelope(encode_entry(entry()))),
        "entry-signed": seal(
            Envelope(encode_entry(entry()), (Signature("ci", "ed25519", "bm90IGNoZWNrZWQ="),))
        ),
        "entry-signed-ed25519": seal(
            Envelope(
                encode_entry(entry()),
                (
                    Signature("ci", "ed25519", "bm90IGNoZWNrZWQ="),
                    SIGNING_KEY.sign(encode_entry(entry())),
                ),
            )
        ),
        "entry-future": seal(Envelope(with_future_fields(encode_entry(entry())))),
        "entry-flushed": seal(Envelope(encode_entry(flushed()))),
    }


def main() -> None:
    """Write the files that are not there yet."""
    for name, data in objects().items():
        path = FOLDER / name
        if not path.exists():
            path.write_bytes(data)


if __name__ == "__main__":
    main()
