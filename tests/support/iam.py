"""A small evaluator of IAM policies: what it allows, by the rules of IAM's reference.

It knows what longshore's policies use: actions, resources with `*` and `?`, the conditions
StringLike, StringEquals and Bool, and that an explicit deny wins. It shares no code with longshore.
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
        if _applies(statement, action, resource, context or {})
    }
    return effects == {"Allow"}


def _applies(statement: Policy, action: str, resource: str, context: Mapping[str, str]) -> bool:
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
    if key not in context:
        return False
    found = context[key]
    if operator == "StringLike":
        return any(matches(each, found) for each in wanted)
    assert operator in ("StringEquals", "Bool"), operator
    return found in wanted


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
