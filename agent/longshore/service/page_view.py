"""What the page shows of the cache, made of the documents that `list`, `show` and `config` write.

All of it is text that is ready to be shown; names and tags are whatever somebody chose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct, field

from longshore.service.page_data import Answer, Facts, Key
from longshore.wording import clean, count, period, size

Verdict = Literal["hit", "miss", "unknown"]
Document = Mapping[str, Any]

_CACHE = ":buildkit-cache"  # behind the name of a service, its BuildKit cache's
# What import takes for a miss; all else is a failure, and may be over a moment later.
_MISSES = frozenset(
    {
        "NotCached",
        "UnsupportedFormat",
        "NotTrusted",
        "TooLarge",
        "CorruptData",
        "ObjectMissing",
        "ObjectTooLarge",
    }
)
_LONGEST = 200
_TAGS = 6
_NOTICES = 5
_LAYERS = 300


class LayerView(Struct, frozen=True):
    """A layer of what a build would load.

    Attributes:
        id: of the diff, in short; `digest` is all of it.
        command: the build step that made it, if it is known.
        share: of the largest layer, in hundredths.
    """

    id: str
    digest: str
    command: str
    size: str
    stored: str
    shared_with: str
    problem: str
    share: float


class ServiceView(Struct, frozen=True):
    """A service, or its BuildKit cache, on one platform.

    Attributes:
        anchor: a name for it in HTML.
        name: of the service, to be sent back; `title` is to be read.
        scope: from which a build would load it; empty if it is no hit.
        why: why it is no hit.
        origin: branch and revision of the build that made it, as far as they are known.
        job_url: of that build; empty if it is no address of the web.
        layers: `None` if they are not known yet.
        layers_more: how many are not listed.
        flushable: the own scope has something to hide.
    """

    anchor: str
    name: str
    title: str
    platform: str
    declared: bool
    verdict: Verdict
    scope: str
    fallback: bool
    age: str
    stored_at: str
    why: str
    size: str
    stored: str
    tags: Sequence[str]
    origin: str
    job_url: str
    older: int
    layers: Sequence[LayerView] | None
    layers_more: int
    summary: str
    flushable: bool


class CacheView(Struct, frozen=True):
    """All that is known of the cache.

    Attributes:
        scope: the sidecar's own; empty if it is not known, and then nothing can be flushed.
        notices: what is wrong, a line each.
        listed: whether the store could be read.
    """

    project: str = ""
    store: str = ""
    scope: str = ""
    fallback: Sequence[str] = ()
    services: Sequence[ServiceView] = ()
    notices: Sequence[str] = ()
    listed: bool = False
    hits: int = 0
    size: str = ""
    stored: str = ""
    declared: Sequence[str] = field(default_factory=tuple)

    @property
    def flushable(self) -> bool:
        """Whether the own scope has anything to hide."""
        return any(service.flushable for service in self.services)

    @property
    def empty(self) -> bool:
        """Whether the store was read, and has nothing."""
        return self.listed and not self.hits


def worth_showing(listing: Document) -> tuple[Key, ...]:
    """Name what `show` may tell more about: all that has an entry which is not flushed."""
    return tuple(
        dict.fromkeys(
            Key(row["service"], row["platform"])
            for row in listing.get("entries") or ()
            if row["service"] and row["kind"] not in (None, "flushed")
        )
    )


def cache_view(facts: Facts) -> CacheView:
    """Put together what is known."""
    listing, config = facts.listing.document, _options(facts.config.document)
    scope = listing.get("scope") or config.get("scope") or ""
    groups = _groups(listing)
    declared = services_of(facts.config.document)
    keys = sorted(groups, key=lambda key: _order(key, declared))
    listed = not facts.listing.problem
    services = [_service(key, groups[key], scope, declared, facts) for key in keys]
    there = {_base(key.service) for key in keys}
    services += [_absent(name, listed) for name in declared if name not in there]
    hits = [service for service in services if service.verdict == "hit"]
    found = [row for key in keys for row in groups[key] if row["id"] in _loaded(facts)]
    return CacheView(
        project=short(listing.get("project") or config.get("project") or ""),
        store=short(listing.get("store") or config.get("store") or ""),
        scope=scope,
        fallback=tuple(listing.get("fallback") or config.get("fallback") or ()),
        services=services,
        notices=tuple(_notices(facts)),
        listed=listed,
        hits=len(hits),
        size=size(sum(row["image_bytes"] or 0 for row in found)),
        stored=size(sum(row["stored_bytes"] or 0 for row in found)),
        declared=declared,
    )


def services_of(config: Document) -> tuple[str, ...]:
    """Name the services that the sidecar caches, in the order of their file."""
    images = _options(config).get("image") or ()
    return tuple(dict.fromkeys(image.partition("=")[0] for image in images))


def short(text: str) -> str:
    """Make a foreign text fit to be shown: one line that nobody has to scroll."""
    text = " ".join(clean(text[: 2 * _LONGEST]).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def web_address(text: str | None) -> str:
    """Return an address that may be a link; empty if it is anything else."""
    try:
        parts = urlsplit(text or "")
    except ValueError:
        return ""
    return text or "" if parts.scheme in ("http", "https") and parts.hostname else ""


def _options(config: Document) -> dict[str, Any]:
    return {option["name"]: option["value"] for option in config.get("options") or ()}


def _groups(listing: Document) -> dict[Key, list[Document]]:
    groups: dict[Key, list[Document]] = {}
    for row in listing.get("entries") or ():
        if row["service"]:
            groups.setdefault(Key(row["service"], row["platform"]), []).append(row)
    return groups


def _base(service: str) -> str:
    return service.removesuffix(_CACHE)


def _order(key: Key, declared: Sequence[str]) -> tuple[int, str, str]:
    base = _base(key.service)
    place = declared.index(base) if base in declared else len(declared)
    return place, key.service, key.platform


def _loaded(facts: Facts) -> set[str]:
    shown = (answer.document.get("entry") for answer in facts.shown.values())
    return {entry["id"] for entry in shown if entry}


def _notices(facts: Facts) -> Iterator[str]:
    said = [facts.listing.problem, facts.config.problem]
    for answer in (facts.listing, facts.config):
        said += [str(warning["message"]) for warning in answer.document.get("warnings") or ()]
    for row in facts.listing.document.get("entries") or ():
        if not row["service"] and row["problem"]:
            said.append(f"{row['scope']}: {row['problem']}" if row["scope"] else row["problem"])
    lines = list(dict.fromkeys(short(line) for line in said if line))
    yield from lines[:_NOTICES]
    if len(lines) > _NOTICES:
        yield f"{count(len(lines) - _NOTICES, 'further problem')}; `longshore list` names all"


def _service(
    key: Key, rows: Sequence[Document], own: str, declared: Sequence[str], facts: Facts
) -> ServiceView:
    answer = facts.shown.get(key)
    entry = (answer.document.get("entry") if answer else None) or {}
    verdict, why = _verdict(answer, entry, rows)
    row = _row(rows, entry) if verdict == "hit" else {}
    scope = row.get("scope", "")
    layers = [*_layers(entry)] if entry else None
    base = _base(key.service)
    is_cache = key.service != base
    flushed_not = [r for r in rows if r["scope"] == own and r["kind"] != "flushed"]
    origin = [short(text) for text in (row.get("branch"), (row.get("revision") or "")[:12]) if text]
    return ServiceView(
        anchor=_anchor(key),
        name=base,
        title=short(f"{base} · BuildKit cache" if is_cache else base),
        platform=short(key.platform),
        declared=base in declared,
        verdict=verdict,
        scope=scope,
        fallback=scope != own,
        age=_age(row.get("age_seconds")),
        stored_at=str(row.get("stored_at") or ""),
        why=short(why),
        size=_size(row.get("image_bytes")),
        stored=_size(row.get("stored_bytes")),
        tags=[short(tag) for tag in (row.get("tags") or ())[:_TAGS]],
        origin=" at ".join(origin),
        job_url=web_address(row.get("job_url")),
        older=int(row.get("older") or 0),
        layers=layers[:_LAYERS] if layers is not None else None,
        layers_more=max(0, len(layers or ()) - _LAYERS),
        summary=_summary(entry, row),
        flushable=bool(own and flushed_not),
    )


def _absent(name: str, listed: bool) -> ServiceView:
    return ServiceView(
        anchor=_anchor(Key(name, "")),
        name=name,
        title=short(name),
        platform="",
        declared=True,
        verdict="miss" if listed else "unknown",
        scope="",
        fallback=False,
        age="",
        stored_at="",
        why="not cached yet" if listed else "the store could not be read",
        size="",
        stored="",
        tags=(),
        origin="",
        job_url="",
        older=0,
        layers=None,
        layers_more=0,
        summary="",
        flushable=False,
    )


def _verdict(
    answer: Answer | None, entry: Document, rows: Sequence[Document]
) -> tuple[Verdict, str]:
    """Say what a build would find: by what `show` said, else by the list of entries."""
    if entry:
        return "hit", ""
    if answer is not None:
        return ("miss" if answer.kind in _MISSES else "unknown"), answer.problem
    first = next((row for row in rows if row["kind"] != "flushed"), None)
    if first is None:
        return "miss", "flushed; the next export fills it again"
    if first["kind"] is None:
        return "miss", first["problem"] or "it cannot be read"
    return "hit", ""


def _row(rows: Sequence[Document], entry: Document) -> Document:
    """Find the line of the list that stands for what is loaded; `entry` may be newer than it."""
    if entry:
        return next((row for row in rows if row["id"] == entry["id"]), entry)
    return next(row for row in rows if row["kind"] not in (None, "flushed"))


def _layers(entry: Document) -> Iterator[LayerView]:
    steps = {
        step["diff_id"]: step["command"]
        for image in reversed(entry.get("images") or ())
        for step in image["steps"]
        if step["diff_id"]
    }
    largest = max((layer["size_bytes"] for layer in entry["layers"]), default=0)
    for layer in entry["layers"]:
        yield LayerView(
            id=short(layer["diff_id"].removeprefix("sha256:")[:12]),
            digest=short(layer["diff_id"]),
            command=short(steps.get(layer["diff_id"], "")),
            size=size(layer["size_bytes"]),
            stored=_size(layer["stored_bytes"]),
            shared_with=short(", ".join(layer["shared_with"])),
            problem=short(layer["problem"] or ""),
            share=round(100 * layer["size_bytes"] / largest, 1) if largest else 0,
        )


def _summary(entry: Document, row: Document) -> str:
    """Sum up the layers: `7 layers, 5 of them shared with other services (312.0 MB)`."""
    if not entry:
        return count(int(row["layers"]), "layer") if row.get("layers") else ""
    layers = entry["layers"]
    shared = [layer["size_bytes"] for layer in layers if layer["shared_with"]]
    text = count(len(layers), "layer")
    if not shared:
        return f"{text}, none shared with other services"
    return f"{text}, {len(shared)} shared with other services ({size(sum(shared))})"


def _anchor(key: Key) -> str:
    digest = hashlib.sha256(f"{key.service}\0{key.platform}".encode(errors="replace"))
    return f"s-{digest.hexdigest()[:12]}"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{period(timedelta(seconds=seconds))} ago" if seconds >= 1 else "just now"


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else size(size_bytes)
