"""Which scopes exist by somebody's word: the refs that git tells, or a list of names.

Who takes a scope from such a list to be gone removes its entries. So what cannot be understood is
an error, and so is a list of nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from longshore.core.keys import segment
from longshore.errors import UsageError

_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_COMMENT = re.compile(r"(?:^|\s)#.*")


def scope_of_ref(ref: str) -> str | None:
    """Name the scope that builds of a branch or tag write; `None` for refs of any other kind."""
    if ref.startswith(_HEADS):
        return ref.removeprefix(_HEADS)
    if ref.startswith(_TAGS) and not ref.endswith("^{}"):  # the commit of an annotated tag
        return f"tag:{ref.removeprefix(_TAGS)}"
    return None


def scopes_of_refs(text: str, source: str) -> frozenset[str]:
    """Read what `git ls-remote` or `git for-each-ref` wrote.

    Raises:
        UsageError: there is no branch among it, which no repository in use is without.
    """
    refs = [line.rpartition("\t")[2] for line in text.splitlines()]
    if not any(ref.startswith(_HEADS) for ref in refs):
        raise UsageError(f"{source} names no branch, so none is taken to be gone")
    return frozenset(scope for scope in map(scope_of_ref, refs) if scope)


def parse_branch_list(text: str, source: str) -> frozenset[str]:
    """Read a list with the name of a scope on each line: `main`, `pr:17`, `tag:v1`.

    A line may also be a full ref, or one of what `git ls-remote` writes.

    Raises:
        UsageError: a line cannot be understood, or there is no name.
    """
    names = frozenset(_names(text, source))
    if not names:
        raise UsageError(f"{source} names no scope, so none is taken to be gone")
    return names


def _names(text: str, source: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        name = _COMMENT.sub("", line).strip()
        _, tab, ref = name.rpartition("\t")
        if tab or name.startswith("refs/"):
            scope = scope_of_ref(ref)
            if scope:
                yield scope
        elif len(name.split()) > 1:
            raise UsageError(
                f"{source}: line {number}: {name[:80]!r} is not the name of one scope;"
                " write one on each line, as main or pr:17"
            )
        elif name:
            segment(name)
            yield name
