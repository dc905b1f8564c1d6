"""What can be set, how, and the defaults.

Every option can be given as a flag, as a variable `LONGSHORE_…` and in a configuration file; the
first of these that says something counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

from longshore.config_values import (
    Location,
    check_endpoint,
    parse_boolean,
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

T = TypeVar("T")
Kind = Literal["text", "list", "switch"]


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

    @property
    def flag(self) -> str:
        """The flag, as it is typed."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"LONGSHORE_{self.name.replace('-', '_').upper()}"

    @property
    def parameter(self) -> str:
        """The name in Python."""
        return self.name.replace("-", "_")


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
    Option("level", f"Compression, 1 to 19 (default: {LEVEL}).", "NUMBER", only=("export",)),
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
    memory_bytes: int
    concurrency: int
    timeout: timedelta
    platform: str | None
    all_scopes: bool
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


Flags = Mapping[str, Any]
"""Values of flags by the names of options; `None` and empty lists if they were not given."""


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
    layers = _Layers(flags, environment, file, file_name)
    layers.check_file()
    store_url = layers.text("store")
    return Settings(
        store=layers.parsed("store", parse_store),
        store_url=store_url,
        endpoint_url=layers.parsed("endpoint-url", check_endpoint),
        project=layers.parsed("project", _name),
        scope=layers.parsed("scope", _name),
        fallback=layers.names("fallback"),
        services=layers.text("services"),
        image=layers.texts("image") or (),
        level=layers.number("level", LEVELS) or LEVEL,
        memory_bytes=layers.parsed("memory", _memory) or MEMORY_BYTES,
        concurrency=layers.number("concurrency", range(1, MAX_CONCURRENCY + 1)) or CONCURRENCY,
        timeout=layers.parsed("timeout", parse_duration) or TIMEOUT,
        platform=layers.parsed("platform", _name),
        all_scopes=layers.switch("all-scopes"),
        strict=layers.switch("strict"),
        json=layers.switch("json"),
        quiet=layers.switch("quiet"),
        verbose=layers.switch("verbose"),
        sources=layers.sources,
    )


def variable(environment: Mapping[str, str], name: str) -> str | None:
    """Return a variable; one that is empty counts as not set, as CI services pass them on."""
    return environment.get(name, "").strip() or None


class _Layers:
    """The values that were given, and who gave them."""

    def __init__(
        self,
        flags: Flags,
        environment: Mapping[str, str],
        file: Mapping[str, object],
        file_name: str,
    ) -> None:
        self._flags = flags
        self._environment = environment
        self._file = file
        self._file_name = file_name
        self._options = {option.name: option for option in OPTIONS}
        self.sources: dict[str, str] = {}

    def check_file(self) -> None:
        """Refuse keys that mean nothing."""
        for key in self._file:
            if key not in self._options:
                raise UsageError(
                    f"{self._file_name}: unknown key {key[:80]!r}; known are"
                    f" {', '.join(self._options)}"
                )

    def text(self, name: str) -> str | None:
        found = self._find(name)
        if found is None:
            return None
        value, source = found
        if isinstance(value, int) and not isinstance(value, bool) and name in _NUMBERS_TOO:
            return str(value)
        if not isinstance(value, str):
            raise UsageError(f"{source}: expected a text, found {_kind(value)}")
        return value

    def parsed(self, name: str, parse: Callable[[str], T]) -> T | None:
        text = self.text(name)
        return None if text is None else self._read(name, parse, text)

    def texts(self, name: str) -> tuple[str, ...] | None:
        found = self._find(name)
        if found is None:
            return None
        value, source = found
        if isinstance(value, str):
            return tuple(value.split())
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{source}: expected a list of texts, found {_kind(value)}")
        return tuple(value)

    def names(self, name: str) -> tuple[str, ...] | None:
        texts = self.texts(name)
        if texts is None:
            return None
        return tuple(self._read(name, _name, text) for text in texts)

    def number(self, name: str, allowed: range) -> int | None:
        found = self._find(name)
        if found is None:
            return None
        value, source = found
        wanted = f"{source}: expected a whole number from {allowed[0]} to {allowed[-1]}"
        if isinstance(value, str) and value.isascii() and value.isdecimal():
            value = int(value[:9])
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"{wanted}, found {_kind(value)}")
        if value not in allowed:
            raise UsageError(f"{wanted}, found {value}")
        return value

    def switch(self, name: str) -> bool:
        found = self._find(name)
        if found is None:
            return False
        value, source = found
        if isinstance(value, str) and source == self._options[name].variable:
            return self._read(name, parse_boolean, value)
        if not isinstance(value, bool):
            raise UsageError(f"{source}: expected true or false, found {_kind(value)}")
        return value

    def _read(self, name: str, parse: Callable[[str], T], text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise UsageError(f"{self.sources[name]}: {error}") from None

    def _find(self, name: str) -> tuple[object, str] | None:
        option = self._options[name]
        value = self._flags.get(name)
        if value is not None and value != []:
            found: tuple[object, str] = (value, option.flag)
        elif (text := variable(self._environment, option.variable)) is not None:
            found = (text, option.variable)
        elif name in self._file:
            found = (self._file[name], f"{self._file_name}: {name}")
        else:
            return None
        self.sources[name] = found[1]
        return found


_NUMBERS_TOO = ("memory", "timeout")


def _name(text: str) -> str:
    segment(text)
    return text


def _memory(text: str) -> int:
    size = parse_size(text)
    if size < MIN_MEMORY_BYTES:
        raise UsageError(f"{text[:80]!r} is too little; longshore needs 208MiB at least")
    return size


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return type(value).__name__
