"""A small evaluator of IAM policies: what it allows, by the rules of IAM's reference.

It knows what longshore's policies use: actions, resources with `*` and `?`, principals, the
conditions StringLike, StringEquals, their negations, Bool and Null, and that an explicit deny wins.
It shares no code with longshore.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Policy = Mapping[str, Any]


def matches(pattern: str, text: str) -> bool:
    """Compare as IAM does: `*` is any text, slashes and nothing too, `?` is one character."""
    # No variables: a `${` in a policy of longshore would be a bug of its own.
    assert "${" not in pattern
    position, star, retry = 0, -1, 0
    index = 0
    while index < len(text):
        if position < len(pattern) and pattern[position] == "*":
            star, retry = position, index
            position += 1
        elif position < len(pattern) and pattern[position] in ("?", text[index]):
            position += 1
            index += 1
        elif star >= 0:
            position, retry = star + 1, retry + 1
            index = retry
        else:
            return False
    return not pattern[position:].strip("*")


def allows(
    policy: Policy, action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """Tell whether a policy allows an action: a statement does, and none denies it."""
    effects = {
        statement["Effect"]
        for statement in _list(policy["Statement"])
        if _applies(statement, action, resource, context)
    }
    return effects == {"Allow"}


def may_assume(
    trust: Policy, principal: str, action: str, claims: Mapping[str, str] | None = None
) -> bool:
    """Tell whether a trust policy lets somebody take the role.

    Args:
        principal: an ARN: of a user or role, or of the OIDC provider that signed the claims.
        claims: by their full names, such as `gitlab.com:sub`.
    """
    effects = {
        statement["Effect"]
        for statement in _list(trust["Statement"])
        if _is_meant(statement["Principal"], principal) and _applies(statement, action, "", claims)
    }
    return effects == {"Allow"}


def _is_meant(principals: Any, principal: str) -> bool:
    if principals == "*":
        return True
    kind = "Federated" if ":oidc-provider/" in principal else "AWS"
    # A wildcard in a principal is none, unless it is all there is.
    return bool({"*", principal} & set(_list(principals.get(kind, []))))


def _applies(
    statement: Policy, action: str, resource: str, context: Mapping[str, str] | None
) -> bool:
    context = context or {}
    return (
        any(matches(each, action) for each in _list(statement["Action"]))
        and any(matches(each, resource) for each in _list(statement.get("Resource", "*")))
        and all(
            _holds(operator, key, _list(wanted), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, key: str, wanted: list[str], context: Mapping[str, str]) -> bool:
    if operator in ("StringNotLike", "StringNotEquals"):
        # A key that is not there is not equal to anything.
        return not _holds(operator.replace("Not", ""), key, wanted, context)
    if operator == "Null":
        return str(key not in context).lower() in wanted
    if key not in context:
        return False
    found = context[key]
    if operator == "StringLike":
        return any(matches(each, found) for each in wanted)
    assert operator in ("StringEquals", "Bool"), operator
    return found in wanted


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
