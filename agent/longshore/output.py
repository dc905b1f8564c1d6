"""Results for people: what goes to standard output without `--json`.

Nothing is cut off, and ids are written in full, but for terminals: there ids have 12 digits, so
that lines fit. All texts that come from elsewhere are cleaned of control characters.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from longshore.core.handover_forms import flag_line
from longshore.output_json import image_bytes
from longshore.wording import age, clean, columns, count, period, ranges, size

if TYPE_CHECKING:
    from longshore.core.comparing import ComparedStep, ImageComparison
    from longshore.ops.buildkit_cache import ExportedCache, ImportedCache
    from longshore.ops.compare import Comparison
    from longshore.ops.doctor import Finding
    from longshore.ops.exporter import ExportedService, ExportResult
    from longshore.ops.imported import ImportedService, ImportResult
    from longshore.ops.listing import ListedEntry
    from longshore.ops.showing import ShownEntry, ShownImage

_SHORT = 12


def shown_id(text: str, *, full: bool) -> str:
    """Write a digest, in full or as `docker images` does."""
    return clean(text if full else text.removeprefix("sha256:")[:_SHORT])


def export_text(result: ExportResult, *, scope: str, full: bool) -> str:
    """Tell what each service's images are made of, and what was uploaded for them."""
    if not result.services and not result.caches:
        return "nothing was exported"
    parts = [_exported(service, full=full) for service in result.services]
    parts += [_exported_cache(cache) for cache in result.caches]
    total = image_bytes(result) + sum(cache.size_bytes for cache in result.caches)
    share = f" ({100 * result.uploaded_bytes / total:.1f} %)" if total else ""
    parts.append(
        f"exported {_both(result.services, result.caches)} to scope {clean(scope)}"
        f" in {period(timedelta(seconds=result.seconds))}\n"
        f"{'images and caches' if result.caches else 'images'} of {size(total)},"
        f" {size(result.uploaded_bytes)} uploaded{share}{_ways(result)}"
    )
    return "\n\n".join(parts)


def _ways(result: ExportResult) -> str:
    """Say on which way new layers came, if one of them was the engine's disk."""
    if not result.direct_layers:
        return ""
    text = f"\n{count(result.direct_layers, 'layer')} read from the engine's disk"
    return text + (f", {result.saved_layers} through docker save" if result.saved_layers else "")


def _exported_cache(cache: ExportedCache) -> str:
    new = f"{cache.new_blobs} of {count(cache.blobs, 'blob')} new"
    return (
        f"{clean(cache.service)}: BuildKit cache, {size(cache.size_bytes)},"
        f" {'unchanged' if cache.unchanged else new}; entry {cache.entry}"
    )


def _both(services: Sequence[object], caches: Sequence[object]) -> str:
    parts = [count(len(services), "service")] if services or not caches else []
    parts += [count(len(caches), "BuildKit cache")] if caches else []
    return " and ".join(parts)


def _exported(service: ExportedService, *, full: bool) -> str:
    numbers = {layer.diff_id: number for number, layer in enumerate(service.layers, 1)}
    new = sum(layer.new for layer in service.layers)
    state = "unchanged" if service.unchanged else f"{new} of {count(len(numbers), 'layer')} new"
    images = [
        (
            "image",
            shown_id(image.id, full=full),
            "layers " + ranges(sorted({numbers[diff_id] for diff_id in image.diff_ids})),
            clean(" ".join(image.tags)) or "(no tag)",
        )
        for image in service.images
    ]
    layers = [
        (
            f"layer {numbers[layer.diff_id]}",
            shown_id(layer.diff_id, full=full),
            size(layer.size_bytes),
            "new" if layer.new else "reused",
        )
        for layer in service.layers
    ]
    return "\n".join(
        (
            f"{clean(service.service)}: {state}; entry {service.entry}",
            columns(images, indent=2),
            columns(layers, right=(2,), indent=2),
        )
    )


def import_text(result: ImportResult) -> str:
    """Tell what became of each service, and how the next build is made warm."""
    lines = [_imported(service) for service in result.services]
    hits = [service for service in result.services if service.outcome == "hit"]
    lines += [_imported_cache(cache) for cache in result.caches]
    lines = list(dict.fromkeys(lines))  # of a service without an image both say why it is no hit
    lines.append(
        f"imported {len(hits)} of {count(len(result.services), 'service')}:"
        f" {size(result.downloaded_bytes)} downloaded"
        f" in {period(timedelta(seconds=result.seconds))}"
    )
    return "\n".join(lines)


def _imported_cache(cache: ImportedCache) -> str:
    name = clean(cache.service)
    if cache.outcome != "hit":
        reason = clean(cache.reason)
        return reason if name in reason else f"{name}: {reason}"
    how_old = age(cache.age) if cache.age is not None else "of unknown age"
    blobs = count(cache.blobs, "blob")
    fetched = f"{cache.blobs_fetched} of {blobs} fetched"
    return (
        f"{name}: BuildKit cache from scope {clean(cache.scope or '')}, {how_old};"
        f" {f'of its {blobs} the build fetches what it needs' if cache.served else fetched}"
    )


def _imported(service: ImportedService) -> str:
    name = clean(service.service)
    if service.outcome != "hit":
        reason = clean(service.reason)
        return reason if service.outcome == "miss" and name in reason else f"{name}: {reason}"
    how_old = age(service.age) if service.age is not None else "of unknown age"
    if service.left is not None and not service.left.steps:
        what = f"not loaded ({size(service.left.size_bytes)}): " if service.layers else ""
        sent = what + clean(service.left.reason)
    elif not service.layers_sent:
        sent = "the engine had it all"
    else:
        sent = f"{service.layers_sent} of {count(service.layers, 'layer')} loaded"
    lines = [f"{name}: hit from scope {clean(service.scope or '')}, {how_old}; {sent}"]
    if service.left is not None and service.left.steps:
        left = service.left
        lines.append(
            f"  {clean(left.reason)}, so {left.left_out} of {count(left.steps, 'step')}"
            f" {'is' if left.left_out == 1 else 'are'} not loaded ({size(left.size_bytes)})"
        )
    if service.handover is not None and not service.handover.is_empty:
        lines.append(f"  build it with {clean(flag_line(service.handover)[0])}")
    return "\n".join(lines)


def list_text(entries: Sequence[ListedEntry], *, full: bool, width: int | None) -> str:
    """List entries as a table, or one below the other where a terminal is too narrow for it.

    Args:
        width: of the terminal; `None` if there is none.
    """
    readable = [entry for entry in entries if entry.service]
    refused = [_refused(entry) for entry in entries if not entry.service]
    if not readable:
        return "\n".join(["nothing is cached", *refused])
    head = ("SCOPE", "SERVICE", "PLATFORM", "AGE", "SIZE", "STORED", "ENTRY", "TAGS")
    rows = [_list_row(entry, full=full) for entry in readable]
    table = columns([head, *rows], right=(4, 5))
    if width is not None and max(map(len, table.splitlines())) > width:
        table = "\n".join(
            f"{clean(entry.scope)}  {clean(entry.service)}  {clean(entry.platform)}  {row[3]}\n"
            f"  {row[4]} of images, {row[5]} stored; entry {row[6]}\n"
            f"  {row[7]}"
            for entry, row in zip(readable, rows, strict=True)
        )
    return "\n".join((table, *refused))


def _list_row(entry: ListedEntry, *, full: bool) -> tuple[str, ...]:
    what = " ".join(entry.tags) or (entry.kind if entry.kind not in (None, "image") else "(no tag)")
    if entry.problem is not None:
        what = f"problem: {entry.problem}"
    return (
        clean(entry.scope),
        clean(entry.service),
        clean(entry.platform),
        period(entry.age) if entry.age is not None else "-",
        size(entry.image_bytes) if entry.image_bytes is not None else "-",
        size(entry.stored_bytes) if entry.stored_bytes is not None else "-",
        clean(entry.id if full else entry.id[-_SHORT:]),
        clean(what or ""),
    )


def _refused(entry: ListedEntry) -> str:
    place = f"scope {clean(entry.scope)}: " if entry.scope else ""
    return f"{place}{clean(entry.problem or 'cannot be read')}"


def show_text(entry: ShownEntry, *, full: bool) -> str:
    """Tell everything about what a build of a service would load."""
    stored = size(entry.stored_bytes) if entry.stored_bytes is not None else "an unknown amount"
    facts = [
        ("service", clean(entry.service)),
        ("scope", clean(entry.scope)),
        ("platform", clean(entry.platform)),
        ("entry", clean(entry.id)),
        ("at", clean(entry.url)),
        ("stored", f"{entry.stored_at:%Y-%m-%d %H:%M:%S} UTC, {age(entry.age)}"),
        ("by", f"{clean(entry.agent)}, {_engine(entry)}"),
        ("ids", _ids_elsewhere(entry)),
        ("size", f"{_what(entry)} of {size(entry.image_bytes)}, stored as {stored}"),
        (
            "export",
            ", ".join(
                (
                    f"{size(entry.uploaded_bytes)} uploaded",
                    count(entry.new_layers, "new layer"),
                    f"in {period(timedelta(seconds=entry.export_seconds))}",
                )
            ),
        ),
        ("revision", clean(entry.revision or "")),
        ("branch", clean(entry.branch or "")),
        ("job", clean(entry.job_url or "")),
    ]
    parts = [columns([fact for fact in facts if fact[1]])]
    parts += [_shown_image(image, full=full) for image in entry.images]
    rows = [
        (
            f"layer {number}",
            shown_id(layer.diff_id, full=full),
            size(layer.size_bytes),
            "stored as " + size(layer.stored_bytes) if layer.stored_bytes is not None else "-",
            count(layer.chunks, "chunk") if layer.problem is None else clean(layer.problem),
            f"also in {clean(', '.join(layer.shared_with))}" if layer.shared_with else "",
        )
        for number, layer in enumerate(entry.layers, 1)
    ]
    parts.append(columns(rows, right=(2,)))
    return "\n\n".join(parts)


def _engine(entry: ShownEntry) -> str:
    return f"engine {clean(entry.engine_version)} ({clean(entry.image_store)})"


def _what(entry: ShownEntry) -> str:
    return "a BuildKit cache" if entry.kind == "buildkit-cache" else "images"


def _ids_elsewhere(entry: ShownEntry) -> str:
    """Say what becomes of the images' ids on an engine with the other kind of image store."""
    if not entry.images:
        return ""
    if entry.image_store == "containerd":
        return "of manifests; a graphdriver store goes by configs"
    return "of configs; a containerd store goes by manifests"


def _shown_image(image: ShownImage, *, full: bool) -> str:
    tags = clean(" ".join(image.tags)) or "(no tag)"
    lines = [
        f"image {shown_id(image.id, full=full)}  {tags}  {count(image.layers, 'layer')}",
    ]
    if image.steps:
        rows = [
            (
                size(step.size_bytes) if step.size_bytes is not None else "-",
                clean(step.command),
            )
            for step in image.steps
        ]
        lines.append(columns(rows, right=(0,), indent=2))
    elif image.command:
        lines.append(f"  {clean(image.command)}")
    return "\n".join(lines)


def diff_text(comparison: Comparison, *, full: bool) -> str:
    """Tell where the engine's images and the cached ones part."""
    head = (
        f"{clean(comparison.service)}: {clean(comparison.verdict)}\n"
        f"  engine against scope {clean(comparison.scope)}, {age(comparison.age)}"
        f" ({clean(comparison.platform)}, entry {clean(comparison.entry)})"
    )
    parts = [head]
    for image in comparison.images:
        if image.result is None:
            parts.append(f"{clean(image.reference)}: {clean(image.problem or '')}")
        else:
            parts.append(_compared(image.reference, image.result, full=full))
    return "\n\n".join(parts)


def _compared(reference: str, result: ImageComparison, *, full: bool) -> str:
    lines = [
        f"{clean(reference)}: {clean(result.verdict)}",
        f"  engine {shown_id(result.engine_id, full=full)}",
        f"  cache  {shown_id(result.cached_id, full=full)}",
        f"  {count(result.common_layers, 'layer')} in common",
    ]
    for where, tags in (
        ("only in the engine", result.tags_only_in_engine),
        ("only in the cache", result.tags_only_in_cache),
    ):
        if tags:
            lines.append(f"  tags {where}: {clean(' '.join(tags))}")
    if not result.identical:
        steps = [(_mark(step), _command(step)) for step in result.steps]
        lines.append(columns(steps, indent=2))
    return "\n".join(lines)


def _mark(step: ComparedStep) -> str:
    marks = {"same": "=", "changed": "~", "rebuilt": "*"}
    return marks.get(step.state, "+" if step.state == "only in engine" else "-") + " " + step.state


def _command(step: ComparedStep) -> str:
    ours, theirs = clean(step.engine_command or ""), clean(step.cached_command or "")
    return f"{ours}  (cache: {theirs})" if step.state == "changed" else ours or theirs


def doctor_text(findings: Sequence[Finding], *, width: int | None) -> str:
    """Tell what is well, what is not, and what to do about it.

    Args:
        width: of the terminal, to wrap lines at; `None` if there is none.
    """
    lines = []
    subjects = max((len(clean(finding.subject)) for finding in findings), default=0)
    margin = len("warning") + 2 + subjects + 2
    room = max(width - margin, 30) if width else sys.maxsize
    for finding in findings:
        said = textwrap.wrap(clean(finding.text), room, break_on_hyphens=False)
        said += textwrap.wrap(clean(finding.advice), room, break_on_hyphens=False)
        first, *rest = said or [""]
        lines.append(f"{finding.verdict:<7}  {clean(finding.subject):<{subjects}}  {first}")
        lines += [" " * margin + line for line in rest]
    bad = sum(finding.verdict == "problem" for finding in findings)
    lines.append(f"{count(bad, 'problem')} found" if bad else "no problem found")
    return "\n".join(lines)


def config_text(rows: Sequence[tuple[str, str, str]]) -> str:
    """List the effective values, and who gave them."""
    return columns([("OPTION", "VALUE", "FROM"), *((a, clean(b), clean(c)) for a, b, c in rows)])
