"""The data root of a graphdriver engine, written as moby and tar-split write it.

Layout: moby `layer/filestore.go` and `image/fs.go`; tar-split `tar/storage/entry.go`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.fake_engine import FakeEngine
from tests.support.tars import Tar


def segment(data: bytes) -> dict[str, Any]:
    """Write bytes of the tar itself."""
    return {"type": 2, "payload": base64.b64encode(data).decode(), "position": 0}


def file(name: bytes, size: int) -> dict[str, Any]:
    """Write that a file's contents belong here."""
    try:
        named = {"name": name.decode()}
    except UnicodeDecodeError:
        named = {"name_raw": base64.b64encode(name).decode()}
    crc = base64.b64encode(bytes(8)).decode() if size else None
    return {"type": 1, **named, "size": size, "payload": crc, "position": 0}


def compressed(lines: Iterable[dict[str, Any]]) -> bytes:
    """Write a `tar-split.json.gz`."""
    return gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines), 1)


@dataclass(frozen=True)
class SplitLayer:
    """A layer's tar, apart: lines of its tar-split file, and contents by name."""

    lines: list[dict[str, Any]]
    files: dict[bytes, bytes]


def split_parts(tar: Tar) -> SplitLayer:
    """Split a tar of which it is known what its contents are; files get names of their own."""
    lines: list[dict[str, Any]] = []
    files: dict[bytes, bytes] = {}
    for number, part in enumerate(tar.parts):
        name = b"folder %d/sub/f\xc3\xa9\xff %d" % (number % 3, number)
        lines += [segment(part.header), file(name, len(part.content)), segment(part.padding)]
        if part.content:
            files[name] = part.content
    return SplitLayer(lines, files)


def split_tar(data: bytes) -> SplitLayer:
    """Split a tar as Python reads it; what comes again under one name stays with the headers."""
    lines: list[dict[str, Any]] = []
    files: dict[bytes, bytes] = {}
    end = 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            name = member.name.encode(errors="surrogateescape")
            if member.isreg() and member.size and name and name not in files:
                files[name] = data[member.offset_data : member.offset_data + member.size]
                lines += [segment(data[end : member.offset_data]), file(name, member.size)]
                end = member.offset_data + member.size
    return SplitLayer([*lines, segment(data[end:])], files)


class OverlayRoot:
    """A data root below a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._layers = path / "image/overlay2/layerdb/sha256"
        self._configs = path / "image/overlay2/imagedb/content/sha256"
        for folder in (self._layers, self._configs, path / "overlay2"):
            folder.mkdir(parents=True)

    def write(self, engine: FakeEngine) -> None:
        """Write all images and layers of an engine."""
        for identifier, image in engine.images.items():
            (self._configs / identifier[7:]).write_bytes(image.config)
        for chain, layer in engine.layers.items():
            self.write_layer(chain, layer, split_tar(layer))

    def write_layer(self, chain: str, layer: bytes, split: SplitLayer) -> None:
        """Write one layer."""
        folder = self.layer(chain)
        folder.mkdir()
        (folder / "diff").write_text(f"sha256:{hashlib.sha256(layer).hexdigest()}")
        (folder / "size").write_text(str(len(layer)))
        (folder / "cache-id").write_text(f"cache-{chain[7:19]}")
        (folder / "tar-split.json.gz").write_bytes(compressed(split.lines))
        self.files(chain).mkdir(parents=True)
        for name, content in split.files.items():
            path = self.files(chain) / name.decode(errors="surrogateescape").lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def config(self, identifier: str) -> Path:
        """Say where a config lies."""
        return self._configs / identifier[7:]

    def layer(self, chain: str) -> Path:
        """Say where the facts of a layer lie."""
        return self._layers / chain[7:]

    def files(self, chain: str) -> Path:
        """Say where the files of a layer lie."""
        return self.path / "overlay2" / f"cache-{chain[7:19]}" / "diff"

    def rewrite(self, chain: str, lines: Sequence[dict[str, Any]]) -> None:
        """Put other lines in the place of a layer's tar-split file."""
        (self.layer(chain) / "tar-split.json.gz").write_bytes(compressed(lines))
