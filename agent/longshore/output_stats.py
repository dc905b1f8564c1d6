"""What `stats` says: what is stored, what that stands for, and how it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.core.keys import name_of
from longshore.output_json import plain
from longshore.wording import clean, columns, count, size

if TYPE_CHECKING:
    from longshore.ops.stats import Held, ProjectStats, ServiceStats, Sizes

_SIZES = ("ENTRIES", "IMAGES", "CHUNKS", "DEDUPLICATED", "COMPRESSED")


def stats_text(stats: ProjectStats) -> str:
    """Tell the figures of a project."""
    held = stats.held
    head = (
        f"{clean(stats.project)}: {size(held.stored_bytes)} stored,"
        f" {size(held.unreferenced_bytes)} of it unreferenced"
    )
    scopes = [
        (
            clean(name_of(one.scope)),
            size(one.held.stored_bytes),
            size(one.held.unreferenced_bytes),
            *_sizes(one.sizes),
        )
        for one in stats.scopes
    ]
    total = (
        "(all)",
        size(held.stored_bytes),
        size(held.unreferenced_bytes),
        *_sizes(stats.sizes),
    )
    services = [
        (
            clean(name_of(one.scope)),
            clean(name_of(one.service)),
            clean(name_of(one.platform)),
            *_sizes(one.sizes),
            _growth(one),
        )
        for one in stats.services
    ]
    parts = [
        head,
        columns(
            [("SCOPE", "STORED", "UNREFERENCED", *_SIZES), *scopes, total],
            right=range(1, 8),
            indent=2,
        ),
    ]
    if services:
        heads = ("SCOPE", "SERVICE", "PLATFORM", *_SIZES, "ADDED, NEWEST FIRST")
        parts.append(columns([heads, *services], right=range(3, 8), indent=2))
    if stats.unreadable:
        documents = count(stats.unreadable, "object")
        parts.append(f"  {documents} could not be read or used; `longshore check` names them")
    if stats.too_many:
        parts.append("  there are more chunks than fit in --memory, so they are not told apart")
    return "\n".join(parts)


def _sizes(sizes: Sizes) -> tuple[str, ...]:
    return (
        str(sizes.entries),
        size(sizes.logical_bytes),
        "-" if sizes.chunk_bytes is None else size(sizes.chunk_bytes),
        _ratio(sizes.deduplication),
        _ratio(sizes.compression),
    )


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f} : 1"


def _growth(one: ServiceStats) -> str:
    return ", ".join("-" if a.added_bytes is None else size(a.added_bytes) for a in one.growth)


def stats_json(stats: ProjectStats) -> dict[str, Any]:
    """Describe the figures of a project."""
    return {
        **_held_json(stats.held),
        **_sizes_json(stats.sizes),
        "scopes": [
            {"scope": name_of(one.scope), **_held_json(one.held), **_sizes_json(one.sizes)}
            for one in stats.scopes
        ],
        "services": [
            {
                "scope": name_of(one.scope),
                "service": name_of(one.service),
                "platform": name_of(one.platform),
                **_sizes_json(one.sizes),
                "growth": plain(one.growth),
            }
            for one in stats.services
        ],
        "unreadable": stats.unreadable,
        "too_many": stats.too_many,
    }


def _held_json(held: Held) -> dict[str, int]:
    return {
        "stored_bytes": held.stored_bytes,
        "referenced_bytes": held.referenced_bytes,
        "unreferenced_bytes": held.unreferenced_bytes,
    }


def _sizes_json(sizes: Sizes) -> dict[str, Any]:
    return {
        **plain(sizes),
        "deduplication": plain(sizes.deduplication),
        "compression": plain(sizes.compression),
    }
