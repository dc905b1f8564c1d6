"""What is damaged, and which entries cannot be loaded because of it.

An entry is lost if it cannot be read itself, or if a recipe that it needs cannot be followed. What
one recipe says of a pack is held against that recipe only: whoever writes a recipe that lies about
other scopes' packs costs nobody's entries but those that need this recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct, field

from longshore.core.gc_documents import ObjectName, name_of_ref
from longshore.core.keys import EntryKey
from longshore.core.recipe import Recipe

Target = EntryKey | ObjectName
Place = tuple[str, str, str]
"""Scope, service and platform, as segments of keys."""


class RecipeNeeds(Struct, frozen=True):
    """What a recipe needs, in short: recipes themselves are too large to keep all of them.

    Attributes:
        ends: up to where each pack has to go.
    """

    size_bytes: int
    stored_bytes: int
    chunks: int
    ends: Mapping[ObjectName, int]


def needs_of(recipe: Recipe) -> RecipeNeeds:
    """Sum up what a recipe needs."""
    ends = {name_of_ref(pack): end for pack, end in recipe.pack_ends().items()}
    chunks = sum(len(stream) for stream in recipe.streams)
    return RecipeNeeds(recipe.size_bytes, recipe.stored_bytes, chunks, ends)


class Findings(Struct):
    """What has been found out so far.

    Attributes:
        needed: the recipes that each entry needs which can be read.
        named: further recipes that entries name, without a need that this version knows of.
        unreadable: recipes of which it cannot be told what they refer to, so that prune deletes
            nothing as long as an entry names them.
        problems: of damaged entries, recipes and packs: what is wrong, in one line.
        culprits: of recipes that cannot be followed: the recipe itself, or packs.
    """

    needed: dict[EntryKey, tuple[ObjectName, ...]] = field(default_factory=dict)
    named: dict[EntryKey, tuple[ObjectName, ...]] = field(default_factory=dict)
    unreadable: set[ObjectName] = field(default_factory=set)
    problems: dict[Target, str] = field(default_factory=dict)
    culprits: dict[ObjectName, set[ObjectName]] = field(default_factory=dict)

    def blame(self, recipe: ObjectName, culprit: ObjectName, problem: str) -> None:
        """Note down why a recipe cannot be followed: of each culprit, what was found first."""
        self.problems.setdefault(culprit, problem)
        self.culprits.setdefault(recipe, set()).add(culprit)


class Cost(Struct, frozen=True):
    """What damage costs one service and platform of a scope.

    Attributes:
        newest: the entry that the next import would have taken is lost; older ones only, if not.
        entries: how many are lost.
    """

    scope: str
    service: str
    platform: str
    newest: bool
    entries: int


class Damage(Struct, frozen=True):
    """A damaged object, what is wrong, and what that costs."""

    target: Target
    problem: str
    costs: tuple[Cost, ...]


class Lost(Struct, frozen=True):
    """An entry that cannot be loaded.

    Attributes:
        newest: it is the newest of its service and platform, so nothing can be imported.
        culprits: what is damaged: the entry itself, recipes, packs.
        next: what would be the newest, were all lost entries gone; `None` if nothing is left.
    """

    key: EntryKey
    newest: bool
    culprits: tuple[Target, ...]
    next: EntryKey | None


def place_of(key: EntryKey) -> Place:
    """Tell the scope, service and platform of an entry."""
    return key.scope, key.service, key.platform


def assess(
    findings: Findings, entries: Mapping[EntryKey, datetime]
) -> tuple[tuple[Damage, ...], tuple[Lost, ...]]:
    """Tell what the findings cost. What neither costs an entry nor stops prune is no damage.

    Args:
        entries: all that there are, with their store times.

    Returns:
        What is damaged, and the entries that are lost, oldest first.
    """
    lost: dict[EntryKey, tuple[Target, ...]] = {}
    for key in entries:
        if key in findings.problems:
            lost[key] = (key,)
        else:
            recipes = findings.needed.get(key, ())
            culprits = {c for recipe in recipes for c in findings.culprits.get(recipe, ())}
            culprits |= findings.unreadable.intersection(findings.named.get(key, ()))
            if culprits:
                lost[key] = tuple(sorted(culprits))
    newest = _newest(entries)
    sound = _newest(key for key in entries if key not in lost)
    by_target: dict[Target, list[EntryKey]] = {}
    for key, targets in lost.items():
        for target in targets:
            by_target.setdefault(target, []).append(key)
    damages = [
        Damage(target, findings.problems[target], _costs(keys, newest))
        for target, keys in by_target.items()
    ]
    damages += [
        Damage(target, findings.problems[target], ())
        for target in findings.unreadable - by_target.keys()
    ]
    return (
        tuple(sorted(damages, key=lambda damage: _order(damage.target))),
        tuple(
            Lost(key, newest[place_of(key)] == key, lost[key], sound.get(place_of(key)))
            for key in sorted(lost, key=lambda key: (entries[key], key.id))
        ),
    )


def _newest(keys: Iterable[EntryKey]) -> dict[Place, EntryKey]:
    newest: dict[Place, EntryKey] = {}
    for key in keys:
        known = newest.get(place_of(key))
        if known is None or known.id < key.id:
            newest[place_of(key)] = key
    return newest


def _costs(keys: Iterable[EntryKey], newest: Mapping[Place, EntryKey]) -> tuple[Cost, ...]:
    counts: Counter[Place] = Counter()
    also_newest: set[Place] = set()
    for key in keys:
        counts[place_of(key)] += 1
        if newest[place_of(key)] == key:
            also_newest.add(place_of(key))
    return tuple(Cost(*place, place in also_newest, counts[place]) for place in sorted(counts))


def _order(target: Target) -> tuple[int, str]:
    """Entries first, as they lie in the store."""
    if isinstance(target, EntryKey):
        return 0, "/".join((target.scope, target.service, target.platform, target.id))
    return 1, target
