"""The options: one table, from which flags, variables, keys of the file and the help are made."""

from __future__ import annotations

from dataclasses import dataclass
from keyword import iskeyword
from typing import Literal, get_args

LEVEL = 3
CONCURRENCY = 8

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
    Option(
        "max-image-size",
        "The most that the layers of one service may hold (default: 50GB).",
        "SIZE",
        only=("import", "build", "cat"),
    ),
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
