"""Tell whether a step of an image was certainly made by another instruction than a Dockerfile's.

Only the classic builder's history is looked at: it looks a step up by the very text that it notes
down (moby, `builder/dockerfile`: `dispatchers.go`, `internals.go`; `image/cache`), so another text
is a miss. Observed on 20.10.24 and 28.5.2. Whatever is not plain counts as the same.
"""

from __future__ import annotations

import json
import posixpath
import re

from longshore.core.dockerfile import Instruction
from longshore.core.images import Step

_NOP = "#(nop)"
_NOTED = re.compile(r"[^#]*#\(nop\) +([A-Z]+)\s*(.*)", re.DOTALL)
_WORDS = {
    "ENV": re.compile(r"[A-Za-z_]\w*=[\w./:@+,%-]*", re.ASCII),
    "LABEL": re.compile(r"[\w.-]+=[\w./:@+,%-]*", re.ASCII),
    "ARG": re.compile(r"[A-Za-z_]\w*(?:=[\w./:@+,%-]*)?", re.ASCII),
    "USER": re.compile(r"[\w:.-]+", re.ASCII),
}
_FOLDER = re.compile(r"/[\w./@+-]*", re.ASCII)
_DESTINATION = re.compile(r"[\w./@+-]+", re.ASCII)


def is_classic(step: Step) -> bool:
    """Tell whether the classic builder may have noted a step down."""
    return bool(step.created_by) and "buildkit" not in step.comment


def is_label(step: Step) -> bool:
    """Tell whether a step may come from `docker build --label`, which no Dockerfile holds."""
    noted = _NOTED.fullmatch(step.created_by)
    return noted is not None and noted[1] == "LABEL"


def differs(instruction: Instruction, step: Step) -> bool:
    """Tell whether a step was certainly not made by this instruction."""
    if not is_classic(step):
        return False
    if instruction.keyword == "RUN":
        return _run_differs(instruction, step.created_by)
    if step.created_by.count(_NOP) > 1:
        return False
    noted = _NOTED.fullmatch(step.created_by)
    if noted is None:
        return _NOP not in step.created_by  # what has none is a RUN
    if noted[1] != instruction.keyword:
        return True
    return _content_differs(instruction, " ".join(noted[2].split()))


def _run_differs(instruction: Instruction, created_by: str) -> bool:
    """Compare commands; the shell before them, and build arguments before that, are left alone."""
    if _NOP in instruction.text:
        return False
    if _NOP in created_by:
        return True
    if instruction.flags:
        return False
    command = " ".join(created_by.split())
    expected = [instruction.text]
    if (words := words_of(instruction.text)) is not None:
        expected.append(" ".join(" ".join(words).split()))
    return not any(command.endswith(text) for text in expected)


def _content_differs(instruction: Instruction, noted: str) -> bool:
    keyword, text = instruction.keyword, instruction.text
    if keyword in ("COPY", "ADD"):
        words = words_of(text) or text.split(" ")
        destination = words[-1]
        return bool(_DESTINATION.fullmatch(destination)) and not noted.endswith(
            f" in {destination}"
        )
    if keyword == "WORKDIR":
        plain = _FOLDER.fullmatch(text) and "//" not in text
        return bool(plain) and posixpath.normpath(text) != posixpath.normpath(noted)
    if (form := _WORDS.get(keyword)) is not None:
        words = text.split(" ")
        if instruction.flags or not all(form.fullmatch(word) for word in words):
            return False
        return sorted(words) != sorted(noted.split(" "))
    return False


def words_of(text: str) -> list[str] | None:
    """Read the JSON form of an instruction; `None` if it is none."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        return None
    return words
