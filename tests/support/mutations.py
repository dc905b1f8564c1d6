"""Ways to change what is stored: bytes, fields of documents at any depth, whole objects."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import zstandard
from hypothesis import strategies as st

from longshore.core import codec
from longshore.core.digests import digest_of

Json = Any  # what a JSON document holds, at any depth

NUMBERS = [0, 1, -1, 2, 255, 511, 512, 2**16, 2**20, 2**20 + 1, 2**26, 2**31, 2**42, 2**63, 2**64]
TEXTS = [
    "",
    ".",
    "..",
    "../..",
    "/etc/passwd",
    "main",
    "pr:1",
    "secret",
    "x" * 300,
    "\0",
    "\x1b[2J",
    "\u202e",
    "\ufffe",
    "sha256:" + "0" * 64,
    "sha256:" + "F" * 64,
    "sha512:" + "0" * 128,
    "0" * 64 + ".019caf1d-0001-7000-8000-000000000001",
    "019caf1d-0002-7000-8000-000000000001",
    "postgres:17",
    "docker.io/library/postgres:17",
    "image",
    "flushed",
    "buildkit-cache",
    "containerd",
    "raw",
    "tar",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "1e400",
    "=",
]
leaves: st.SearchStrategy[Json] = (
    st.none()
    | st.booleans()
    | st.sampled_from(NUMBERS)
    | st.sampled_from([1.5, -0.0, 1e300, 5e-324, float("inf"), float("nan"), 10**25, 10**400])
    | st.sampled_from(TEXTS)
    | st.text(max_size=20)
)
values: st.SearchStrategy[Json] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(TEXTS) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn, document: Json) -> Json:
    """Change a few places of a document, at any depth."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        at: Json = document
        while True:
            places = sorted(at) if isinstance(at, dict) else range(len(at))
            if not places:
                break
            place = draw(st.sampled_from(places))
            inner = at[place]
            if isinstance(inner, dict | list) and inner and draw(st.integers(0, 3)):
                at = inner
                continue
            _change(draw, at, place)
            break
    return document


def _change(draw: st.DrawFn, at: Json, place: Json) -> None:
    what = draw(st.sampled_from(["replace", "replace", "nudge", "drop", "repeat", "swap"]))
    old = at[place]
    if what == "nudge" and isinstance(old, int):
        at[place] = old + draw(st.sampled_from([-1, 1, -512, 512, 1 << 20]))
    elif what == "nudge" and isinstance(old, str) and old:
        index = draw(st.integers(0, len(old) - 1))
        at[place] = old[:index] + draw(st.sampled_from("0aZ~./:\0é")) + old[index + 1 :]
    elif what == "drop":
        del at[place]
    elif what == "repeat" and isinstance(at, list):
        at.extend([old] * draw(st.integers(1, 20)))
    elif what == "swap" and isinstance(at, list):
        other = draw(st.integers(0, len(at) - 1))
        at[place], at[other] = at[other], at[place]
    else:
        at[place] = draw(values)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Change a few bytes, cut some off, or put some more in."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(out)))
        how = draw(st.sampled_from(["flip", "cut", "insert", "remove", "zero"]))
        if how == "flip" and at < len(out):
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del out[at:]
        elif how == "insert":
            out[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif how == "remove":
            del out[at : at + draw(st.integers(1, 600))]
        elif how == "zero":
            out[at : at + 8] = bytes(len(out[at : at + 8]))
    return bytes(out)


def dumped(document: Json) -> bytes:
    """Write JSON, or what Python takes for it: NaN and lone surrogates pass."""
    return json.dumps(document, separators=(",", ":")).encode("utf-8", "surrogatepass")


def opened_entry(stored: bytes) -> Json:
    """Read the document of an entry that has no signatures."""
    return json.loads(zstandard.decompress(stored[12:]))


@st.composite
def mutated_entry(draw: st.DrawFn, stored: bytes) -> bytes:
    """Change an entry: a field, the frame, the envelope, or one of the images' documents."""
    document = opened_entry(stored)
    how = draw(st.sampled_from(["fields", "fields", "inner", "frame", "signatures", "bytes"]))
    if how == "bytes":
        return draw(damaged(stored))
    if how == "frame":
        return stored[:12] + draw(damaged(stored[12:]))
    if how == "signatures":
        block = draw(values.map(dumped) | st.binary(max_size=40))
        return stored[:8] + len(block).to_bytes(4, "big") + block + stored[12:]
    if how == "inner" and document["documents"]:
        document = draw(_with_another_document(document))
    else:
        document = draw(mutated(document))
    return stored[:12] + codec.compress(dumped(document), 1)


@st.composite
def _with_another_document(draw: st.DrawFn, document: Json) -> Json:
    """Change a config or manifest, and every digest of it, as its author would."""
    index = draw(st.integers(0, len(document["documents"]) - 1))
    old = document["documents"][index]
    data = base64.b64decode(old["data"])
    try:
        changed = dumped(draw(mutated(json.loads(data))))
    except ValueError:
        changed = draw(damaged(data))
    text = json.dumps(document)
    text = text.replace(old["digest"], digest_of(changed))
    text = text.replace(old["data"], base64.b64encode(changed).decode())
    return json.loads(text)


@st.composite
def mutated_recipe(draw: st.DrawFn, stored: bytes) -> bytes:
    """Change a recipe: a field, or its bytes."""
    if draw(st.booleans()):
        return draw(damaged(stored))
    document = json.loads(zstandard.decompress(stored))
    return codec.compress(dumped(draw(mutated(document))), 1)


class Objects(dict[str, bytes]):
    """What a store holds, which is too much to be printed."""

    def __repr__(self) -> str:
        return f"<{len(self)} objects>"


@st.composite
def mutated_objects(draw: st.DrawFn, objects: Mapping[str, bytes]) -> dict[str, bytes]:
    """Change a few objects of a store, lose some, or put one in the place of another."""
    out = Objects(objects)
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(sorted(objects)))
        kind = key.split("/")[3]
        how = draw(st.sampled_from(["change"] * 6 + ["lose", "swap"]))
        if how == "lose":
            out.pop(key, None)
        elif how == "swap":
            out[key] = objects[draw(st.sampled_from(sorted(objects)))]
        elif kind == "entries":
            out[key] = draw(mutated_entry(objects[key]))
        elif kind == "recipes":
            out[key] = draw(mutated_recipe(objects[key]))
        else:
            out[key] = draw(damaged(objects[key]))
    return out
