"""Which scope a build writes, and which it falls back to, if nobody says.

A pull request's scope is `pr:<number>`, a tag's `tag:<name>`, any other build's its branch. A
branch cannot have `:` in its name (git check-ref-format), so the three never meet. Tags have
scopes of their own, as in GitHub's own cache: a tag that is called `main` shall not write what the
branch `main` reads. They fall back to the default branch, as all do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from longshore.core.ci import read_ci
from longshore.core.ci_build import Build

# git check-ref-format; `HEAD` is what git calls no branch.
_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|(?:^|/)[./]|^-|[./]$|^HEAD$")


class GitFacts(NamedTuple):
    """What the working copy says about itself; `None` for what it does not."""

    branch: str | None = None
    """`None` if HEAD is detached."""
    default_branch: str | None = None
    """Where `refs/remotes/origin/HEAD` points."""
    revision: str | None = None


class ScopeDefaults(NamedTuple):
    """The scopes of a build, and where it comes from."""

    scope: str | None
    """`None`: it cannot be told, and the caller has to ask for `--scope`."""
    fallback: tuple[str, ...]
    source: str
    """Who said so, for people: the CI service, `git`, or `nothing`."""
    revision: str | None = None
    branch: str | None = None
    job_url: str | None = None


def detect_scope(
    environment: Mapping[str, str],
    git: GitFacts | None = None,
    *,
    github_event: str | None = None,
) -> ScopeDefaults:
    """Tell the scopes of a build from the variables of its CI service, else from git.

    Where the service speaks of a pull request, the scope never is a branch, whatever other
    variables or git say: a fork's pull request shall not write what a branch reads. If its number
    is unknown, so is the scope.

    Args:
        github_event: the text of the file that `GITHUB_EVENT_PATH` names.
    """
    git = git or GitFacts()
    build = read_ci(environment, github_event)
    if build is None:
        build = Build("git" if git.branch else "nothing", branch=git.branch)
    elif build.branch is None and not build.is_pull_request and not build.tag:
        build = build._replace(branch=git.branch)
    scope = _scope_of(build)
    candidates = (build.target, build.default_branch or git.default_branch)
    valid = (branch for branch in map(_valid, candidates) if branch and branch != scope)
    return ScopeDefaults(
        scope=scope,
        fallback=tuple(dict.fromkeys(valid)),
        source=build.source,
        revision=build.revision or git.revision,
        branch=build.branch,
        job_url=build.job_url,
    )


def _scope_of(build: Build) -> str | None:
    if build.is_pull_request:
        return f"pr:{build.number}" if build.number else None
    if build.tag:
        return f"tag:{build.tag}"
    return _valid(build.branch)


def is_branch(name: str) -> bool:
    """Tell whether git allows a branch to have this name."""
    return bool(name) and not _NO_BRANCH.search(name)


def _valid(branch: str | None) -> str | None:
    """Return a branch if git allows its name; so a variable cannot claim `pr:1` or `tag:1`."""
    return branch if branch and is_branch(branch) else None
