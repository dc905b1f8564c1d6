"""Cache directories as BuildKit writes them."""

from __future__ import annotations

import json
from pathlib import Path

from longshore.core.digests import digest_of
from longshore.core.layout import OCI_INDEX, OCI_LAYER


def write_cache(folder: Path, *layers: bytes, **latest: object) -> None:
    """Write an index of an index of layers.

    Args:
        latest: what the outer index says besides of the inner one.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, media_type: str) -> dict[str, object]:
        digest = digest_of(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def index(*children: dict[str, object]) -> bytes:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
        return json.dumps(document).encode()

    inner = blob(index(*(blob(layer, OCI_LAYER) for layer in layers)), OCI_INDEX)
    (folder / "index.json").write_bytes(index(inner | latest))
