"""What format 1 has stored is read by this version, and by all later ones.

Stored bytes are only read, never compared with what is written today: another zstd may compress
otherwise.
"""

from __future__ import annotations

import pytest
from blake3 import blake3
from msgspec.structs import replace
from tests.golden import make_format1 as made

from longshore.core import codec, documents
from longshore.core.cutting import BlobCutter
from longshore.core.digests import digest_of
from longshore.core.entry import Entry, decode_entry
from longshore.core.envelope import Signature, unseal
from longshore.core.keys import Ref, entry_key, parse_entry_key
from longshore.core.recipe import Recipe, decode_recipe
from longshore.core.signing import PublicKey, TrustedKeys
from longshore.core.tarsplit import TarJoiner
from longshore.errors import NotTrusted

FILES = (
    "entry",
    "entry-flushed",
    "entry-future",
    "entry-signed",
    "entry-signed-ed25519",
    "pack",
    "recipe-raw",
    "recipe-tar",
    "recipe-tar-future",
)
TAR_DIGEST = "sha256:57b307e44f33a5beafc6ff351af21b33b1d3116c80f6a4a049c19a17f83f04b3"
RAW_DIGEST = "sha256:cb0e4ab089d0eb0211aa8015ad57949453254b7fa60d76754d25ee76b77690a8"
CONFIG_DIGEST = "sha256:af52e84c14d904dace5575aaba162872d602e7ec64f32909d8cbabcab3632a73"

recipes = pytest.mark.parametrize(
    ("name", "blob"),
    [
        pytest.param("recipe-tar", made.tar_layer(), id="tar"),
        pytest.param("recipe-tar-future", made.tar_layer(), id="tar-future"),
        pytest.param("recipe-raw", made.raw_layer(), id="raw"),
    ],
)


def golden(name: str) -> bytes:
    return (made.FOLDER / name).read_bytes()


def read_entry(name: str, identifier: str = made.ENTRY_ID) -> Entry:
    key = parse_entry_key(entry_key(made.PROJECT, made.SCOPE, "web", "linux-amd64", identifier))
    assert key is not None
    return decode_entry(unseal(golden(name)).payload, made.PROJECT, key)


def read_recipe(name: str, blob: bytes) -> Recipe:
    return decode_recipe(golden(name), made.recipe_ref(blob))


def plain_streams(recipe: Recipe) -> list[list[bytes]]:
    pack = golden("pack")
    return [
        [
            codec.decompress(
                pack[chunk.offset : chunk.offset + chunk.stored_bytes],
                limit_bytes=chunk.plain_bytes,
            )
            for chunk in stream
        ]
        for stream in recipe.streams
    ]


def rebuild(recipe: Recipe) -> bytes:
    streams = plain_streams(recipe)
    if recipe.method == "raw":
        return b"".join(streams[0])
    joiner, joined = TarJoiner(), bytearray()
    left = [iter(stream) for stream in streams]
    while (piece := next(left[joiner.wants_payload], None)) is not None:
        feed = joiner.feed_payload if joiner.wants_payload else joiner.feed_header
        joined += b"".join(feed(piece))
    joiner.finish()
    return bytes(joined)


def test_the_inputs_are_the_ones_that_were_stored() -> None:
    digests = [digest_of(data) for data in (made.tar_layer(), made.raw_layer(), made.config())]

    assert digests == [TAR_DIGEST, RAW_DIGEST, CONFIG_DIGEST]


def test_each_file_has_its_line_in_the_readme() -> None:
    present = {path.name for path in made.FOLDER.iterdir()} - {"README.md"}
    lines = (made.FOLDER / "README.md").read_text().splitlines()

    assert present == set(FILES)
    assert all(any(line.startswith(f"| `{name}` |") for line in lines) for name in FILES)


def test_the_files_are_small() -> None:
    assert sum(len(golden(name)) for name in FILES) < 100_000


@recipes
def test_a_layer_is_rebuilt_bit_for_bit(name: str, blob: bytes) -> None:
    assert rebuild(read_recipe(name, blob)) == blob


@recipes
def test_the_chunks_are_what_they_are_named(name: str, blob: bytes) -> None:
    recipe = read_recipe(name, blob)
    plain = [piece for stream in plain_streams(recipe) for piece in stream]
    chunks = [chunk for stream in recipe.streams for chunk in stream]

    assert [blake3(piece).digest() for piece in plain] == [chunk.id for chunk in chunks]
    assert [len(piece) for piece in plain] == [chunk.plain_bytes for chunk in chunks]


@recipes
def test_the_blob_is_cut_today_as_it_was_then(name: str, blob: bytes) -> None:
    recipe = read_recipe(name, blob)
    cutter = BlobCutter()
    cutter.feed(memoryview(blob))

    _, facts = cutter.finish()

    assert facts.streams == tuple(tuple(chunk.id for chunk in s) for s in recipe.streams)
    assert (facts.digest, facts.method) == (recipe.digest, recipe.method)


@recipes
def test_a_recipe_says_what_it_needs(name: str, blob: bytes) -> None:
    assert read_recipe(name, blob).packs == (made.PACK,)
    assert documents.peek(golden(name)).refs == (made.PACK,)


def test_the_pack_holds_several_chunks_of_contents() -> None:
    assert len(read_recipe("recipe-tar", made.tar_layer()).streams[1]) > 1


@pytest.mark.parametrize("name", ["entry", "entry-signed", "entry-signed-ed25519", "entry-future"])
def test_an_entry_says_what_it_said(name: str) -> None:
    assert read_entry(name) == made.entry()


def test_a_flushed_entry_says_what_it_said() -> None:
    assert read_entry("entry-flushed", made.FLUSHED_ID) == made.flushed()


def test_the_config_is_the_same_byte_for_byte() -> None:
    entry = read_entry("entry")

    assert entry.documents == {CONFIG_DIGEST: made.config()}


def test_the_recipes_of_an_entry_are_found() -> None:
    assert read_entry("entry").recipe_refs() == {
        TAR_DIGEST: Ref("feature/x", f"{TAR_DIGEST[7:]}.{made.RECIPE_ID}"),
        RAW_DIGEST: Ref("feature/x", f"{RAW_DIGEST[7:]}.{made.RECIPE_ID}"),
    }


def test_the_signature_of_an_entry_is_read_and_is_over_the_same_payload() -> None:
    signed = unseal(golden("entry-signed"))

    assert signed.signatures == (Signature("ci", "ed25519", "bm90IGNoZWNrZWQ="),)
    assert replace(signed, signatures=()) == unseal(golden("entry"))


def test_the_signature_that_was_made_then_is_accepted_by_its_key_and_no_other() -> None:
    key = PublicKey("ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=")
    other = PublicKey("ed25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")

    assert TrustedKeys([other, key]).open(golden("entry-signed-ed25519")) == (
        unseal(golden("entry")).payload
    )
    with pytest.raises(NotTrusted):
        TrustedKeys([other]).open(golden("entry-signed-ed25519"))
    with pytest.raises(NotTrusted):
        TrustedKeys([key]).open(golden("entry-signed"))
