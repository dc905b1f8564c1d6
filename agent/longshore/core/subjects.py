"""What the identity tokens of CI services say about a job, as far as a role can go by it.

A token's `sub` claim tells the repository and the branch, tag or pull request. Each *trust class*
of builds is told by its subjects: the default branch, other branches, tags, pull requests. Of all
claims, `sub` and `aud` are those that AWS compares for every service.

What is compared is text, so a pattern may have one `*`, at its end, behind text that names the
repository in full: anything that a stranger chooses, such as a branch's name, comes behind that.

GitHub: docs.github.com, "OpenID Connect reference". GitLab: docs.gitlab.com, "OpenID Connect (OIDC)
Authentication Using ID Tokens"; a pipeline for a merge request has the subject of its source
branch, so there it cannot be told from a branch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct
from msgspec.structs import replace

from longshore.core.policy import Policy, document
from longshore.core.scopes import is_branch
from longshore.errors import UsageError

TrustClass = Literal["default", "branches", "tags", "pulls"]
CLASSES: tuple[TrustClass, ...] = get_args(TrustClass)

_PROVIDER = re.compile(
    r"arn:aws[a-z0-9-]*:iam::(?:[0-9]{12})?:oidc-provider/([A-Za-z0-9][\w./:-]{1,254})", re.ASCII
)
# Since July 2026 GitHub names new repositories with their ids: acme@123/shop@456.
_GITHUB = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]+|[A-Za-z0-9][A-Za-z0-9-]*@[0-9]+/[\w.-]+@[0-9]+", re.ASCII
)
_GITLAB = re.compile(r"[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)+", re.ASCII)
_NOT_IN_POLICIES = re.compile(r"[*?${}]")
_GITHUB_AUDIENCE = "sts.amazonaws.com"  # what aws-actions/configure-aws-credentials asks for
_FIELDS = re.compile(r"[:/]")
_MIN_FIELDS = 3  # `repo:acme/shop`: fewer name a whole organisation, or everybody


class Issuer(Struct, frozen=True):
    """Who signs the tokens, as IAM knows it: an OIDC provider, and the audience it is asked for."""

    arn: str
    audience: str

    @property
    def host(self) -> str:
        """The issuer without `https://`, which the names of conditions begin with."""
        return self.arn.partition(":oidc-provider/")[2]


class Subjects(Struct, frozen=True):
    """The subjects of each class of builds.

    Attributes:
        pulls_are_branches: pull requests have the subjects of branches.
    """

    patterns: Mapping[TrustClass, str]
    pulls_are_branches: bool = False


def parse_issuer(arn: str, audience: str | None, service: str | None) -> Issuer:
    """Read the ARN of an OIDC provider.

    Args:
        audience: what jobs ask their tokens for; each service has its own default.
        service: `github`, `gitlab`, or `None` for another one.

    Raises:
        UsageError: it is none, or there is no audience.
    """
    found = _PROVIDER.fullmatch(arn)
    if found is None:
        raise UsageError(
            f"{arn[:200]!r} is not the ARN of an OIDC provider; write"
            " arn:aws:iam::<account>:oidc-provider/<host>"
        )
    if audience is None:
        audience = {"github": _GITHUB_AUDIENCE, "gitlab": f"https://{found[1]}"}.get(service or "")
    if audience is None:
        raise UsageError("the audience of the jobs' tokens is not known; give --oidc-audience")
    if _NOT_IN_POLICIES.search(audience) or not audience.isprintable():
        raise UsageError(f"{audience[:200]!r} cannot be an audience")
    return Issuer(arn, audience)


def parse_repository(text: str) -> tuple[str, str]:
    """Read `github:acme/shop` or `gitlab:acme/web/shop`: the service, and the repository's name.

    Raises:
        UsageError: it is none, or holds what would match other repositories as well.
    """
    service, _, name = text.partition(":")
    forms = {"github": _GITHUB, "gitlab": _GITLAB}
    if service not in forms:
        raise UsageError(f"{text[:200]!r} is not a repository; write github:acme/shop or gitlab:…")
    if not forms[service].fullmatch(name):
        raise UsageError(f"{name[:200]!r} is not the full name of a repository, such as acme/shop")
    return service, name


def subjects_of(service: str, name: str, default_branch: str) -> Subjects:
    """Tell the subjects that a CI service gives to the builds of a repository."""
    check_default_branch(default_branch)
    if service == "github":
        repository = f"repo:{name}"
        return Subjects(
            {
                "default": f"{repository}:ref:refs/heads/{default_branch}",
                "branches": f"{repository}:ref:refs/heads/*",
                "tags": f"{repository}:ref:refs/tags/*",
                "pulls": f"{repository}:pull_request",
            }
        )
    project = f"project_path:{name}"
    return Subjects(
        {
            "default": f"{project}:ref_type:branch:ref:{default_branch}",
            "branches": f"{project}:ref_type:branch:ref:*",
            "tags": f"{project}:ref_type:tag:ref:*",
        },
        pulls_are_branches=True,
    )


def with_given(subjects: Subjects, texts: tuple[str, ...]) -> Subjects:
    """Put in subjects that somebody wrote out: `branches=repo:acme/shop:ref:refs/heads/*`.

    Raises:
        UsageError: a class is unknown or there twice, a pattern could match other repositories or
            the default branch could be another one, or one build could take the roles of two
            classes.
    """
    given: dict[TrustClass, str] = {}
    for text in texts:
        name, separator, pattern = text.partition("=")
        if not separator or name not in CLASSES:
            raise UsageError(
                f"{text[:200]!r} is not a subject; write CLASS=SUBJECT, with one of"
                f" {', '.join(CLASSES)}"
            )
        kind = name
        if kind in given:
            raise UsageError(f"there are two subjects for {kind}; a class has one")
        given[kind] = _check_pattern(pattern, kind)
    patterns = {**subjects.patterns, **given}
    kinds = [kind for kind in patterns if kind != "default"]
    for number, one in enumerate(kinds):
        for other in kinds[number + 1 :]:
            if _overlap(patterns[one], patterns[other]):
                raise UsageError(f"the subjects of {one} and {other} can be the same")
    return replace(subjects, patterns=patterns)


def trust_policy(issuer: Issuer, subjects: Subjects, kind: TrustClass) -> Policy:
    """Let the builds of one class take a role, and none of the default branch but its own."""
    pattern = subjects.patterns[kind]
    audience, subject = f"{issuer.host}:aud", f"{issuer.host}:sub"
    equals: dict[str, str] = {audience: issuer.audience}
    condition: dict[str, dict[str, str]] = {"StringEquals": equals}
    if "*" in pattern:
        condition["StringLike"] = {subject: pattern}
    else:
        equals[subject] = pattern
    default = subjects.patterns.get("default")
    if kind != "default" and default is not None and _overlap(pattern, default):
        negated = "StringNotLike" if "*" in default else "StringNotEquals"
        condition[negated] = {subject: default}
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Federated": issuer.arn},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": condition,
        }
    )


def check_default_branch(name: str) -> str:
    """Accept the name of the default branch, if a policy can name it and nothing else.

    Raises:
        UsageError: git does not allow it, or IAM would read something else in it.
    """
    if not is_branch(name) or _NOT_IN_POLICIES.search(name):
        raise UsageError(f"{name[:200]!r} cannot be the default branch of these roles")
    return name


def _check_pattern(pattern: str, kind: TrustClass) -> str:
    text = pattern.removesuffix("*")
    if _NOT_IN_POLICIES.search(text) or not text.isprintable() or " " in text:
        raise UsageError(f"{pattern[:200]!r} is no subject: a * can be its end, and no ? $ {{ }}")
    if len([field for field in _FIELDS.split(text) if field]) < _MIN_FIELDS:
        raise UsageError(
            f"the subject {pattern[:200]!r} does not name a repository; write all of it that is"
            " the same for all its builds"
        )
    # `main*` would be `main2` as well. Of a branch's name a `:` cannot be part, and a `/` can.
    ends = ":" if kind == "default" else (":", "/")
    if text != pattern and not text.endswith(ends):
        raise UsageError(f"in the subject {pattern[:200]!r} of {kind}, * may only follow {ends!r}")
    return pattern


def _overlap(one: str, other: str) -> bool:
    """Tell whether one subject can match both patterns."""
    first, second = one.removesuffix("*"), other.removesuffix("*")
    if "*" in one and "*" in other:
        return first.startswith(second) or second.startswith(first)
    if "*" in one:
        return second.startswith(first)
    return first.startswith(second) if "*" in other else first == second
