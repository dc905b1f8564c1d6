"""What prune notes down survives, names only objects, and is refused if anything is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.core import codec
from longshore.core.gc_documents import (
    KINDS,
    MAX_NAMES,
    GcDocument,
    ObjectName,
    decode_gc,
    encode_gc,
    gc_key,
    in_parts,
    is_recipe,
    name_of_ref,
    object_key,
    parse_gc_key,
    parse_object_key,
)
from longshore.core.keys import Ref
from longshore.errors import CorruptData, UnsupportedFormat

RUN = "019424f8-632e-7001-8203-040506070809"
PACK = Ref("feature/x", RUN)
RECIPE = Ref("main", f"{'ab' * 32}.{RUN}")

names = st.sampled_from([name_of_ref(PACK), name_of_ref(RECIPE), ObjectName(f"pr~3A1/{RUN}")])


@given(st.sampled_from(KINDS), st.sets(names), st.booleans())
def test_a_document_survives(kind: Any, objects: set[ObjectName], everything: bool) -> None:
    document = GcDocument(kind, RUN, tuple(objects), everything)

    read = decode_gc(encode_gc(document), kind)

    assert (read.kind, read.run, read.everything) == (kind, RUN, everything)
    assert set(read.objects) == objects
    assert len(read.objects) == len(objects)


@pytest.mark.parametrize("ref", [PACK, RECIPE])
def test_a_name_leads_to_the_key_of_its_object_and_back(ref: Ref) -> None:
    name = name_of_ref(ref)

    assert object_key("shop", name) == ref.key("shop")
    assert parse_object_key(ref.key("shop")) == name
    assert is_recipe(name) == ref.is_recipe


@pytest.mark.parametrize(
    "key",
    [
        f"shop/scopes/main/packs/{RECIPE.id}",
        f"shop/scopes/main/recipes/{RUN}",
        f"shop/scopes/main/packs/{RUN.upper()}",
        f"shop/scopes/ma in/packs/{RUN}",
        f"shop/scopes/main/entries/web/linux-amd64/{RUN}",
        f"shop/gc/{RUN}.mark",
        f"shop/scopes/main/packs/{RUN}/x",
        "",
    ],
)
def test_other_keys_are_no_objects(key: str) -> None:
    assert parse_object_key(key) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_says_the_kind(kind: Any) -> None:
    assert parse_gc_key("shop", gc_key("shop", RUN, kind)) == (RUN, kind)


@pytest.mark.parametrize("key", [f"shop/gc/{RUN}", f"shop/gc/{RUN}.x", "shop/gc/x.mark", "x"])
def test_other_keys_are_no_notes(key: str) -> None:
    assert parse_gc_key("shop", key) is None


def written(**changes: Any) -> bytes:
    plain = {"format": 1, "requires": [], "kind": "mark", "run": RUN, **changes}
    return codec.compress(json.dumps(plain).encode(), 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "start"}, "of the kind 'start'"),
        ({"run": "x"}, "of which run"),
        ({"run": 1}, "not a valid document"),
        ({"objects": {"main": ["x"]}}, "names the object 'x'"),
        ({"objects": {"../x": [RUN]}}, "names the scope"),
        ({"objects": {"main": RUN}}, "not a valid document"),
        ({"objects": [RUN]}, "not a valid document"),
        ({"everything": 1}, "not a valid document"),
        ({"format": 0}, "no document format 0"),
    ],
)
def test_what_is_wrong_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CorruptData, match=reason):
        decode_gc(written(**changes), "mark")


@pytest.mark.parametrize("changes", [{"format": 2}, {"requires": ["x"]}])
def test_what_is_newer_is_said_to_be(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFormat, match="newer longshore"):
        decode_gc(written(**changes), "mark")


@pytest.mark.parametrize("count", [0, 1, MAX_NAMES, MAX_NAMES + 1, 2 * MAX_NAMES + 5])
def test_what_does_not_fit_one_document_goes_into_more(count: int) -> None:
    many = [ObjectName(f"main/{number:036}") for number in range(count)]

    parts = list(in_parts(many))

    assert [name for part in parts for name in part] == many
    assert len(parts) == max(1, -(-count // MAX_NAMES))
    assert all(len(part) <= MAX_NAMES for part in parts)


def test_the_largest_document_is_within_the_limit_of_readers() -> None:
    recipes = tuple(
        ObjectName(f"main/{number:064x}.{RUN[:-8]}{number:08x}") for number in range(MAX_NAMES)
    )

    assert len(decode_gc(encode_gc(GcDocument("mark", RUN, recipes)), "mark").objects) == MAX_NAMES
