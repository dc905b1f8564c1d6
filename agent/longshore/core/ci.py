"""What a CI service's variables say about a build.

Each reader states facts only; what scope follows from them is decided once, in `scopes.py`. The
meaning of the variables is that of each service's reference of predefined variables.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from longshore.core.ci_build import (
    Build,
    Environment,
    branch_of,
    number_of,
    short_branch,
    tag_of,
)
from longshore.core.ci_github import read_github


def read_ci(environment: Environment, github_event: str | None = None) -> Build | None:
    """Describe the build by the variables of the CI service that runs it; `None` if none does.

    Args:
        github_event: the text of the file that `GITHUB_EVENT_PATH` names, which alone knows the
            default branch, and the pull request of some events.
    """
    env = {name: value.strip() for name, value in environment.items() if value.strip()}
    if _says(env, "GITHUB_ACTIONS"):
        return read_github(env, github_event)
    for marker, reader in _READERS:
        if _says(env, marker):
            return reader(env)
    if env.get("CI_NAME", "").lower() == "codeship":
        return _codeship(env)
    # Jenkins sets its URL only if it is configured.
    is_jenkins = "JENKINS_URL" in env or env.get("BUILD_TAG", "").startswith("jenkins-")
    return _jenkins(env) if is_jenkins else None


def _says(env: Environment, marker: str) -> bool:
    return env.get(marker, "false").lower() not in ("false", "0")


def _gitlab(env: Environment) -> Build:
    ref = env.get("CI_COMMIT_REF_NAME")
    merge = re.fullmatch(r"refs/merge-requests/([0-9]+)/.*", ref or "")
    number = number_of(
        env.get("CI_MERGE_REQUEST_IID"),
        env.get("CI_EXTERNAL_PULL_REQUEST_IID"),
        merge[1] if merge else None,
    )
    source = env.get("CI_PIPELINE_SOURCE", "")
    tag = env.get("CI_COMMIT_TAG")
    branch = env.get("CI_COMMIT_BRANCH") or (None if tag or merge else ref)
    origin = env.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")
    origin = origin or env.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME")
    return Build(
        "GitLab CI",
        is_pull_request=bool(number or merge)
        or source in ("merge_request_event", "external_pull_request_event"),
        number=number,
        target=env.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
        or env.get("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME"),
        tag=tag,
        branch=origin or branch,
        default_branch=env.get("CI_DEFAULT_BRANCH"),
        revision=env.get("CI_COMMIT_SHA"),
        job_url=env.get("CI_JOB_URL") or env.get("CI_PIPELINE_URL"),
    )


def _jenkins(env: Environment) -> Build:
    """Read Jenkins: multibranch projects, and the GitHub and GitLab pull request plugins.

    In a multibranch project `BRANCH_NAME` of a pull request is a name such as `PR-24`. The Git
    plugin's `GIT_BRANCH` begins with the remote.
    """
    ref = env.get("GIT_LOCAL_BRANCH") or env.get("GIT_BRANCH", "")
    ref = re.sub(r"^(?:refs/)?(?:remotes/)?(?:origin/|heads/)?", "", ref)
    pull = re.fullmatch(r"(?:pull|pr|merge-requests)/([0-9]+)(?:/(?:head|merge))?", ref)
    asked = (env.get("CHANGE_ID"), env.get("ghprbPullId"), env.get("gitlabMergeRequestIid"))
    branch = env.get("BRANCH_NAME") or (ref if ref not in ("detached", "HEAD") else None)
    is_pull_request = bool(any(asked) or pull)
    origin = env.get("CHANGE_BRANCH") or env.get("ghprbSourceBranch")
    primary = _says(env, "BRANCH_IS_PRIMARY") and not is_pull_request
    return Build(
        "Jenkins",
        is_pull_request=is_pull_request,
        number=number_of(*asked, pull[1] if pull else None),
        target=env.get("CHANGE_TARGET")
        or env.get("ghprbTargetBranch")
        or env.get("gitlabTargetBranch"),
        tag=env.get("TAG_NAME"),
        branch=(origin or env.get("gitlabSourceBranch")) if is_pull_request else branch,
        default_branch=branch if primary else None,
        revision=env.get("GIT_COMMIT"),
        job_url=env.get("BUILD_URL"),
    )


def _buildkite(env: Environment) -> Build:
    asked = env.get("BUILDKITE_PULL_REQUEST", "false")
    revision = env.get("BUILDKITE_COMMIT")
    return Build(
        "Buildkite",
        is_pull_request=asked != "false",
        number=number_of(asked),
        target=env.get("BUILDKITE_PULL_REQUEST_BASE_BRANCH"),
        tag=env.get("BUILDKITE_TAG"),
        branch=env.get("BUILDKITE_BRANCH"),
        default_branch=env.get("BUILDKITE_PIPELINE_DEFAULT_BRANCH"),
        revision=None if revision == "HEAD" else revision,
        job_url=env.get("BUILDKITE_BUILD_URL"),
    )


def _circle(env: Environment) -> Build:
    """Read CircleCI, which tells neither the target nor the default branch.

    `CIRCLE_PR_NUMBER` is there for forks only; their `CIRCLE_BRANCH` is `pull/<number>`.
    """
    branch = env.get("CIRCLE_BRANCH")
    pull = re.fullmatch(r"pull/([0-9]+)(?:/(?:head|merge))?", branch or "")
    several = env.get("CIRCLE_PULL_REQUESTS", "").split(",")[0].strip()
    asked = (
        env.get("CIRCLE_PR_NUMBER"),
        pull[1] if pull else None,
        env.get("CIRCLE_PULL_REQUEST"),
        several or None,
    )
    return Build(
        "CircleCI",
        is_pull_request=any(asked),
        number=number_of(*asked),
        tag=env.get("CIRCLE_TAG"),
        branch=None if pull else branch,
        revision=env.get("CIRCLE_SHA1"),
        job_url=env.get("CIRCLE_BUILD_URL"),
    )


def _bitbucket(env: Environment) -> Build:
    place = env.get("BITBUCKET_REPO_FULL_NAME")
    run = env["BITBUCKET_BUILD_NUMBER"]
    return Build(
        "Bitbucket Pipelines",
        is_pull_request="BITBUCKET_PR_ID" in env,
        number=number_of(env.get("BITBUCKET_PR_ID")),
        target=env.get("BITBUCKET_PR_DESTINATION_BRANCH"),
        tag=env.get("BITBUCKET_TAG"),
        branch=env.get("BITBUCKET_BRANCH"),
        revision=env.get("BITBUCKET_COMMIT"),
        job_url=f"https://bitbucket.org/{place}/pipelines/results/{run}" if place else None,
    )


def _codeship(env: Environment) -> Build:
    """Read Codeship, which sets `CI_PULL_REQUEST` (a URL) for builds of pull requests only."""
    asked = [env.get("CI_PR_NUMBER"), env.get("CI_PULL_REQUEST")]
    asked = [value for value in asked if value and value.lower() not in ("0", "false", "null")]
    return Build(
        "Codeship",
        is_pull_request=bool(asked),
        number=number_of(*asked),
        branch=env.get("CI_BRANCH"),
        revision=env.get("CI_COMMIT_ID"),
        job_url=env.get("CI_BUILD_URL"),
    )


def _azure(env: Environment) -> Build:
    """Read Azure Pipelines, where GitHub's pull requests have an id besides their number."""
    # A variable that the build does not have stays `$(Name)` where a pipeline passes it on.
    env = {name: value for name, value in env.items() if not value.startswith("$(")}
    ref = env.get("BUILD_SOURCEBRANCH")
    pull = re.fullmatch(r"refs/pull/([0-9]+)/.*", ref or "")
    asked = (
        env.get("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER"),
        pull[1] if pull else None,
        env.get("SYSTEM_PULLREQUEST_PULLREQUESTID"),
    )
    is_pull_request = env.get("BUILD_REASON") == "PullRequest" or any(asked)
    server = env.get("SYSTEM_COLLECTIONURI") or env.get("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI")
    project, build = env.get("SYSTEM_TEAMPROJECT"), env.get("BUILD_BUILDID")
    url = f"{server.rstrip('/')}/{project}/_build/results?buildId={build}" if server else None
    return Build(
        "Azure Pipelines",
        is_pull_request=is_pull_request,
        number=number_of(*asked),
        target=short_branch(env.get("SYSTEM_PULLREQUEST_TARGETBRANCH")),
        tag=tag_of(ref),
        branch=short_branch(env.get("SYSTEM_PULLREQUEST_SOURCEBRANCH")) or branch_of(ref),
        revision=env.get("BUILD_SOURCEVERSION"),
        job_url=url if project and build else None,
    )


def _drone(env: Environment) -> Build:
    """Read Drone, where `DRONE_BRANCH` of a pull request is the branch that it goes to."""
    is_pull_request = "DRONE_PULL_REQUEST" in env or env.get("DRONE_BUILD_EVENT") == "pull_request"
    return Build(
        "Drone",
        is_pull_request=is_pull_request,
        number=number_of(env.get("DRONE_PULL_REQUEST")),
        target=env.get("DRONE_TARGET_BRANCH") if is_pull_request else None,
        tag=env.get("DRONE_TAG"),
        branch=env.get("DRONE_SOURCE_BRANCH") if is_pull_request else env.get("DRONE_BRANCH"),
        default_branch=env.get("DRONE_REPO_BRANCH"),
        revision=env.get("DRONE_COMMIT_SHA") or env.get("DRONE_COMMIT"),
        job_url=env.get("DRONE_BUILD_LINK"),
    )


_READERS: tuple[tuple[str, Callable[[Environment], Build]], ...] = (
    ("GITLAB_CI", _gitlab),
    ("BUILDKITE", _buildkite),
    ("CIRCLECI", _circle),
    ("BITBUCKET_BUILD_NUMBER", _bitbucket),
    ("TF_BUILD", _azure),
    ("DRONE", _drone),
)
