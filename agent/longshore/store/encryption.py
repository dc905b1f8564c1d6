"""Encryption by the S3 server: what is asked for with every object that is written or read."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from longshore.errors import UsageError

CUSTOMER_KEY_BYTES = 32
_CUSTOMER_ALGORITHM = "AES256"


class Encryption(Struct, frozen=True):
    """How the server shall encrypt; what the bucket says, if nothing is set.

    Args:
        algorithm: `AES256`, `aws:kms` or `aws:kms:dsse`.
        kms_key: the key's ARN, id or alias; the server's own without it.
        customer_key: a key that the server does not keep (SSE-C), 32 bytes. It is in no repr.
    """

    algorithm: str | None = None
    kms_key: str | None = None
    customer_key: bytes | None = None

    def __repr__(self) -> str:
        given = self.customer_key is not None
        return f"Encryption({self.algorithm!r}, {self.kms_key!r}, customer_key={given})"

    @property
    def of_new_objects(self) -> dict[str, Any]:
        """What a put, and the begin of an upload, have to say."""
        arguments: dict[str, Any] = {}
        if self.algorithm is not None:
            arguments["ServerSideEncryption"] = self.algorithm
        if self.kms_key is not None:
            arguments["SSEKMSKeyId"] = self.kms_key
        return arguments | self.of_their_bytes

    @property
    def of_their_bytes(self) -> dict[str, Any]:
        """What every request has to say that touches an object's bytes, parts and reads too."""
        if self.customer_key is None:
            return {}
        return {
            "SSECustomerAlgorithm": _CUSTOMER_ALGORITHM,
            "SSECustomerKey": self.customer_key,
        }

    def is_confirmed(self, response: Mapping[str, Any]) -> bool:
        """Tell whether the answer to a put says that the object was encrypted as asked.

        Servers that do not know a header ignore it, and store the object as it is.
        """
        if self.customer_key is not None:
            return response.get("SSECustomerAlgorithm") == _CUSTOMER_ALGORITHM
        return self.algorithm in (None, response.get("ServerSideEncryption"))


NO_ENCRYPTION = Encryption()


def check_way(encryption: Encryption, endpoint_url: str | None) -> None:
    """Make sure that a customer's key goes over TLS, or does not leave the machine.

    Raises:
        UsageError: it would be sent in the clear.
    """
    if encryption.customer_key is None:
        return
    parts = urlsplit(endpoint_url or "")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise UsageError(
            "--sse-customer-key is sent with every request, so it needs an endpoint with https://"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
