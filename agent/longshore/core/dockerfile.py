"""Read a Dockerfile as far as it is plain: enough to say which steps are certainly others.

What cannot be understood for certain is an error, and whoever asks then assumes nothing. The rules
are those of BuildKit's parser (`frontend/dockerfile/parser`), which the classic builder uses, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

MAX_BYTES = 1 << 20
MAX_INSTRUCTIONS = 1000
KEYWORDS = frozenset(
    [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_INSTRUCTION = re.compile(r"([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)
_FROM = re.compile(r"(\S+)(?:\s+[Aa][Ss]\s+(\S+))?")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_PLAIN_VALUE = re.compile(r"[\w./:@+-]*")


class Unclear(Exception):
    """It cannot be told for certain what a build would do."""


class Instruction(Struct, frozen=True):
    """One instruction of a stage.

    Attributes:
        text: what follows the keyword and the flags, with each run of white space as one space.
        line: where it begins, from 1 on.
    """

    keyword: str
    flags: tuple[str, ...]
    text: str
    line: int


class Stage(Struct, frozen=True):
    """What one `FROM` begins.

    Attributes:
        base: an image or an earlier stage; `None` if it cannot be told.
        varies: `base` comes from arguments, which a build may be given.
    """

    name: str | None
    base: str | None
    varies: bool
    instructions: tuple[Instruction, ...]


class Dockerfile(Struct, frozen=True):
    """The stages of a Dockerfile, in order."""

    stages: tuple[Stage, ...]

    def target(self, name: str | None) -> int:
        """Find the stage that a build ends with.

        Raises:
            Unclear: there is none of that name.
        """
        if name is None:
            return len(self.stages) - 1
        for index, stage in enumerate(self.stages):
            if stage.name == name.lower():
                return index
        raise Unclear(f"the Dockerfile has no stage {name[:80]!r}")

    def flattened(self, index: int) -> Stage:
        """Return a stage with the instructions of the stages that it begins with."""
        stage = self.stages[index]
        instructions = stage.instructions
        while stage.base is not None:
            earlier = [s for s in self.stages[:index] if s.name and s.name == stage.base.lower()]
            if not earlier:
                break
            index = self.stages.index(earlier[-1])
            stage = self.stages[index]
            instructions = stage.instructions + instructions
        return Stage(None, stage.base, stage.varies, instructions)


def read_dockerfile(data: bytes) -> Dockerfile:
    """Read a Dockerfile.

    Raises:
        Unclear: it holds something that only a builder understands.
    """
    if len(data) > MAX_BYTES:
        raise Unclear("the Dockerfile is too large")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unclear("the Dockerfile is not UTF-8") from None
    lines = [line.rstrip("\r") for line in text.split("\n")]
    arguments: dict[str, str | None] = {}
    stages: list[Stage] = []
    instructions: list[Instruction] = []
    for number, line in _joined(lines, _escape(lines)):
        found = _read(number, line)
        if len(instructions) + len(stages) >= MAX_INSTRUCTIONS:
            raise Unclear("the Dockerfile has too many instructions")
        if found.keyword == "FROM":
            if stages:
                stages[-1] = _with(stages[-1], instructions)
            instructions = []
            stages.append(_begin(found, arguments))
        elif stages:
            instructions.append(found)
        elif found.keyword == "ARG":
            for word in found.text.split(" "):
                name, equals, value = word.partition("=")
                plain = equals and _PLAIN_VALUE.fullmatch(value)
                arguments[name] = value if plain else None
        else:
            raise Unclear(f"line {number} of the Dockerfile stands before the first FROM")
    if not stages:
        raise Unclear("the Dockerfile has no FROM")
    stages[-1] = _with(stages[-1], instructions)
    return Dockerfile(tuple(stages))


def _escape(lines: list[str]) -> str:
    """Read the directives at the top, for the character that continues lines."""
    escape = "\\"
    for line in lines:
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None or directive[1].lower() not in ("syntax", "escape", "check"):
            return escape
        if directive[1].lower() == "escape":
            if directive[2] not in ("\\", "`"):
                raise Unclear("the Dockerfile has an unknown escape character")
            escape = directive[2]
    return escape


def _joined(lines: list[str], escape: str) -> list[tuple[int, str]]:
    """Join lines that are continued; drop comments and empty lines, also those in between."""
    joined: list[tuple[int, str]] = []
    pieces: list[str] = []
    begun = 0
    for number, line in enumerate(lines, 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        if not pieces:
            begun = number
        end = line.rstrip(" \t")
        if not end.endswith(escape):
            joined.append((begun, "".join([*pieces, line])))
            pieces = []
            continue
        if end.endswith(escape * 2):
            raise Unclear(f"builders do not agree on how line {number} of the Dockerfile ends")
        pieces.append(end[:-1])
    if pieces:
        joined.append((begun, "".join(pieces)))
    return joined


def _read(number: int, line: str) -> Instruction:
    found = _INSTRUCTION.fullmatch(line.strip())
    keyword = found[1].upper() if found else ""
    if found is None or keyword not in KEYWORDS:
        raise Unclear(f"line {number} of the Dockerfile holds no known instruction")
    words = (found[2] or "").split()
    if keyword in ("RUN", "COPY", "ADD", "ONBUILD") and any("<<" in word for word in words):
        raise Unclear(f"line {number} of the Dockerfile may begin a here-document")
    flags: list[str] = []
    while words and words[0].startswith("--"):
        flags.append(words.pop(0))
    return Instruction(keyword, tuple(flags), " ".join(words), number)


def _begin(found: Instruction, arguments: Mapping[str, str | None]) -> Stage:
    said = _FROM.fullmatch(found.text)
    if said is None:
        raise Unclear(f"line {found.line} of the Dockerfile cannot be read")
    name = said[2].lower() if said[2] else None
    base = said[1]
    if found.flags:  # a platform, which decides what the name stands for
        return Stage(name, None, True, ())
    if "$" not in base:
        return Stage(name, base, False, ())
    values = [arguments.get(one or other) for one, other in _VARIABLE.findall(base)]
    if None in values:
        return Stage(name, None, True, ())
    expanded = _VARIABLE.sub(lambda match: arguments[match[1] or match[2]] or "", base)
    return Stage(name, None if "$" in expanded else expanded, True, ())


def _with(stage: Stage, instructions: list[Instruction]) -> Stage:
    return Stage(stage.name, stage.base, stage.varies, tuple(instructions))
