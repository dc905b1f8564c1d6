"""Signatures: which bytes they cover, and that nothing but the right one is accepted."""

from __future__ import annotations

import base64
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from longshore.core.envelope import Envelope, Signature, seal, unseal
from longshore.core.signing import CONTEXT, PublicKey, SigningKey, TrustedKeys
from longshore.errors import NotTrusted, UsageError

KEY = SigningKey.from_random(b"k" * 32)
OTHER = SigningKey.from_random(b"o" * 32)
PAYLOAD = b"(\xb5/\xfd a payload, which nobody looks at before its signature"
SIGNED = seal(Envelope(PAYLOAD, (KEY.sign(PAYLOAD),)))
TRUSTED = TrustedKeys([KEY.public])
PEM = KEY.to_pem().decode()


def refusal(stored: bytes, trusted: TrustedKeys = TRUSTED) -> str:
    with pytest.raises(NotTrusted) as caught:
        trusted.open(stored)
    return str(caught.value)


def signed_by(*signatures: Signature, payload: bytes = PAYLOAD) -> bytes:
    return seal(Envelope(payload, signatures))


def test_payload_that_a_trusted_key_signed_is_returned() -> None:
    assert TRUSTED.open(SIGNED) == PAYLOAD
    assert TrustedKeys([OTHER.public, KEY.public]).open(SIGNED) == PAYLOAD


def test_signature_is_plain_ed25519_over_context_and_payload() -> None:
    # With the library alone, as another implementation would check it.
    (signature,) = unseal(SIGNED).signatures
    name, _, text = signature.key.partition(":")
    raw = base64.b64decode(text)

    assert (signature.algorithm, name, len(signature.key)) == ("ed25519", "ed25519", 52)
    ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(
        base64.b64decode(signature.signature), b"longshore entry 1\n" + PAYLOAD
    )


def test_every_changed_byte_is_refused() -> None:
    for position in range(len(SIGNED)):
        for mask in (0x01, 0x02, 0x20, 0x80):
            changed = bytearray(SIGNED)
            changed[position] ^= mask
            refusal(bytes(changed))


def test_every_truncation_and_any_addition_is_refused() -> None:
    for length in range(len(SIGNED)):
        refusal(SIGNED[:length])
    refusal(SIGNED + b"\0")


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_and_never_crash(noise: bytes) -> None:
    refusal(noise)
    refusal(SIGNED[:12] + noise)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_signature_fits_its_own_payload_only(one: bytes, other: bytes) -> None:
    (signature,) = unseal(signed_by(KEY.sign(one))).signatures

    assert TRUSTED.open(signed_by(signature, payload=one)) == one
    if one != other:
        assert refusal(signed_by(signature, payload=other)).endswith("is wrong")


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (seal(Envelope(PAYLOAD)), "it is not signed"),
        (signed_by(OTHER.sign(PAYLOAD)), f"signed by another key, {OTHER.public.name}"),
        (signed_by(Signature(KEY.public.name, "ed25519", "")), "is wrong"),
        (
            signed_by(Signature(KEY.public.name, "ed448", KEY.sign(PAYLOAD).signature)),
            "signed by another key",
        ),
        (
            signed_by(Signature(KEY.public.name, "ed25519", OTHER.sign(PAYLOAD).signature)),
            f"its signature by {KEY.public.name} is wrong",
        ),
        (signed_by(Signature("\x1b[31m" * 99, "ed25519", "")), "another key, �[31m"),
        (b"LNGSHR2\n\0\0\0\0x", "written by a newer longshore"),
        (b"LNGSHR1\n\0\0\0\x02{}x", "its signatures cannot be read"),
    ],
    ids=["stripped", "another key", "empty", "algorithm", "forged", "escapes", "newer", "block"],
)
def test_what_is_not_signed_by_a_trusted_key_is_refused_and_says_why(
    stored: bytes, reason: str
) -> None:
    text = refusal(stored)

    assert reason in text
    assert text.isprintable()
    assert len(text) < 200


def test_one_trusted_signature_of_several_is_enough() -> None:
    ours, theirs = KEY.sign(PAYLOAD), OTHER.sign(PAYLOAD)
    unknown = Signature("x", "sphincs", "AAAA")

    for order in ([ours, theirs], [theirs, ours], [unknown, theirs, ours]):
        assert TRUSTED.open(signed_by(*order)) == PAYLOAD


def test_wrong_signature_by_one_trusted_key_does_not_spoil_the_right_one_by_another() -> None:
    wrong = Signature(OTHER.public.name, "ed25519", KEY.sign(PAYLOAD).signature)
    both = TrustedKeys([OTHER.public, KEY.public])

    assert both.open(signed_by(wrong, KEY.sign(PAYLOAD))) == PAYLOAD


def test_only_the_first_signature_of_a_key_is_tried() -> None:
    # What it costs to refuse an entry is bounded by the number of trusted keys.
    wrong = Signature(KEY.public.name, "ed25519", OTHER.sign(PAYLOAD).signature)

    refusal(signed_by(wrong, KEY.sign(PAYLOAD)))


def test_signature_spelled_in_another_way_is_refused() -> None:
    right = KEY.sign(PAYLOAD).signature
    last = right[-3]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = right[:-3] + alphabet[alphabet.index(last) + 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(right)

    refusal(signed_by(Signature(KEY.public.name, "ed25519", other)))


def test_bytes_that_were_signed_for_another_purpose_are_no_entry() -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    signature = base64.b64encode(key.sign(PAYLOAD)).decode()

    refusal(signed_by(Signature(KEY.public.name, "ed25519", signature)))
    assert CONTEXT.startswith(b"longshore")


def test_keys_are_read_back_from_their_files() -> None:
    assert SigningKey.parse(PEM).public == KEY.public
    assert PublicKey.parse(KEY.public.to_pem().decode()) == KEY.public
    assert PublicKey.parse(f" {KEY.public.name}\n") == KEY.public


def test_files_are_those_of_other_tools() -> None:
    private = load_pem_private_key(KEY.to_pem(), None)
    public = load_pem_public_key(KEY.public.to_pem())

    assert isinstance(private, ed25519.Ed25519PrivateKey)
    assert private.public_key() == public


@pytest.mark.parametrize("between", [" ", "\\n", "\r\n", "", "\n\n  "])
def test_key_is_read_however_a_variable_broke_its_lines(between: str) -> None:
    assert SigningKey.parse(PEM.strip().replace("\n", between)).public == KEY.public


def p256(encryption: NoEncryption | BestAvailableEncryption) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


EC_PUBLIC = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a key"),
        ("hunter2-hunter2-hunter2", "not a key"),
        (PEM.replace("PRIVATE", "SECRET"), "not an Ed25519 private key"),
        (KEY.public.to_pem().decode(), "public key"),
        (p256(NoEncryption()), "not an Ed25519 private key"),
        (p256(BestAvailableEncryption(b"x")), "passphrase"),
        (PEM.replace("MC4CAQ", "MC4CA"), "whole PEM|not an Ed25519"),
        (PEM[:60], "not a key"),
    ],
)
def test_what_is_no_signing_key_is_refused_and_not_shown(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        SigningKey.parse(text)

    assert_shows_nothing(caught.value, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a key"),
        (PEM, "private key"),
        (EC_PUBLIC, "not an Ed25519 public key"),
        ("ed25519:AAAA", "not a key"),
        ("ed25519:" + "A" * 42 + "B=", "cannot be"),
        ("-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----", "whole PEM"),
    ],
)
def test_what_is_no_public_key_is_refused_and_not_shown(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        PublicKey.parse(text)

    assert_shows_nothing(caught.value, text)


def assert_shows_nothing(error: UsageError, text: str) -> None:
    shown = str(error)
    assert all(word not in shown for word in re.findall(r"\S{12,}", text) if "-----" not in word)


def test_private_key_is_in_no_repr() -> None:
    secret = re.sub(r"-----.*?-----|\s", "", PEM)

    for text in (repr(KEY), str(KEY), f"{[KEY]}", repr(KEY.sign)):
        assert secret not in text
        assert repr(b"k" * 32)[2:-1] not in text
