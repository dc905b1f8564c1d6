"""Find which file of a build context each file of a layer was copied from, if a `COPY` made it.

The classic builder looks a `COPY` up by names, modes and contents of what it copies, not by times
(moby, `pkg/tarsum`, version 1, and `builder/dockerfile/copy.go`). Whatever is not plain stays
without an origin, and is then not compared.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from longshore.core.dockerfile import Instruction
from longshore.core.layer_members import Member
from longshore.core.step_matching import words_of

Kind = Literal["file", "folder", "other"]
MAX_SOURCES = 200


class Copy(Struct, frozen=True):
    """A `COPY` or `ADD` of plain local files or of one folder.

    Attributes:
        sources: from the context on; `""` is the context itself.
        only_folders: what it does with files is more than copying.
    """

    sources: tuple[str, ...]
    destination: str
    only_folders: bool


class Origins(Struct, frozen=True):
    """Where the files of a layer come from.

    Attributes:
        paths: of each member in the context; `None` for what is no file or has no certain origin.
        is_whole: every file of the layer has an origin.
        folder: what was copied with all that is in it, if that is one folder.
        names: files that were asked for by name, and patterns of files by their folder.
    """

    paths: tuple[str | None, ...]
    is_whole: bool
    folder: str | None = None
    names: tuple[str, ...] = ()
    patterns: tuple[tuple[str, re.Pattern[str]], ...] = ()


NOTHING = Origins((), is_whole=False)


def read_copy(instruction: Instruction) -> Copy | None:
    """Read what an instruction copies; `None` if that is not plain."""
    if any(not flag.startswith("--chown=") for flag in instruction.flags):
        return None
    text = instruction.text
    words = words_of(text)
    if words is None:
        if set(text) & set("\"'["):
            return None
        words = text.split(" ")
    if not 2 <= len(words) <= MAX_SOURCES or any(set(word) & set("$\\\"'[\0") for word in words):
        return None
    *given, destination = words
    sources: list[str] = []
    for word in given:
        if "://" in word or word.startswith("git@"):
            return None
        clean = posixpath.normpath("/" + word).lstrip("/")
        if (
            clean.startswith("..")
            or "*" in posixpath.dirname(clean)
            or "?" in posixpath.dirname(clean)
        ):
            return None
        sources.append(clean)
    return Copy(tuple(sources), destination, instruction.keyword == "ADD")


def find_origins(
    copy: Copy, members: Sequence[Member], folder: str, kind_of: Callable[[str], Kind | None]
) -> Origins:
    """Tell where each member of the layer of a `COPY` comes from.

    Args:
        folder: in which the step ran, for relative destinations.
        kind_of: tells what a path in the context is.
    """
    if len(copy.sources) == 1 and not _is_pattern(copy.sources[0]):
        kind = kind_of(copy.sources[0]) if copy.sources[0] else "folder"
        if kind == "folder":
            return _of_folder(copy, members, folder)
    if copy.only_folders:
        return NOTHING
    return _of_files(copy, members, kind_of)


def _of_folder(copy: Copy, members: Sequence[Member], folder: str) -> Origins:
    (source,) = copy.sources
    root = posixpath.normpath("/" + posixpath.join(folder or "/", copy.destination)).lstrip("/")
    inside = f"{root}/" if root else ""
    paths: list[str | None] = []
    is_whole = True
    for member in members:
        path = None
        if member.kind != "folder":
            rest = member.path.removeprefix(inside)
            fits = member.path.startswith(inside) and _is_plain(rest)
            is_whole = is_whole and fits
            if fits and member.kind == "file":
                path = posixpath.join(source, rest)
        paths.append(path)
    if not any(paths):
        is_whole = False
    return Origins(tuple(paths), is_whole, folder=source)


def _of_files(
    copy: Copy, members: Sequence[Member], kind_of: Callable[[str], Kind | None]
) -> Origins:
    names: list[str] = []
    patterns: list[tuple[str, re.Pattern[str]]] = []
    for source in copy.sources:
        if _is_pattern(source):
            folder, _, last = source.rpartition("/")
            patterns.append((folder, _translate(last)))
        elif kind_of(source) == "file":
            names.append(source)
        else:
            return NOTHING  # one that is not there may be a folder yet
    files = [member for member in members if member.kind == "file"]
    others = any(member.kind == "other" for member in members)
    if not patterns and len(names) == 1 and not copy.destination.endswith("/"):
        if len(files) != 1 or others:
            return NOTHING
        paths = tuple(names[0] if member.kind == "file" else None for member in members)
        return Origins(paths, is_whole=True, names=tuple(names))
    found: list[str | None] = []
    seen: set[str] = set()
    is_whole = not others and bool(files)
    for member in members:
        path = None
        if member.kind == "file":
            last = posixpath.basename(member.path)
            candidates = {name for name in names if posixpath.basename(name) == last}
            candidates |= {
                posixpath.join(folder, last) for folder, form in patterns if form.fullmatch(last)
            }
            if len(candidates) == 1 and last not in seen and _is_plain(last):
                (path,) = candidates
            is_whole = is_whole and path is not None
            seen.add(last)
        found.append(path)
    return Origins(tuple(found), is_whole, None, tuple(names), tuple(patterns))


def _is_pattern(source: str) -> bool:
    return "*" in source or "?" in source


def _translate(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*+|\?)", pattern[:255])
    forms = {"*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(forms.get(piece[:1], re.escape(piece)) for piece in pieces), re.DOTALL
    )


def _is_plain(path: str) -> bool:
    """Tell whether a path of a layer names something below where it begins."""
    return bool(path) and all(part not in ("", ".", "..") for part in path.split("/"))
