"""Image references are read, shortened and compared as the engine does it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from longshore.core.references import ImageReference, parse_image
from longshore.errors import UsageError

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("redis", "docker.io/library/redis:latest", "redis:latest"),
        ("redis:7", "docker.io/library/redis:7", "redis:7"),
        ("library/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("index.docker.io/library/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("myorg/web", "docker.io/myorg/web:latest", "myorg/web:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/web", "localhost/web:latest", "localhost/web:latest"),
        ("localhost:5000/web:x", "localhost:5000/web:x", "localhost:5000/web:x"),
        ("r.example.com/a/b:1.2", "r.example.com/a/b:1.2", "r.example.com/a/b:1.2"),
        ("MYREGISTRY/web", "MYREGISTRY/web:latest", "MYREGISTRY/web:latest"),
        (
            "[2001:db8::1]:5000/web",
            "[2001:db8::1]:5000/web:latest",
            "[2001:db8::1]:5000/web:latest",
        ),
        ("example.com", "docker.io/library/example.com:latest", "example.com:latest"),
        ("web:5000", "docker.io/library/web:5000", "web:5000"),
        ("a__b/c-_".removesuffix("-_"), "docker.io/a__b/c:latest", "a__b/c:latest"),
        ("a---b", "docker.io/library/a---b:latest", "a---b:latest"),
        (f"web@{DIGEST}", f"docker.io/library/web@{DIGEST}", f"web@{DIGEST}"),
        (f"r.io/web@{DIGEST}", f"r.io/web@{DIGEST}", f"r.io/web@{DIGEST}"),
    ],
)
def test_a_reference_has_a_full_and_a_familiar_form(
    text: str, canonical: str, familiar: str
) -> None:
    reference = ImageReference.parse(text)
    assert (reference.canonical, reference.familiar) == (canonical, familiar)
    assert str(reference) == familiar


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("Web", "lower-case"),
        ("myorg/Web:1", "lower-case"),
        ("web:", "tag is empty"),
        ("web:-x", "not a tag"),
        ("web:" + "a" * 129, "not a tag"),
        ("a" * 256, "longer than 255"),
        ("a/" * 600 + "a", "too long"),
        ("web@sha256:abc", "not a digest"),
        ("web@", "not a digest"),
        (f"web@md5:{HEX[:32]}", "not a digest"),
        (f"web@SHA256:{HEX}", "not a digest"),
        (HEX, "image id"),
        (DIGEST, "image id"),
        ("-web", "form"),
        ("a//b", "form"),
        ("/web", "form"),
        ("web/", "form"),
        ("a_-b", "form"),
        ("a___b", "form"),
        ("-host.com/web", "form"),
        ("host.com:port/web", "form"),
        ("web latest", "form"),
        ("web\n", "form"),
        ("wéb", "form"),
        ("web:७", "not a tag"),
        ("https://r.io/web", "form"),
    ],
)
def test_what_is_no_reference_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        ImageReference.parse(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_names_of_the_same_image_are_equal_and_hash_alike() -> None:
    names = ("redis", "redis:latest", "library/redis", "docker.io/redis", "index.docker.io/redis")
    assert len({ImageReference.parse(name) for name in names}) == 1
    assert ImageReference.parse("redis:7") != ImageReference.parse("redis")
    assert ImageReference.parse("r.io/redis") != ImageReference.parse("redis")


def test_a_tag_beside_a_digest_does_not_count() -> None:
    with_tag = ImageReference.parse(f"web:1@{DIGEST}")
    assert with_tag == ImageReference.parse(f"web@{DIGEST}")
    assert (with_tag.tag, with_tag.digest) == (None, DIGEST)


def test_255_characters_of_path_are_the_most() -> None:
    assert ImageReference.parse("r.io/" + "a" * 255).path == "a" * 255
    with pytest.raises(UsageError, match="255"):
        ImageReference.parse("r.io/" + "a" * 256)


def test_an_image_may_be_given_by_id_where_names_are_not_needed() -> None:
    assert parse_image(DIGEST) == DIGEST
    assert parse_image(HEX) == DIGEST
    assert parse_image("web:1") == ImageReference.parse("web:1")
    assert parse_image("abc123") == ImageReference.parse("abc123:latest")


_part = st.from_regex(r"[a-z0-9]{1,6}(?:(?:[._]|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
_tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
_domain = st.sampled_from(["", "localhost/", "r.io/", "r.io:5000/", "docker.io/", "Upper/"])


@given(_domain, st.lists(_part, min_size=1, max_size=4), st.none() | _tag)
def test_both_forms_of_a_reference_read_back_as_the_same_reference(
    domain: str, parts: list[str], tag: str | None
) -> None:
    # Without its registry, `0_0.x/app` looks like a registry; so it does to the engine.
    assume(domain != "docker.io/" or len(parts) == 1 or "." not in parts[0])
    assume(domain or len(parts) == 1 or "." not in parts[0])
    reference = ImageReference.parse(domain + "/".join(parts) + (f":{tag}" if tag else ""))
    assert ImageReference.parse(reference.canonical) == reference
    assert ImageReference.parse(reference.familiar) == reference
    assert reference.tag == (tag or "latest")


@given(st.text(max_size=60) | st.text("aA0.:/@_-[]", max_size=30))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = ImageReference.parse(text)
    except UsageError:
        return
    assert ImageReference.parse(reference.canonical) == reference
