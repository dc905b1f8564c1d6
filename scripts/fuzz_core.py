"""What `scripts/fuzz` feeds: one function for each parser, which may refuse, and may not crash.

python -m scripts.fuzz_core                            list the parsers
python -m scripts.fuzz_core TARGET CORPUS [libFuzzer's options]

Documents are fed as plain JSON, and compressed here: nobody guesses a frame byte by byte.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["longshore"]):
    from longshore.core import codec
    from longshore.core.archive import ArchiveReader, Member, MemberEnd
    from longshore.core.archive_form import ArchiveForm
    from longshore.core.cutting import BlobCutter
    from longshore.core.digests import digest_of
    from longshore.core.documents import peek
    from longshore.core.entry import decode_entry, encode_entry
    from longshore.core.envelope import unseal
    from longshore.core.history import command_of, created_at, layers_of
    from longshore.core.images import parse_config
    from longshore.core.keys import Ref, name_of, parse_entry_key, parse_ref, segment
    from longshore.core.layout import image_tree, walk
    from longshore.core.layout_form import LayoutForm
    from longshore.core.load_plan import plan_load, plan_shared
    from longshore.core.read_plan import plan_reads, weigh
    from longshore.core.recipe import decode_recipe, encode_recipe
    from longshore.core.references import ImageReference
    from longshore.core.sorting import ArchiveSorter
    from longshore.core.tags import share_out_tags
    from longshore.core.tarsplit import TarJoiner, TarSplitter
    from longshore.errors import CorruptData, EngineError, UnsupportedFormat, UsageError
    from longshore.wording import clean

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "format1"
REFUSED = (CorruptData, UnsupportedFormat)
MAX_RANGE_BYTES, MAX_GAP_BYTES = 8 << 20, 128 << 10


def _plain(name: str) -> bytes:
    data = (GOLDEN / name).read_bytes()
    if name.startswith("entry"):
        data = unseal(data).payload
    return codec.decompress(data, limit_bytes=1 << 20)


ENTRY = json.loads(_plain("entry"))
RECIPE = json.loads(_plain("recipe-tar"))
KEY = parse_entry_key(
    "/".join(
        (
            segment(ENTRY["project"]),
            "scopes",
            segment(ENTRY["scope"]),
            "entries",
            segment(ENTRY["service"]),
            segment(ENTRY["platform"]),
            ENTRY["id"],
        )
    )
)


def entry(data: bytes) -> None:
    """Read the JSON of an entry, and plan its load for both kinds of engine."""
    assert KEY is not None
    stored = codec.compress(_repaired(data), 1)
    with contextlib.suppress(*REFUSED):
        peek(stored)
    try:
        found = decode_entry(stored, ENTRY["project"], KEY)
    except REFUSED as error:
        _check_message(error)
        return
    assert decode_entry(encode_entry(found), ENTRY["project"], KEY) == found
    assert found.held_bytes >= 0
    share_out_tags({"web": found, "api": found}, {})
    for form in (ArchiveForm(), LayoutForm()):
        with contextlib.suppress(CorruptData):
            form.expected(found)
            plan_load(form, found, form.held({}, [found]))
            plan_shared(form, {"web": found, "api": found}, set())


def _check_message(error: Exception) -> None:
    text = str(error)
    assert len(text) < 1000
    assert "\n" not in text


def _repaired(data: bytes) -> bytes:
    """Put right what no fuzzer can: the digests of documents that it changed."""
    try:
        document = json.loads(data)
        for one in document["documents"]:
            digest = digest_of(base64.b64decode(one["data"]))
            for image in document["images"]:
                for field in ("id", "config", "parent"):
                    if image[field] == one["digest"]:
                        image[field] = digest
            one["digest"] = digest
        return json.dumps(document).encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return data


def recipe(data: bytes) -> None:
    """Read the JSON of a recipe, and plan its reads."""
    digest = RECIPE["digest"]
    ref = Ref("main", f"{digest[7:]}.{ENTRY['id']}")
    try:
        found = decode_recipe(codec.compress(data, 1), ref)
    except REFUSED as error:
        _check_message(error)
        return
    assert decode_recipe(encode_recipe(found), ref) == found
    plan = plan_reads([found], max_range_bytes=MAX_RANGE_BYTES, max_gap_bytes=MAX_GAP_BYTES)
    assert plan.read_bytes <= 2 * found.stored_bytes
    assert weigh(found, max_range_bytes=MAX_RANGE_BYTES, max_gap_bytes=MAX_GAP_BYTES) >= 0


def envelope(data: bytes) -> None:
    """Take stored bytes for an entry, with envelope and frame."""
    assert KEY is not None
    with contextlib.suppress(*REFUSED):
        decode_entry(unseal(data).payload, ENTRY["project"], KEY)


def frame(data: bytes) -> None:
    """Decompress a frame within a limit."""
    with contextlib.suppress(CorruptData):
        assert len(codec.decompress(data, limit_bytes=1 << 20)) <= 1 << 20


def config(data: bytes) -> None:
    """Read a config, and tell its history."""
    try:
        found = parse_config(data)
    except CorruptData:
        return
    for step in found.history:
        assert command_of(step).isprintable()
        created = created_at(step)
        assert created is None or created.tzinfo is UTC
    assert len(layers_of(found.history, found.diff_ids)) == len(found.history)


def layout(data: bytes) -> None:
    """Follow manifests and indexes; each line of the input is one."""
    documents = {digest_of(line): line for line in data.split(b"\n")}
    for root in documents:
        with contextlib.suppress(CorruptData):
            tree = walk([root], documents)
            assert root in tree.documents
            image_tree(root, [], documents)


def archive(data: bytes) -> None:
    """Take an archive apart, whole and in pieces, with the same result."""

    def events(step: int) -> tuple[str, int, int]:
        reader, names, size, ends = ArchiveReader(), [], 0, 0
        try:
            for start in range(0, len(data), step):
                for event in reader.feed(data[start : start + step]):
                    if isinstance(event, Member):
                        names.append(event.name)
                    elif isinstance(event, MemberEnd):
                        ends += 1
                    else:
                        size += len(event)
        except EngineError:
            return "refused", 0, 0
        return "|".join(names), size, ends

    step = 1 + (data[0] * 7 if data else 0)
    assert events(len(data) or 1) == events(step)
    with contextlib.suppress(EngineError):
        sorter = ArchiveSorter(blobs=frozenset(), documents=frozenset(), known=frozenset())
        sorter.feed(data)
        sorter.finish()


def tar(data: bytes) -> None:
    """Split a tar, whole and in pieces, and join it again."""
    step = 1 + (data[0] * 7 if data else 0)
    headers, payload = (b"".join(part) for part in TarSplitter().feed(data))
    splitter, again = TarSplitter(), (bytearray(), bytearray())
    for start in range(0, len(data), step):
        for whole, part in zip(again, splitter.feed(data[start : start + step]), strict=True):
            whole += b"".join(part)
    assert (bytes(again[0]), bytes(again[1])) == (headers, payload)
    assert _joined(headers, payload, step) == data
    cutter = BlobCutter()
    cutter.feed(memoryview(data))
    cutter.finish()


def streams(data: bytes) -> None:
    """Join two streams that need not belong together."""
    at = int.from_bytes(data[:2], "big")
    out = _joined(data[2:][:at], data[2:][at:], 1 + at % 700)
    if out is not None:
        headers, payload = (b"".join(part) for part in TarSplitter().feed(out))
        assert (headers, payload) == (data[2:][:at], data[2:][at:])


def _joined(headers: bytes, payload: bytes, step: int) -> bytes | None:
    joiner, out, left = TarJoiner(), bytearray(), [headers, payload]
    while True:
        wanted = 1 if joiner.wants_payload else 0
        piece, left[wanted] = left[wanted][:step], left[wanted][step:]
        if not piece:
            break
        pieces = joiner.feed_payload(piece) if wanted else joiner.feed_header(piece)
        out += b"".join(pieces)
    if any(left):
        return None
    try:
        joiner.finish()
    except CorruptData:
        return None
    return bytes(out)


def names(data: bytes) -> None:
    """Read names, keys, references and tags."""
    text = data.decode(errors="surrogateescape")
    assert all(character.isprintable() for character in clean(text))
    parse_entry_key(text)
    with contextlib.suppress(CorruptData):
        assert len(name_of(text)) <= len(text) + 1
    scope, _, identifier = text.partition("\n")
    with contextlib.suppress(CorruptData):
        assert parse_ref(scope, identifier).key("p").startswith("p/scopes/")
    with contextlib.suppress(UsageError):
        written = segment(text)
        assert len(written) <= 200
        assert name_of(written) == text or "~~" in written or "\ufffd" in name_of(written)
    with contextlib.suppress(UsageError):
        found = ImageReference.parse(text)
        assert ImageReference.parse(found.familiar) == found


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "entry": (entry, lambda: [_plain(name) for name in ("entry", "entry-flushed", "entry-future")]),
    "recipe": (recipe, lambda: [_plain("recipe-tar"), _plain("recipe-tar-future")]),
    "envelope": (envelope, lambda: [(GOLDEN / n).read_bytes() for n in ("entry", "entry-signed")]),
    "frame": (frame, lambda: [(GOLDEN / "recipe-raw").read_bytes()]),
    "config": (config, lambda: [base64.b64decode(ENTRY["documents"][0]["data"])]),
    "layout": (layout, lambda: [_manifest()]),
    "archive": (archive, lambda: [_layer()]),
    "tar": (tar, lambda: [_layer()]),
    "streams": (streams, lambda: [b"\x08\x00" + _layer()]),
    "names": (names, lambda: [b"feature/x\n" + ENTRY["id"].encode(), b"localhost:5000/a/b:1"]),
}


def _layer() -> bytes:
    from tests.golden import make_format1

    return make_format1.tar_layer()[:6000]


def _manifest() -> bytes:
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest_of(b"x")}
    config_of = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"c")}
    manifest = json.dumps(
        {"schemaVersion": 2, "config": {**config_of, "size": 1}, "layers": [{**layer, "size": 1}]}
    ).encode()
    child = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest_of(manifest),
        "size": len(manifest),
    }
    return manifest + b"\n" + json.dumps({"manifests": [child]}).encode()


def main() -> None:
    if len(sys.argv) < 3:
        print(*TARGETS)
        return
    target, corpus = sys.argv[1], Path(sys.argv[2])
    call, seeds = TARGETS[target]
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[3:]], call)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
