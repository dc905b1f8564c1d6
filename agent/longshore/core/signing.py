"""Signatures of entries: Ed25519 over the payload's bytes; see `docs/format.md`, "Signatures".

The only module that imports cryptography, and imported only by who has keys. Keys come and go as
bytes; files are somebody else's.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from msgspec import Struct

from longshore.core.documents import printable
from longshore.core.envelope import Envelope, Signature, unseal
from longshore.errors import CorruptData, NotTrusted, UnsupportedFormat, UsageError

ALGORITHM = "ed25519"
CONTEXT = b"longshore entry 1\n"  # so that no signature means one thing here and another elsewhere
SEED_BYTES = 32
MAX_PEM_BYTES = 16 << 10

_SHORT = re.compile(r"ed25519:([A-Za-z0-9+/]{43}=)", re.ASCII)
# CI services pass texts of several lines on with spaces or `\n` where the line feeds were.
_PEM = re.compile(r"-----BEGIN ([A-Z ]{1,40})-----(.{1,9000}?)-----END \1-----", re.DOTALL)
_SHOWN_NAME = 60


class PublicKey(Struct, frozen=True):
    """A public key; its name is its short form, which holds all of it."""

    name: str

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read a key in short form, `ed25519:` and base64, or a PEM file's text.

        Raises:
            UsageError: it is none. The message does not show it: it might be a private one.
        """
        stripped = text.strip()
        if found := _SHORT.fullmatch(stripped):
            if base64.b64encode(base64.b64decode(found[1])).decode() == found[1]:
                return cls(stripped)
            raise UsageError("it is not an Ed25519 key: its last characters cannot be")
        label, der = _unwrap(stripped)
        if "PRIVATE" in label:
            raise UsageError("it is a private key; give the public one that keygen wrote beside it")
        try:
            key = load_der_public_key(der) if label == "PUBLIC KEY" else None
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise UsageError("it is not an Ed25519 public key; `longshore keygen` makes one")
        return _named(key)

    def to_pem(self) -> bytes:
        """Write it as a PEM file holds it."""
        return self._key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def fits(self, signature: bytes, payload: bytes) -> bool:
        """Tell whether it is this key's signature of an entry's payload."""
        try:
            self._key().verify(signature, CONTEXT + payload)
        except InvalidSignature:
            return False
        return True

    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(self.name.partition(":")[2]))


class SigningKey:
    """A private key. It has no form that a log or a traceback could show."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = _named(key.public_key())

    @classmethod
    def from_random(cls, seed: bytes) -> SigningKey:
        """Make a new key of 32 random bytes."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Read a PEM file's text.

        Raises:
            UsageError: it is none of a private key without a passphrase. The message shows nothing.
        """
        label, der = _unwrap(text)
        if label == "ENCRYPTED PRIVATE KEY":
            raise UsageError("it is protected by a passphrase, which nobody could type in a build")
        if label == "PUBLIC KEY":
            raise UsageError("it is a public key; entries are signed with the private one")
        try:
            key = load_der_private_key(der, password=None) if label == "PRIVATE KEY" else None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError("it is not an Ed25519 private key; `longshore keygen` makes one")
        return cls(key)

    def to_pem(self) -> bytes:
        """Write it as a PEM file holds it."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, payload: bytes) -> Signature:
        """Sign an entry's payload."""
        signature = self._key.sign(CONTEXT + payload)
        return Signature(self.public.name, ALGORITHM, base64.b64encode(signature).decode())


class TrustedKeys:
    """The keys whose entries count."""

    __slots__ = ("keys",)

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self.keys = {key.name: key for key in keys}

    def open(self, stored: bytes) -> bytes:
        """Return the payload of an entry that one of the keys signed.

        Raises:
            NotTrusted: none did, or it is no entry at all. Nothing of the payload was looked at.
        """
        try:
            envelope = unseal(stored)
        except (CorruptData, UnsupportedFormat) as error:
            raise NotTrusted(str(error)) from error
        self.check(envelope)
        return envelope.payload

    def check(self, envelope: Envelope) -> None:
        """Make sure that one of the keys signed the payload.

        Raises:
            NotTrusted: none did.
        """
        first: dict[str, Signature] = {}
        for signature in envelope.signatures:
            if signature.algorithm == ALGORITHM:
                first.setdefault(signature.key, signature)  # one try a key bounds what this costs
        known = [name for name in first if name in self.keys]
        for name in known:
            if self.keys[name].fits(_bytes_of(first[name].signature), envelope.payload):
                return
        if known:
            raise NotTrusted(f"its signature by {known[0]} is wrong")
        if envelope.signatures:
            others = printable(envelope.signatures[0].key[:_SHOWN_NAME])
            raise NotTrusted(f"it is signed by another key, {others}")
        raise NotTrusted("it is not signed")


def _named(key: Ed25519PublicKey) -> PublicKey:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return PublicKey(f"{ALGORITHM}:{base64.b64encode(raw).decode()}")


def _unwrap(text: str) -> tuple[str, bytes]:
    """Take the label and the contents out of a PEM text, however its lines were broken."""
    found = _PEM.search(text[:MAX_PEM_BYTES])
    if found is None:
        raise UsageError("it is not a key; `longshore keygen` makes one")
    body = re.sub(r"\s|\\[nr]", "", found[2])
    try:
        return found[1], base64.b64decode(body, validate=True)
    except ValueError:
        raise UsageError("it is not a whole PEM file") from None


def _bytes_of(text: str) -> bytes:
    """Read a signature; one that is spelled in another way than the one is none."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:
        return b""
    return decoded if base64.b64encode(decoded).decode() == text else b""
