"""Results for programs: the documents that `docs/cli.md` promises."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from longshore.core.policy import Grant
    from longshore.core.session_credentials import SessionCredentials
    from longshore.engine.contract import EngineImage
    from longshore.ops.exporter import ExportedService, ExportResult
    from longshore.ops.imported import ImportedService, ImportResult
    from longshore.store.metrics import StoreMetrics


def to_text(document: Mapping[str, Any]) -> str:
    """Write a document; control characters of foreign texts are escaped, as all but ASCII is."""
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def problem_json(error: LongshoreError, message: str) -> dict[str, Any]:
    """Describe an error or a warning, by the kinds that `errors.py` has and no finer ones."""
    kind = next(k for k in type(error).__mro__ if k.__module__ == LongshoreError.__module__)
    return {"error": kind.__name__, "message": message, "exit_code": error.exit_code}


# Of a Struct, a named tuple, a dataclass: told by their names, as a client imports none of these.
_FIELDS = ("__struct_fields__", "_fields", "__dataclass_fields__")


def plain(value: Any) -> Any:
    """Turn results into what JSON knows: instants as ISO 8601 in UTC, durations as seconds."""
    names = next((getattr(value, kind) for kind in _FIELDS if hasattr(value, kind)), None)
    if names is not None and not isinstance(value, type):
        document: dict[str, Any] = {}
        for name in names:
            item = getattr(value, name)
            timed = isinstance(item, timedelta) or name == "age"
            document[f"{name}_seconds" if timed else name] = plain(item)
        return document
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    if isinstance(value, float):
        return round(value, 3)
    return value


def traffic_json(metrics: StoreMetrics) -> dict[str, int]:
    """Describe what was asked of the store."""
    return {
        "requests": sum(metrics.requests.values()),
        "retries": sum(metrics.retries.values()),
        "bytes_in": metrics.bytes_in,
        "bytes_out": metrics.bytes_out,
    }


def export_json(result: ExportResult) -> dict[str, Any]:
    """Describe an export."""
    return {
        "services": [_exported_json(service) for service in result.services],
        "caches": [plain(cache) for cache in result.caches],
        "image_bytes": image_bytes(result),
        "uploaded_bytes": result.uploaded_bytes,
        "saved_images": result.saved_images,
        "direct_layers": result.direct_layers,
        "saved_layers": result.saved_layers,
        "seconds": round(result.seconds, 3),
    }


def image_bytes(result: ExportResult) -> int:
    """Add up the distinct layers of all services."""
    layers = {layer.diff_id: layer.size_bytes for s in result.services for layer in s.layers}
    return sum(layers.values())


def _exported_json(service: ExportedService) -> dict[str, Any]:
    return {
        "service": service.service,
        "entry": service.entry,
        "unchanged": service.unchanged,
        "images": [_image_json(image) for image in service.images],
        "layers": [plain(layer) for layer in service.layers],
    }


def _image_json(image: EngineImage) -> dict[str, Any]:
    return {
        "id": image.id,
        "tags": list(image.tags),
        "parent": image.parent,
        "diff_ids": list(image.diff_ids),
    }


def import_json(result: ImportResult) -> dict[str, Any]:
    """Describe an import."""
    return {
        "services": [_imported_json(service) for service in result.services],
        "caches": [plain(cache) for cache in result.caches],
        "downloaded_bytes": result.downloaded_bytes,
        "seconds": round(result.seconds, 3),
    }


def _imported_json(service: ImportedService) -> dict[str, Any]:
    return {
        "service": service.service,
        "outcome": service.outcome,
        "reason": service.reason,
        "scope": service.scope,
        "entry": service.entry,
        "age_seconds": plain(service.age),
        "images": list(service.images),
        "tags": list(service.tags),
        "layers": service.layers,
        "layers_sent": service.layers_sent,
        "steps": service.left.steps or None if service.left else None,
        "steps_left_out": service.left.left_out if service.left else 0,
        "left_out_bytes": service.left.size_bytes if service.left else 0,
        "left_out_reason": service.left.reason if service.left else "",
        "cache_from": list(service.handover.cache_from) if service.handover else [],
    }


def credentials_json(
    grant: Grant,
    role_arn: str | None,
    session_name: str | None,
    policy: str,
    credentials: SessionCredentials | None,
) -> dict[str, Any]:
    """Describe a grant: the one document with secrets, which it is there to hand out."""
    return {
        "store": f"s3://{grant.place.bucket}/{grant.place.prefix}",
        "project": grant.project,
        "scope": grant.scope,
        "fallback": list(grant.fallback),
        "read_only": grant.read_only,
        "role_arn": role_arn,
        "session_name": session_name,
        "policy": policy,
        "credentials": plain(credentials),
    }
