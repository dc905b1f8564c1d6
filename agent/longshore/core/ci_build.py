"""A build as its CI service describes it, and how such descriptions are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

Environment = Mapping[str, str]


class Build(NamedTuple):
    """A build as its CI service describes it; branches are short names."""

    source: str
    """The CI service, for people."""
    is_pull_request: bool = False
    number: str | None = None
    """Of the pull request; `None` if the service does not tell, or says nothing sensible."""
    target: str | None = None
    tag: str | None = None
    branch: str | None = None
    """Of a pull request, the branch that it comes from."""
    default_branch: str | None = None
    revision: str | None = None
    job_url: str | None = None


def number_of(*candidates: str | None) -> str | None:
    """Return the first that is, or as a URL ends in, a positive number."""
    for candidate in candidates:
        found = re.fullmatch(r"(?:.*[/!#])?0*([1-9][0-9]{0,17})/?", candidate or "")
        if found:
            return found[1]
    return None


def short_branch(ref: str | None) -> str | None:
    """Return the short name of a branch that may be given in full."""
    return ref.removeprefix("refs/heads/") if ref else None


def tag_of(ref: str | None) -> str | None:
    """Return the name of the tag that a full ref names; `None` if it names none."""
    return ref.removeprefix("refs/tags/") if ref and ref.startswith("refs/tags/") else None


def branch_of(ref: str | None) -> str | None:
    """Return the name of the branch that a full ref names; `None` if it names none."""
    return ref.removeprefix("refs/heads/") if ref and ref.startswith("refs/heads/") else None
