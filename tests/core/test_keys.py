"""Names become key segments that are safe, readable, and never the same for two names."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from longshore.core.keys import (
    MAX_NAME,
    MAX_SEGMENT_BYTES,
    EntryKey,
    Ref,
    check_root,
    entries_prefix,
    entry_key,
    name_of,
    parse_entry_key,
    parse_ref,
    scope_prefix,
    scopes_prefix,
    segment,
)
from longshore.errors import CorruptData, UsageError

ID = "019424f8-632e-7001-8203-040506070809"
DIGITS = "0123456789abcdef" * 4
names = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=260)
    | st.text("aB~.-_/%2F é", min_size=1, max_size=260)
).filter(lambda name: name not in (".", ".."))


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("main", "main"),
        ("feature/x", "feature~2Fx"),
        ("pr:12", "pr~3A12"),
        ("~", "~7E"),
        ("a~2Fb", "a~7E2Fb"),
        ("A-Z_a.z-09", "A-Z_a.z-09"),
        ("é", "~C3~A9"),
        ("a b\n", "a~20b~0A"),
        ("\0", "~00"),
        ("...", "..."),
        ("../x", "..~2Fx"),
        ("*", "~2A"),
    ],
)
def test_a_name_is_written_as_one_segment(name: str, written: str) -> None:
    assert segment(name) == written


@given(names)
@example("~" * 200)
def test_a_segment_holds_only_safe_characters(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", segment(name), re.ASCII)


@given(names)
@example("x" * MAX_NAME)
@example("漢" * MAX_NAME)
def test_a_segment_is_never_over_the_limit(name: str) -> None:
    assert len(segment(name)) <= MAX_SEGMENT_BYTES


def test_a_name_of_absurd_length_is_refused_and_not_quoted_in_full() -> None:
    with pytest.raises(UsageError, match="longer than") as caught:
        segment("/" * (MAX_NAME + 1))

    assert len(str(caught.value)) < 200


@given(names)
@example("x" * 200)
def test_a_name_that_fits_is_read_back(name: str) -> None:
    written = segment(name)
    assume("~~" not in written)

    assert name_of(written) == name


@given(names, names)
@example("~2F", "/")
@example("x" * 201, "x" * 202)
@example("x" * 300 + "a", "x" * 300 + "b")
@example("main", "Main")
def test_two_names_never_have_the_same_segment(one: str, other: str) -> None:
    assume(one != other)

    assert segment(one) != segment(other)


@pytest.mark.parametrize("length", [201, 202, 1000])
def test_a_name_that_is_cut_cannot_be_had_by_another_name(length: int) -> None:
    written = segment("x" * length)

    # What stands for a cut name, taken as a name itself, is written otherwise.
    assert segment(written) != written


def test_a_name_of_exactly_the_limit_is_not_cut() -> None:
    assert segment("x" * MAX_SEGMENT_BYTES) == "x" * MAX_SEGMENT_BYTES


def test_the_segment_of_a_long_name_is_pinned() -> None:
    assert segment("x" * 201) == "x" * 166 + "~~84a0678c90937f5dcf9994d5866668da"


@pytest.mark.parametrize("shift", range(3))
def test_a_cut_never_leaves_half_an_escape(shift: int) -> None:
    head = segment("x" * shift + "/" * 100).partition("~~")[0]

    assert re.fullmatch(r"x*(?:~2F)+", head)


def test_a_name_that_was_cut_is_shown_with_an_ellipsis() -> None:
    assert name_of(segment("feature/" + "x" * 300)) == "feature/" + "x" * 156 + "…"


@pytest.mark.parametrize("name", ["", ".", "..", "\ud800", "a\udcff"])
def test_names_that_cannot_be_written_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        segment(name)


@pytest.mark.parametrize(
    "written",
    ["", ".", "..", "a/b", "a b", "~2f", "~2", "~", "~~", "a~~12", "é", "a\n", "~~" + "0" * 32],
)
def test_what_is_no_segment_is_not_read(written: str) -> None:
    with pytest.raises(CorruptData, match="not a key segment"):
        name_of(written)


def test_bytes_that_are_no_text_are_shown_all_the_same() -> None:
    assert name_of("a~FF") == "a\ufffd"


@pytest.mark.parametrize("root", ["", "caches", "a/b/c/", "Ünï/x y"])
def test_a_root_is_used_as_given(root: str) -> None:
    assert check_root(root) == root


@pytest.mark.parametrize("root", ["a*", "a?b", "$x", "{x", "x}", "${aws:username}"])
def test_a_root_with_a_meaning_in_policies_is_refused(root: str) -> None:
    with pytest.raises(UsageError):
        check_root(root)


def test_the_key_of_an_entry_is_that_of_the_format() -> None:
    key = entry_key("my app", "feature/x", "web", "linux-arm64-v8", ID)

    assert key == f"my~20app/scopes/feature~2Fx/entries/web/linux-arm64-v8/{ID}"


def test_the_prefixes_nest() -> None:
    prefixes = [
        scopes_prefix("p"),
        scope_prefix("p", "s/1"),
        entries_prefix("p", "s/1"),
        entries_prefix("p", "s/1", "web"),
    ]

    assert prefixes == [
        "p/scopes/",
        "p/scopes/s~2F1/",
        "p/scopes/s~2F1/entries/",
        "p/scopes/s~2F1/entries/web/",
    ]


@given(names, names, names, names)
def test_the_key_of_an_entry_lies_below_its_scopes_prefix(
    project: str, scope: str, service: str, platform: str
) -> None:
    key = entry_key(project, scope, service, platform, ID)

    assert key.startswith(scope_prefix(project, scope))


@given(names, names)
def test_no_scopes_prefix_begins_with_that_of_another(one: str, other: str) -> None:
    assume(one != other)

    assert not scope_prefix("p", one).startswith(scope_prefix("p", other))


@given(names, names, names, names)
def test_the_key_of_an_entry_is_read_back(
    project: str, scope: str, service: str, platform: str
) -> None:
    key = entry_key(project, scope, service, platform, ID)

    assert parse_entry_key(key) == EntryKey(segment(scope), segment(service), segment(platform), ID)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/" * 6,
        f"p/scopes/s/entries/web/{ID}",
        f"p/scopes/s/entries/web/linux-amd64/{ID}/",
        f"p/scopes/s/entries/web/linux-amd64/x/{ID}",
        f"/p/scopes/s/entries/web/linux-amd64/{ID}",
        f"p/scope/s/entries/web/linux-amd64/{ID}",
        f"p/scopes/s/entry/web/linux-amd64/{ID}",
        f"p/scopes/s/entries/web/linux-amd64/{ID}.tmp",
        f"p/scopes/s/entries/web/linux-amd64/{ID.upper()}",
        f"p/scopes/s/entries/web/linux amd64/{ID}",
        f"p/scopes//entries/web/linux-amd64/{ID}",
        f"p/scopes/s/entries/~2f/linux-amd64/{ID}",
        f"p/scopes/s/recipes/{DIGITS}.{ID}",
        f"p/scopes/s/packs/{ID}",
    ],
)
def test_keys_of_another_form_are_no_keys_of_entries(key: str) -> None:
    assert parse_entry_key(key) is None


@pytest.mark.parametrize("dots", [".", ".."])
@pytest.mark.parametrize("place", [2, 4, 5])
def test_a_key_with_dots_for_a_name_is_no_key_of_an_entry(dots: str, place: int) -> None:
    parts = entry_key("p", "s", "web", "linux-amd64", ID).split("/")
    parts[place] = dots

    assert parse_entry_key("/".join(parts)) is None


@given(st.text("ps/~.2F-c0", max_size=80) | st.text())
def test_no_text_makes_reading_a_key_fail(text: str) -> None:
    assert parse_entry_key(text) is None


def test_a_pack_is_named_by_its_id() -> None:
    assert parse_ref("s/1", ID).key("p") == f"p/scopes/s~2F1/packs/{ID}"


def test_a_recipe_is_named_by_its_blob_and_an_id() -> None:
    ref = parse_ref("main", f"{DIGITS}.{ID}")

    assert ref.key("p") == f"p/scopes/main/recipes/{DIGITS}.{ID}"


def test_a_recipe_is_told_from_a_pack() -> None:
    refs = (Ref("main", f"{DIGITS}.{ID}"), Ref("main", ID))

    assert [ref.is_recipe for ref in refs] == [True, False]


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "../" + ID,
        ID + "/..",
        ID + "\n",
        f"../recipes/{DIGITS}.{ID}",
        f"{DIGITS[1:]}.{ID}",
        f"{DIGITS.upper()}.{ID}",
        f"{DIGITS}.{ID}.{ID}",
        f"{DIGITS}.{DIGITS}",
        f"{DIGITS}.{DIGITS[:36]}",
        f"{DIGITS}.{'../' * 12}",
        f"{DIGITS}.",
        DIGITS,
        f"sha256:{DIGITS}.{ID}",
        None,
        7,
        b"x",
    ],
)
def test_a_reference_with_another_id_is_refused(identifier: object) -> None:
    with pytest.raises(CorruptData):
        parse_ref("main", identifier)


@pytest.mark.parametrize("scope", ["", ".", "..", "\ud800", None, 7, ["main"]])
def test_a_reference_with_no_name_for_a_scope_is_refused(scope: object) -> None:
    with pytest.raises(CorruptData):
        parse_ref(scope, ID)


@given(names)
@example("../../other/scopes/main")
@example("main/packs/x")
def test_no_scope_leads_a_reference_out_of_its_project(scope: str) -> None:
    key = parse_ref(scope, ID).key("p")

    assert key.split("/") == ["p", "scopes", segment(scope), "packs", ID]
