"""Digests are SHA-256 in one spelling; chain_ids follow the OCI image spec."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.core.digests import (
    Digest,
    chain_ids,
    digest_of,
    hex_of,
    is_digest,
    parse_digest,
    short,
)
from longshore.errors import CorruptData

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NO_DIGESTS = [
    "",
    EMPTY[7:],
    EMPTY.upper(),
    EMPTY[:-1],
    EMPTY + "0",
    EMPTY + "\n",
    " " + EMPTY,
    "sha256:" + "g" * 64,
    "sha256:" + "\u0661" * 64,  # digits, but not of ASCII
    "sha512:" + "0" * 128,
    "SHA256:" + "0" * 64,
    "sha256:" + "0" * 64 + "/../x",
]


def test_the_digest_of_nothing_is_the_well_known_one() -> None:
    assert digest_of(b"") == EMPTY


def test_a_well_formed_digest_is_accepted() -> None:
    assert parse_digest(EMPTY) == EMPTY


@pytest.mark.parametrize("text", [*NO_DIGESTS, None, 5, b"sha256:" + b"0" * 64, ["sha256:"]])
def test_anything_else_is_no_digest(text: object) -> None:
    with pytest.raises(CorruptData, match="not a SHA-256 digest"):
        parse_digest(text)


@pytest.mark.parametrize("text", [EMPTY, *NO_DIGESTS])
def test_asking_and_parsing_agree(text: str) -> None:
    assert is_digest(text) is (text == EMPTY)


def test_the_message_about_a_huge_text_is_short() -> None:
    with pytest.raises(CorruptData) as caught:
        parse_digest("x" * 10_000)

    assert len(str(caught.value)) < 200


def test_the_message_shows_no_control_characters() -> None:
    with pytest.raises(CorruptData) as caught:
        parse_digest("\x1b[2J")

    assert str(caught.value).isprintable()


@given(st.binary())
def test_the_hex_digits_are_those_of_sha256(data: bytes) -> None:
    assert hex_of(digest_of(data)) == hashlib.sha256(data).hexdigest()


def test_the_short_form_is_that_of_docker_images() -> None:
    assert short(EMPTY) == "e3b0c44298fc"


def test_no_layers_have_no_chain_ids() -> None:
    assert chain_ids([]) == ()


def test_the_first_chain_id_is_the_diff_id() -> None:
    assert chain_ids([digest_of(b"a")]) == (digest_of(b"a"),)


def test_chain_ids_are_those_of_the_image_spec() -> None:
    a, b, c = (digest_of(text) for text in (b"a", b"b", b"c"))
    ab = "sha256:" + hashlib.sha256(f"{a} {b}".encode()).hexdigest()
    abc = "sha256:" + hashlib.sha256(f"{ab} {c}".encode()).hexdigest()

    assert chain_ids([a, b, c]) == (a, ab, abc)


def test_a_chain_id_of_three_layers_is_pinned() -> None:
    layers = [Digest("sha256:" + digit * 64) for digit in "012"]

    assert chain_ids(layers)[-1] == (
        "sha256:59e1080197dac1c8a7a84c26e489ea200c2cb386337efde7688d47aee4460ed7"
    )
