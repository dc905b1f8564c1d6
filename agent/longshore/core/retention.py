"""Decide which entries stay.

Works from keys and store times alone, and from what could be read of the documents, if anything
could: a document that nobody can read neither stops retention nor is kept by being unreadable.

A new rule is one more function that names entries and a reason, called by `plan_retention`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from longshore.core.keys import EntryKey


class Candidate(Struct, frozen=True):
    """An entry that is there.

    Attributes:
        flushed: it says that what is older is to be forgotten; as far as it could be read.
    """

    key: EntryKey
    stored_at: datetime
    flushed: bool = False


class Rules(Struct, frozen=True):
    """What the user wants to keep. Scopes are segments of keys.

    Attributes:
        keep_last: so many of the newest entries of each service and platform of a scope, at
            least 1.
        keep_within: and all that are not older than this.
        gone_after: a scope that nobody used for so long is gone, with all that it has.
        branches: the scopes that exist by somebody's word; all others of the same kind are gone.
        protected: scopes that are never gone.
        only: nothing but entries of these places may go, whatever the other rules say: each the
            scope, service and platform.
    """

    keep_last: int
    keep_within: timedelta | None = None
    gone_after: timedelta | None = None
    branches: frozenset[str] | None = None
    protected: frozenset[str] = frozenset()
    only: frozenset[tuple[str, str, str]] | None = None


class Removal(Struct, frozen=True):
    """An entry that goes, and why, in a few words for people."""

    key: EntryKey
    stored_at: datetime
    reason: str


def plan_retention(
    candidates: Iterable[Candidate],
    rules: Rules,
    *,
    used_at: Mapping[str, datetime],
    now: datetime,
    grace: timedelta,
) -> tuple[Removal, ...]:
    """Choose the entries that go, oldest first.

    Args:
        used_at: when entries of other scopes last referred to a scope: what is read is used.
        grace: how long a scope stays at least, whatever a list of branches says: a branch may be
            younger than the list.
    """
    by_place: dict[tuple[str, str, str], list[Candidate]] = {}
    newest_in: dict[str, datetime] = {}
    for candidate in candidates:
        key = candidate.key
        by_place.setdefault((key.scope, key.service, key.platform), []).append(candidate)
        stored_at = candidate.stored_at
        newest_in[key.scope] = max(newest_in.get(key.scope, stored_at), stored_at)
    gone: dict[str, str] = {}
    for scope, newest in newest_in.items():
        used = max(newest, used_at.get(scope, newest))
        if scope not in rules.protected and (
            reason := _why_gone(scope, used, newest, rules, now, grace)
        ):
            gone[scope] = reason
    removals: list[Removal] = []
    for place, entries in by_place.items():
        scope = place[0]
        if rules.only is not None and place not in rules.only:
            continue
        entries.sort(key=lambda candidate: candidate.key.id, reverse=True)
        if scope in gone:
            removals += [Removal(c.key, c.stored_at, gone[scope]) for c in entries]
        else:
            removals += _in_excess(entries, rules, now, grace)
    return tuple(sorted(removals, key=lambda removal: (removal.stored_at, removal.key.id)))


def _why_gone(
    scope: str, used: datetime, newest: datetime, rules: Rules, now: datetime, grace: timedelta
) -> str:
    if rules.gone_after is not None and now - used > rules.gone_after:
        return f"nobody has used the scope for {(now - used).days} days"
    if rules.branches is not None and scope not in rules.branches and now - newest > grace:
        kinds = {kind_of(branch) for branch in rules.branches}
        if kind_of(scope) in kinds:
            return "the branch is gone"
    return ""


def kind_of(scope: str) -> str:
    """Tell what a scope, as a segment, is named for: `pr`, `tag`, or nothing if for a branch."""
    prefix, colon, _ = scope.partition("~3A")
    return prefix if colon else ""


def _in_excess(
    entries: Sequence[Candidate], rules: Rules, now: datetime, grace: timedelta
) -> Iterator[Removal]:
    """Go through the entries of one service and platform of a scope, newest first."""
    kept = 0
    hidden = False
    for candidate in entries:
        age = now - candidate.stored_at
        if hidden:
            yield Removal(candidate.key, candidate.stored_at, "flushed")
        elif candidate.flushed:
            hidden = True
            # While it is the newest, it hides what is older: it goes last of all, in a later run.
            if kept or (len(entries) == 1 and age > grace):
                yield Removal(candidate.key, candidate.stored_at, "flushed, and nothing is left")
        elif kept < rules.keep_last or (rules.keep_within is not None and age <= rules.keep_within):
            kept += 1
        else:
            yield Removal(
                candidate.key, candidate.stored_at, f"older than the newest {rules.keep_last}"
            )


def protected_entries(
    candidates: Iterable[Candidate], protected: Collection[str]
) -> frozenset[EntryKey]:
    """Name the newest entry of each service and platform in protected scopes."""
    newest: dict[tuple[str, str, str], EntryKey] = {}
    for candidate in candidates:
        key = candidate.key
        place = (key.scope, key.service, key.platform)
        if key.scope in protected and (place not in newest or newest[place].id < key.id):
            newest[place] = key
    return frozenset(newest.values())
