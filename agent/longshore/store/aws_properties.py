"""The properties of a bucket as boto3's calls read and write them; nothing is caught here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from longshore.core.bucket_plan import PUBLIC_ACCESS, Name

WHAT: Mapping[Name, str] = {
    "ownership": "ownership controls",
    "encryption": "default encryption",
    "tls": "bucket policies",
    "public-access": "block of public access",
    "uploads": "lifecycle rules",
}
NEVER_SET = {
    "NoSuchBucketPolicy",
    "NoSuchLifecycleConfiguration",
    "NoSuchPublicAccessBlockConfiguration",
    "OwnershipControlsNotFoundError",
    "ServerSideEncryptionConfigurationNotFoundError",
}
_OF_LIFECYCLE = ("Rules", "TransitionDefaultMinimumObjectSize")


class NotAnswered(Exception):
    """The server answered another question: it does not know the one that it was asked."""


def read_property(client: Any, bucket: str, name: Name) -> dict[str, Any]:
    """Ask for one property.

    Raises:
        NotAnswered: the answer is to something else.
    """
    return _READERS[name](client, bucket)


def write_property(client: Any, bucket: str, name: Name, value: dict[str, Any]) -> None:
    """Set one property."""
    operation, arguments = _call_for(name, value)
    getattr(client, operation)(Bucket=bucket, **arguments)


def _ownership(client: Any, bucket: str) -> dict[str, Any]:
    found = client.get_bucket_ownership_controls(Bucket=bucket)
    return _answer(found["OwnershipControls"])


def _encryption(client: Any, bucket: str) -> dict[str, Any]:
    found = client.get_bucket_encryption(Bucket=bucket)
    return _answer(found["ServerSideEncryptionConfiguration"])


def _policy(client: Any, bucket: str) -> dict[str, Any]:
    text = client.get_bucket_policy(Bucket=bucket)["Policy"]
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {"Statement": document}


def _public_access(client: Any, bucket: str) -> dict[str, Any]:
    found = client.get_public_access_block(Bucket=bucket)
    return _answer(found["PublicAccessBlockConfiguration"], *PUBLIC_ACCESS)


def _lifecycle(client: Any, bucket: str) -> dict[str, Any]:
    found = client.get_bucket_lifecycle_configuration(Bucket=bucket)
    return _answer({field: found[field] for field in _OF_LIFECYCLE if field in found})


_READERS: Mapping[Name, Callable[[Any, str], dict[str, Any]]] = {
    "ownership": _ownership,
    "encryption": _encryption,
    "tls": _policy,
    "public-access": _public_access,
    "uploads": _lifecycle,
}


def _answer(found: dict[str, Any], *fields: str) -> dict[str, Any]:
    """Return an answer, if it is one: some servers list a bucket when asked for what they lack."""
    if not set(fields or ("Rules",)) & set(found):
        raise NotAnswered
    return dict(found)


def _call_for(name: Name, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    match name:
        case "ownership":
            return "put_bucket_ownership_controls", {"OwnershipControls": value}
        case "encryption":
            return "put_bucket_encryption", {"ServerSideEncryptionConfiguration": value}
        case "tls":
            return "put_bucket_policy", {"Policy": json.dumps(value)}
        case "public-access":
            return "put_public_access_block", {"PublicAccessBlockConfiguration": value}
        case "uploads":
            # All but the rules are headers, and what is left out goes back to its default.
            others = {field: each for field, each in value.items() if field != "Rules"}
            rules = {"LifecycleConfiguration": {"Rules": value["Rules"]}}
            return "put_bucket_lifecycle_configuration", {**rules, **others}
        case _:
            raise AssertionError(f"a {name} is not written")
