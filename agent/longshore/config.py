"""What counts, after all layers, and the defaults.

Every option can be given as a flag, as a variable `LONGSHORE_…` and in a configuration file; the
first of these that says something counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import cast, get_args

from longshore.config_layers import Flags, Layers
from longshore.config_options import CONCURRENCY, LEVEL, OPTIONS, Format
from longshore.config_values import (
    Location,
    check_endpoint,
    parse_duration,
    parse_size,
    parse_store,
)
from longshore.core.keys import segment
from longshore.errors import UsageError

MIB = 1 << 20

LEVELS = range(1, 20)  # beyond 19 zstd takes far more memory; below 1 it saves hardly any time
MEMORY_BYTES = 256 * MIB
MIN_MEMORY_BYTES = 208 * MIB
MAX_IMAGE_BYTES = 50 * 1000**3  # beyond what images hold, and what build machines have of disk
MAX_CONCURRENCY = 256
TIMEOUT = timedelta(hours=1)

CONNECT_TIMEOUT = timedelta(seconds=10)
READ_TIMEOUT = timedelta(seconds=60)
STORE_ATTEMPTS = 6
RETRY_BASE = timedelta(milliseconds=500)
RETRY_CAP = timedelta(seconds=20)
CHECK_TIMEOUT = timedelta(seconds=30)  # of each of the doctor's checks
GIT_TIMEOUT = timedelta(seconds=10)

# What a process needs that moves nothing: Python 20 MiB, the S3 client 45, the Docker client and
# the rest 10, and what the allocator does not give back.
BASELINE_BYTES = 100 * MIB
# An import's blocks on their way to the engine, beside what is read ahead.
IMPORT_BLOCKS_BYTES = 40 * MIB
# What an import reads ahead at least, however much its documents take: three ranges.
MIN_WINDOW_BYTES = 32 * MIB
# An export's blocks from the engine, chunks that are being compressed, and the part that is filled.
# Measured: 400 MB of random bytes to an S3 server take 187 MiB, and 14 more for each part.
EXPORT_BLOCKS_BYTES = 88 * MIB
COPIES_OF_PART = 2  # ours, and what the S3 client makes of it

DOCKER_TIMEOUT = timedelta(seconds=30)  # of each question to the docker command
DOCKER_GRACE = timedelta(seconds=10)  # for a build that is told to end


@dataclass(frozen=True, slots=True)
class Settings:
    """What counts, after all layers; `None` for what has no fixed default."""

    store: Location | None
    store_url: str | None
    endpoint_url: str | None
    project: str | None
    scope: str | None
    fallback: tuple[str, ...] | None
    services: str | None
    image: tuple[str, ...]
    level: int
    parents: bool
    memory_bytes: int
    max_image_bytes: int
    concurrency: int
    timeout: timedelta
    platform: str | None
    all_scopes: bool
    import_: bool
    export: bool
    buildkit: bool | None
    format: Format
    output: str | None
    strict: bool
    json: bool
    quiet: bool
    verbose: bool
    sources: Mapping[str, str]
    """Who said so, by the names of options; those that nobody gave are not in it."""

    @property
    def window_bytes(self) -> int:
        """How much an import may read ahead: what the baseline and its blocks leave."""
        return self.memory_bytes - BASELINE_BYTES - IMPORT_BLOCKS_BYTES

    @property
    def document_bytes(self) -> int:
        """How much the documents of a run may take; an import reads ahead so much less."""
        return self.window_bytes - MIN_WINDOW_BYTES

    @property
    def export_document_bytes(self) -> int:
        """How much an export may keep of what the scopes hold: what it need not upload."""
        return self.memory_bytes * 3 // 16

    def parts_at_once(self, part_bytes: int) -> int:
        """How many parts an export may have on their way."""
        free = self.memory_bytes - BASELINE_BYTES - EXPORT_BLOCKS_BYTES
        return max(1, min(self.concurrency, free // (COPIES_OF_PART * part_bytes)))


def load_settings(
    flags: Flags,
    environment: Mapping[str, str],
    file: Mapping[str, object],
    file_name: str,
) -> Settings:
    """Put the layers together.

    Args:
        file: what the configuration file says, by the names of options.
        file_name: as errors shall name it.

    Raises:
        UsageError: a value is not of its kind; the message says who gave it.
    """
    layers = Layers(flags, environment, file, file_name, OPTIONS)
    layers.check_file()
    store_url = layers.text("store")
    format_: Format = layers.parsed("format", _format) or "flags"
    return Settings(
        store=layers.parsed("store", parse_store),
        store_url=store_url,
        endpoint_url=layers.parsed("endpoint-url", check_endpoint),
        project=layers.parsed("project", _name),
        scope=layers.parsed("scope", _name),
        fallback=layers.each_parsed("fallback", _name),
        services=layers.text("services"),
        image=layers.texts("image") or (),
        level=layers.number("level", LEVELS) or LEVEL,
        parents=layers.switch("parents"),
        memory_bytes=layers.parsed("memory", _memory) or MEMORY_BYTES,
        max_image_bytes=layers.parsed("max-image-size", _image_size) or MAX_IMAGE_BYTES,
        concurrency=layers.number("concurrency", range(1, MAX_CONCURRENCY + 1)) or CONCURRENCY,
        timeout=layers.parsed("timeout", parse_duration) or TIMEOUT,
        platform=layers.parsed("platform", _name),
        all_scopes=layers.switch("all-scopes"),
        import_=layers.switch("import"),
        export=layers.switch("export"),
        buildkit=layers.switch("buildkit") if layers.has("buildkit") else None,
        format=format_,
        output=layers.text("output"),
        strict=layers.switch("strict"),
        # Only the command that has formats was asked for one.
        json=layers.switch("json") or ("format" in flags and format_ == "json"),
        quiet=layers.switch("quiet"),
        verbose=layers.switch("verbose"),
        sources=layers.sources,
    )


def _name(text: str) -> str:
    segment(text)
    return text


def _format(text: str) -> Format:
    for known in get_args(Format):
        if text == known:
            return cast(Format, known)
    raise UsageError(f"{text[:80]!r} is no format; known are {', '.join(get_args(Format))}")


def _image_size(text: str) -> int:
    size = parse_size(text)
    if not size:
        raise UsageError("no image fits into nothing; give the size as in 50GB")
    return size


def _memory(text: str) -> int:
    size = parse_size(text)
    if size < MIN_MEMORY_BYTES:
        raise UsageError(f"{text[:80]!r} is too little; longshore needs 208MiB at least")
    return size
