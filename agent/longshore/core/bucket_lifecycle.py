"""Remove multipart uploads that nobody finished, and leave the other rules of a bucket alone."""

from __future__ import annotations

from typing import Any

from longshore.core.keys import segment

# Another's rule does as well, if it does not take longer than this.
LATEST_DAYS = 7

Rule = dict[str, Any]


def abort_rule(prefix: str, days: int) -> Rule:
    """Write the rule that aborts uploads below a prefix. Its id says whose it is, and for what."""
    return {
        "ID": rule_id(prefix),
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
    }


def rule_id(prefix: str) -> str:
    """Name the rule for a prefix: several stores may share a bucket."""
    return segment(f"longshore-uploads:{prefix}")


def aborts_uploads(rules: list[Rule], prefix: str, days: int) -> bool:
    """Tell whether a rule, ours or another's, aborts uploads below a prefix soon enough."""
    ours = abort_rule(prefix, days)
    return any(rule == ours or _aborts(rule, prefix) for rule in rules)


def with_abort_rule(rules: list[Rule], prefix: str, days: int) -> list[Rule]:
    """Add our rule to the others, in the place of an older one of ours."""
    ours = abort_rule(prefix, days)
    return [*(rule for rule in rules if rule.get("ID") != ours["ID"]), ours]


def rules_that_harm(rules: list[Rule], prefix: str) -> list[str]:
    """Name the rules that delete or archive objects below a prefix behind longshore's back."""
    return [
        str(rule.get("ID") or "without a name")
        for rule in rules
        if rule.get("Status") == "Enabled"
        and _deletes_or_archives(rule)
        and "Tag" not in _filter(rule)  # objects of longshore have no tags
        and "Tags" not in _filter(rule)
        and _overlap(_prefix(rule), prefix)
    ]


def _aborts(rule: Rule, prefix: str) -> bool:
    days = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
    return (
        rule.get("Status") == "Enabled"
        and isinstance(days, int)
        and 1 <= days <= LATEST_DAYS
        and set(_filter(rule)) <= {"Prefix"}
        and prefix.startswith(_prefix(rule))
    )


def _deletes_or_archives(rule: Rule) -> bool:
    expiration = rule.get("Expiration", {})
    archives = {"GLACIER", "DEEP_ARCHIVE"}  # objects there cannot be read at once
    return bool({"Days", "Date"} & set(expiration)) or any(
        transition.get("StorageClass") in archives for transition in rule.get("Transitions", [])
    )


def _filter(rule: Rule) -> dict[str, Any]:
    found = rule.get("Filter") or {}
    inner = found.get("And")
    return dict(inner) if isinstance(inner, dict) else dict(found)


def _prefix(rule: Rule) -> str:
    return str(_filter(rule).get("Prefix") or rule.get("Prefix") or "")


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
