"""What can be set, how, and the defaults.

Every option can be given as a flag, as a variable `LONGSHORE_…` and in a configuration file; the
first of these that says something counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from keyword import iskeyword
from typing import Literal, cast, get_args

from longshore.config_layers import Flags, Layers
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

LEVEL = 3
LEVELS = range(1, 20)  # beyond 19 zstd takes far more memory; below 1 it saves hardly any time
MEMORY_BYTES = 256 * MIB
MIN_MEMORY_BYTES = 208 * MIB
CONCURRENCY = 8
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
# An export's blocks from the engine, chunks that are being compressed, and the part that is filled.
# Measured: 400 MB of random bytes to an S3 server take 187 MiB, and 14 more for each part.
EXPORT_BLOCKS_BYTES = 88 * MIB
COPIES_OF_PART = 2  # ours, and what the S3 client makes of it

DOCKER_TIMEOUT = timedelta(seconds=30)  # of each question to the docker command
DOCKER_GRACE = timedelta(seconds=10)  # for a build that is told to end

Kind = Literal["text", "list", "switch"]
Format = Literal["flags", "compose", "bake", "json"]

_BUILD = ("build",)
_EXPORTS = ("export", *_BUILD)


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be set."""

    name: str
    """In a configuration file, and of the flag."""
    help: str
    metavar: str = ""
    kind: Kind = "text"
    short: str | None = None
    only: tuple[str, ...] = ()
    """The commands that have the flag; all, if it is empty."""
    on: bool = False
    """Of a switch: what counts if nobody says anything."""
    off: str = ""
    """Of a switch: the name of the flag that takes it back; `no-…` if it is empty."""

    @property
    def flag(self) -> str:
        """The flag, as it is typed."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"LONGSHORE_{self.name.replace('-', '_').upper()}"

    @property
    def off_flag(self) -> str:
        """The flag that takes a switch back."""
        return f"--{self.off or f'no-{self.name}'}"

    @property
    def parameter(self) -> str:
        """The name in Python."""
        name = self.name.replace("-", "_")
        return f"{name}_" if iskeyword(name) else name


OPTIONS: tuple[Option, ...] = (
    Option("store", "Where the cache is: s3://bucket/prefix or file:///dir.", "URL"),
    Option("endpoint-url", "The S3 server, if it is not AWS: https://s3.example.com.", "URL"),
    Option("project", "The project in the store (default: the Compose project name).", "NAME"),
    Option(
        "scope",
        "The scope to write, and to read first: main, pr:17 (default: from the CI, else git).",
        "NAME",
    ),
    Option(
        "fallback",
        "A scope to read next; repeatable (default: the target and default branches).",
        "NAME",
        "list",
    ),
    Option("services", "The services file (default: the one in this directory).", "FILE"),
    Option(
        "image",
        "An image without a services file: web=myorg/web:latest; repeatable.",
        "SERVICE=IMAGE",
        "list",
    ),
    Option("level", f"Compression, 1 to 19 (default: {LEVEL}).", "NUMBER", only=_EXPORTS),
    Option(
        "parents",
        "Keep the images that others were built on; off for the shortest export (default: on).",
        kind="switch",
        only=_EXPORTS,
        on=True,
    ),
    Option("memory", "Memory to stay within (default: 256MiB).", "SIZE"),
    Option("concurrency", f"Store requests at once (default: {CONCURRENCY}).", "NUMBER"),
    Option("timeout", "The longest that the command may take (default: 1h).", "DURATION"),
    Option(
        "platform",
        "The platform, such as linux-amd64 (default: the only one).",
        "NAME",
        only=("list", "show", "cat"),
    ),
    Option("all-scopes", "List every scope of the project.", kind="switch", only=("list",)),
    Option("import", "Import before the build (default: on).", kind="switch", only=_BUILD, on=True),
    Option("export", "Export after the build (default: on).", kind="switch", only=_BUILD, on=True),
    Option(
        "buildkit",
        "Which builder will build (default: the one that the docker command would take).",
        kind="switch",
        only=("cache-from", *_BUILD),
        off="classic",
    ),
    Option(
        "format",
        f"What to write: {', '.join(get_args(Format))} (default: flags).",
        "FORMAT",
        only=("cache-from",),
    ),
    Option("output", "Write to this file, not to standard output.", "FILE", only=("cache-from",)),
    Option(
        "strict",
        "Fail on misses and failures, not only on wrong usage.",
        kind="switch",
        only=("export", "import"),
    ),
    Option("json", "Write the result as one JSON document.", kind="switch"),
    Option("quiet", "Say only what went wrong.", kind="switch", short="-q"),
    Option("verbose", "Say more, such as each repeated request.", kind="switch", short="-v"),
)
CONFIG = Option("config", "The configuration file (default: longshore.toml).", "FILE")


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


def _memory(text: str) -> int:
    size = parse_size(text)
    if size < MIN_MEMORY_BYTES:
        raise UsageError(f"{text[:80]!r} is too little; longshore needs 208MiB at least")
    return size
