"""Refuse requests without TLS in a bucket's policy, and leave all else in it as it is."""

from __future__ import annotations

from typing import Any

from longshore.core.policy import Place, Policy

TLS_ONLY = "LongshoreTlsOnly"  # our statement's id; every other statement is somebody else's


def tls_statement(place: Place) -> Policy:
    """Write the statement that refuses whatever comes without TLS."""
    return {
        "Sid": TLS_ONLY,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [place.bucket_arn, f"{place.bucket_arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def is_policy(document: Any) -> bool:
    """Tell whether a document has statements that can be told apart."""
    return isinstance(document, dict) and all(
        isinstance(statement, dict) for statement in _list(document.get("Statement", []))
    )


def is_tls_only(policy: Policy | None, place: Place) -> bool:
    """Tell whether a policy refuses requests without TLS, by our statement or by another one."""
    if policy is None:
        return False
    wanted = tls_statement(place)
    return any(
        statement.get("Effect") == "Deny"
        and _is_anybody(statement.get("Principal"))
        and {"s3:*", "*"} & {str(each) for each in _list(statement.get("Action"))}
        and set(wanted["Resource"]) <= {str(each) for each in _list(statement.get("Resource"))}
        and _is_without_tls(statement.get("Condition"))
        for statement in _list(policy.get("Statement", []))
    )


def with_tls_only(policy: Policy | None, place: Place) -> Policy:
    """Add our statement to a policy, in the place of an older one of ours."""
    ours = tls_statement(place)
    if policy is None:
        return {"Version": "2012-10-17", "Statement": [ours]}
    others = [
        statement
        for statement in _list(policy.get("Statement", []))
        if statement.get("Sid") != TLS_ONLY
    ]
    return {**policy, "Statement": [*others, ours]}


def _is_anybody(principal: Any) -> bool:
    return principal == "*" or (isinstance(principal, dict) and "*" in _list(principal.get("AWS")))


def _is_without_tls(condition: Any) -> bool:
    # Any further condition makes a statement apply less often, so it must be this one alone.
    if not isinstance(condition, dict) or list(condition) != ["Bool"]:
        return False
    keys = condition["Bool"]
    if not isinstance(keys, dict) or list(keys) != ["aws:SecureTransport"]:
        return False
    return _list(keys["aws:SecureTransport"]) in (["false"], [False])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
