"""Decide which further entries go, so that a project stays within a number of bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from longshore.core.gc_documents import ObjectName
from longshore.core.keys import EntryKey
from longshore.core.retention import Candidate, Removal


def plan_size(
    candidates: Iterable[Candidate],
    reached: Mapping[EntryKey, Collection[ObjectName]],
    sizes: Mapping[ObjectName, int],
    *,
    max_bytes: int,
    keep: Collection[EntryKey],
) -> tuple[Removal, ...]:
    """Choose entries to remove until what the others reach weighs `max_bytes` at most.

    The scope with the most bytes of its own comes first, and of that its oldest entry: who takes
    most pays first, and cannot make others pay. What several scopes share weighs once, on the scope
    where it lies.

    Args:
        candidates: those that the other rules keep.
        keep: entries that stay in any case.
    """
    users: Counter[ObjectName] = Counter()
    queues: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        users.update(reached.get(candidate.key, ()))
        if candidate.key not in keep:
            queues.setdefault(candidate.key.scope, []).append(candidate)
    for queue in queues.values():
        queue.sort(key=lambda candidate: (candidate.stored_at, candidate.key.id), reverse=True)
    own: Counter[str] = Counter()
    for name in users:
        own[_scope_of(name)] += sizes.get(name, 0)
    total = sum(own.values())
    removals: list[Removal] = []
    while total > max_bytes and queues:
        scope = max(queues, key=lambda scope: (own[scope], scope))
        oldest = queues[scope].pop()
        if not queues[scope]:
            del queues[scope]
        for name in reached.get(oldest.key, ()):
            users[name] -= 1
            if not users[name]:
                own[_scope_of(name)] -= sizes.get(name, 0)
                total -= sizes.get(name, 0)
        removals.append(Removal(oldest.key, oldest.stored_at, "the project is over its size"))
    return tuple(removals)


def _scope_of(name: ObjectName) -> str:
    return name.partition("/")[0]
