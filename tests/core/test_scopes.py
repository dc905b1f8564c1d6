"""The scope of a build follows from what its CI service says, and never lets a pull request in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.core.scopes import GitFacts, ScopeDefaults, detect_scope

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_REF": "refs/heads/feature/x",
    "GITHUB_SHA": "abc",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "myorg/app",
    "GITHUB_RUN_ID": "7",
    "GITHUB_HEAD_REF": "",
    "GITHUB_BASE_REF": "",
}
GITHUB_PULL = GITHUB | {
    "GITHUB_EVENT_NAME": "pull_request",
    "GITHUB_REF": "refs/pull/12/merge",
    "GITHUB_HEAD_REF": "main",
    "GITHUB_BASE_REF": "develop",
}
ON_MAIN = {"GITHUB_REF": "refs/heads/main"}
REPOSITORY = {"repository": {"default_branch": "main"}}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_DEFAULT_BRANCH": "main",
    "CI_COMMIT_SHA": "abc",
    "CI_JOB_URL": "https://gitlab.example.com/j/1",
}
BUILDKITE = {
    "BUILDKITE": "true",
    "BUILDKITE_PULL_REQUEST": "false",
    "BUILDKITE_PULL_REQUEST_BASE_BRANCH": "",
    "BUILDKITE_BRANCH": "feature",
    "BUILDKITE_PIPELINE_DEFAULT_BRANCH": "main",
    "BUILDKITE_COMMIT": "abc",
    "BUILDKITE_BUILD_URL": "https://buildkite.com/myorg/app/builds/1",
}
CIRCLE = {"CIRCLECI": "true", "CIRCLE_BRANCH": "feature", "CIRCLE_SHA1": "abc"}
BITBUCKET = {
    "BITBUCKET_BUILD_NUMBER": "3",
    "BITBUCKET_BRANCH": "feature",
    "BITBUCKET_REPO_FULL_NAME": "myorg/app",
    "BITBUCKET_COMMIT": "abc",
}
CODESHIP = {"CI_NAME": "codeship", "CI_BRANCH": "feature", "CI_COMMIT_ID": "abc"}
AZURE = {
    "TF_BUILD": "True",
    "BUILD_REASON": "IndividualCI",
    "BUILD_SOURCEBRANCH": "refs/heads/feature/x",
    "BUILD_SOURCEVERSION": "abc",
    "SYSTEM_COLLECTIONURI": "https://dev.azure.com/myorg/",
    "SYSTEM_TEAMPROJECT": "app",
    "BUILD_BUILDID": "9",
}
AZURE_PULL = AZURE | {
    "BUILD_REASON": "PullRequest",
    "BUILD_SOURCEBRANCH": "refs/pull/12/merge",
    "SYSTEM_PULLREQUEST_PULLREQUESTID": "512",
    "SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/develop",
    "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/main",
}
DRONE = {
    "DRONE": "true",
    "DRONE_BUILD_EVENT": "push",
    "DRONE_BRANCH": "feature",
    "DRONE_TARGET_BRANCH": "feature",
    "DRONE_REPO_BRANCH": "main",
    "DRONE_COMMIT_SHA": "abc",
    "DRONE_BUILD_LINK": "https://drone.example.com/1",
}
JENKINS = {
    "JENKINS_URL": "https://ci.example.com/",
    "BUILD_URL": "https://ci.example.com/1",
    "GIT_COMMIT": "abc",
}
GIT = GitFacts(branch="local", default_branch="trunk", revision="def")

BRANCHES: list[tuple[str, dict[str, str], Any, str | None, tuple[str, ...]]] = [
    ("GitHub push", GITHUB, REPOSITORY, "feature/x", ("main",)),
    ("GitHub push without event", GITHUB, None, "feature/x", ("trunk",)),
    ("GitHub push to main", GITHUB | ON_MAIN, REPOSITORY, "main", ()),
    (
        "GitHub merge queue",
        GITHUB
        | {"GITHUB_EVENT_NAME": "merge_group", "GITHUB_REF": "refs/heads/gh-readonly-queue/m/pr-1"},
        REPOSITORY | {"merge_group": {"base_ref": "refs/heads/m"}},
        "gh-readonly-queue/m/pr-1",
        ("m", "main"),
    ),
    (
        "GitHub issue comment",
        GITHUB | ON_MAIN | {"GITHUB_EVENT_NAME": "issue_comment"},
        REPOSITORY | {"issue": {"number": 5}},
        "main",
        (),
    ),
    ("GitHub tag", GITHUB | {"GITHUB_REF": "refs/tags/main"}, REPOSITORY, "tag:main", ("main",)),
    ("GitLab", GITLAB | {"CI_COMMIT_BRANCH": "feature/x"}, None, "feature/x", ("main",)),
    ("GitLab, old", GITLAB | {"CI_COMMIT_REF_NAME": "feature"}, None, "feature", ("main",)),
    (
        "GitLab branch with an open merge request",
        GITLAB | {"CI_COMMIT_BRANCH": "f", "CI_OPEN_MERGE_REQUESTS": "myorg/app!1"},
        None,
        "f",
        ("main",),
    ),
    (
        "GitLab tag",
        GITLAB | {"CI_COMMIT_TAG": "v1", "CI_COMMIT_REF_NAME": "v1"},
        None,
        "tag:v1",
        ("main",),
    ),
    ("Buildkite", BUILDKITE, None, "feature", ("main",)),
    ("Buildkite tag", BUILDKITE | {"BUILDKITE_TAG": "v1"}, None, "tag:v1", ("main",)),
    ("CircleCI", CIRCLE, None, "feature", ("trunk",)),
    ("CircleCI tag", {"CIRCLECI": "true", "CIRCLE_TAG": "v1"}, None, "tag:v1", ("trunk",)),
    ("Bitbucket", BITBUCKET, None, "feature", ("trunk",)),
    (
        "Bitbucket tag",
        {"BITBUCKET_BUILD_NUMBER": "3", "BITBUCKET_TAG": "v1"},
        None,
        "tag:v1",
        ("trunk",),
    ),
    ("Bitbucket custom pipeline", {"BITBUCKET_BUILD_NUMBER": "3"}, None, "local", ("trunk",)),
    ("Codeship", CODESHIP, None, "feature", ("trunk",)),
    (
        "Codeship without a pull request",
        CODESHIP | {"CI_PULL_REQUEST": "false", "CI_PR_NUMBER": "0"},
        None,
        "feature",
        ("trunk",),
    ),
    ("Azure", AZURE, None, "feature/x", ("trunk",)),
    (
        "Azure with variables that are not there",
        AZURE | {"SYSTEM_PULLREQUEST_PULLREQUESTID": "$(System.PullRequest.PullRequestId)"},
        None,
        "feature/x",
        ("trunk",),
    ),
    ("Azure tag", AZURE | {"BUILD_SOURCEBRANCH": "refs/tags/v1"}, None, "tag:v1", ("trunk",)),
    ("Drone", DRONE, None, "feature", ("main",)),
    (
        "Drone tag",
        DRONE | {"DRONE_BUILD_EVENT": "tag", "DRONE_TAG": "v1"},
        None,
        "tag:v1",
        ("main",),
    ),
    ("Jenkins multibranch", JENKINS | {"BRANCH_NAME": "feature/x"}, None, "feature/x", ("trunk",)),
    (
        "Jenkins primary branch",
        JENKINS | {"BRANCH_NAME": "prod", "BRANCH_IS_PRIMARY": "true"},
        None,
        "prod",
        (),
    ),
    (
        "Jenkins Git plugin",
        JENKINS | {"GIT_BRANCH": "origin/feature/x"},
        None,
        "feature/x",
        ("trunk",),
    ),
    ("Jenkins detached", JENKINS | {"GIT_BRANCH": "detached"}, None, "local", ("trunk",)),
    ("Jenkins tag", JENKINS | {"TAG_NAME": "v1", "BRANCH_NAME": "v1"}, None, "tag:v1", ("trunk",)),
    (
        "Jenkins without its URL",
        {"BUILD_TAG": "jenkins-a-1", "BRANCH_NAME": "f"},
        None,
        "f",
        ("trunk",),
    ),
    ("no CI service", {"PATH": "/bin", "GITHUB_ACTIONS": "false"}, None, "local", ("trunk",)),
]

PULL_REQUESTS: list[tuple[str, dict[str, str], Any, str | None, tuple[str, ...]]] = [
    ("GitHub", GITHUB_PULL, REPOSITORY, "pr:12", ("develop", "main")),
    ("GitHub without event", GITHUB_PULL, None, "pr:12", ("develop", "trunk")),
    (
        "GitHub pull_request_target",
        GITHUB_PULL | ON_MAIN | {"GITHUB_EVENT_NAME": "pull_request_target"},
        REPOSITORY | {"pull_request": {"number": 12, "base": {"ref": "develop"}}},
        "pr:12",
        ("develop", "main"),
    ),
    (
        "GitHub pull_request_target without event",
        GITHUB | ON_MAIN | {"GITHUB_EVENT_NAME": "pull_request_target"},
        "{not json",
        None,
        ("trunk",),
    ),
    (
        "GitHub comment on a pull request",
        GITHUB | ON_MAIN | {"GITHUB_EVENT_NAME": "issue_comment"},
        REPOSITORY | {"issue": {"number": 12, "pull_request": {"url": "u"}}},
        "pr:12",
        ("main",),
    ),
    (
        "GitHub workflow_run of a pull request",
        GITHUB | ON_MAIN | {"GITHUB_EVENT_NAME": "workflow_run"},
        REPOSITORY | {"workflow_run": {"event": "pull_request", "pull_requests": [{"number": 12}]}},
        "pr:12",
        ("main",),
    ),
    (
        "GitHub workflow_run of a fork",
        GITHUB | ON_MAIN | {"GITHUB_EVENT_NAME": "workflow_run"},
        REPOSITORY | {"workflow_run": {"event": "pull_request", "pull_requests": []}},
        None,
        ("main",),
    ),
    (
        "GitLab",
        GITLAB
        | {
            "CI_MERGE_REQUEST_IID": "12",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "develop",
            "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "main",
            "CI_COMMIT_REF_NAME": "main",
        },
        None,
        "pr:12",
        ("develop", "main"),
    ),
    (
        "GitLab by its ref",
        GITLAB | {"CI_COMMIT_REF_NAME": "refs/merge-requests/12/head"},
        None,
        "pr:12",
        ("main",),
    ),
    (
        "GitLab without number",
        GITLAB | {"CI_PIPELINE_SOURCE": "merge_request_event", "CI_COMMIT_REF_NAME": "main"},
        None,
        None,
        ("main",),
    ),
    (
        "GitLab external",
        GITLAB
        | {
            "CI_EXTERNAL_PULL_REQUEST_IID": "12",
            "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME": "main",
            "CI_COMMIT_BRANCH": "main",
        },
        None,
        "pr:12",
        ("main",),
    ),
    (
        "Buildkite",
        BUILDKITE
        | {
            "BUILDKITE_PULL_REQUEST": "12",
            "BUILDKITE_PULL_REQUEST_BASE_BRANCH": "develop",
            "BUILDKITE_BRANCH": "main",
        },
        None,
        "pr:12",
        ("develop", "main"),
    ),
    (
        "Buildkite without number",
        BUILDKITE | {"BUILDKITE_PULL_REQUEST": "yes"},
        None,
        None,
        ("main",),
    ),
    ("CircleCI fork", CIRCLE | {"CIRCLE_PR_NUMBER": "12"}, None, "pr:12", ("trunk",)),
    (
        "CircleCI fork by its branch",
        CIRCLE | {"CIRCLE_BRANCH": "pull/12"},
        None,
        "pr:12",
        ("trunk",),
    ),
    (
        "CircleCI",
        CIRCLE | {"CIRCLE_PULL_REQUEST": "https://github.com/myorg/app/pull/12"},
        None,
        "pr:12",
        ("trunk",),
    ),
    (
        "Bitbucket",
        BITBUCKET | {"BITBUCKET_PR_ID": "12", "BITBUCKET_PR_DESTINATION_BRANCH": "develop"},
        None,
        "pr:12",
        ("develop", "trunk"),
    ),
    ("Codeship", CODESHIP | {"CI_PR_NUMBER": "12"}, None, "pr:12", ("trunk",)),
    (
        "Codeship by URL",
        CODESHIP | {"CI_PULL_REQUEST": "https://github.com/myorg/app/pull/12"},
        None,
        "pr:12",
        ("trunk",),
    ),
    ("Azure with GitHub, by ref", AZURE_PULL, None, "pr:12", ("develop", "trunk")),
    (
        "Azure with GitHub",
        AZURE_PULL | {"SYSTEM_PULLREQUEST_PULLREQUESTNUMBER": "12"},
        None,
        "pr:12",
        ("develop", "trunk"),
    ),
    (
        "Azure, a policy's build on a branch ref",
        AZURE | {"BUILD_REASON": "PullRequest", "BUILD_SOURCEBRANCH": "refs/heads/main"},
        None,
        None,
        ("trunk",),
    ),
    (
        "Drone",
        DRONE
        | {
            "DRONE_BUILD_EVENT": "pull_request",
            "DRONE_PULL_REQUEST": "12",
            "DRONE_BRANCH": "main",
            "DRONE_TARGET_BRANCH": "main",
            "DRONE_SOURCE_BRANCH": "feature",
        },
        None,
        "pr:12",
        ("main",),
    ),
    (
        "Jenkins multibranch",
        JENKINS | {"CHANGE_ID": "12", "CHANGE_TARGET": "develop", "BRANCH_NAME": "PR-12"},
        None,
        "pr:12",
        ("develop", "trunk"),
    ),
    (
        "Jenkins pull request builder",
        JENKINS
        | {"ghprbPullId": "12", "ghprbTargetBranch": "develop", "GIT_BRANCH": "origin/main"},
        None,
        "pr:12",
        ("develop", "trunk"),
    ),
    ("Jenkins by ref", JENKINS | {"GIT_BRANCH": "origin/pr/12/merge"}, None, "pr:12", ("trunk",)),
    ("Jenkins with a name for an id", JENKINS | {"CHANGE_ID": "I0f"}, None, None, ("trunk",)),
]


def _detect(environment: dict[str, str], event: Any, git: GitFacts | None = GIT) -> ScopeDefaults:
    text = event if event is None or isinstance(event, str) else json.dumps(event)
    return detect_scope(environment, git, github_event=text)


@pytest.mark.parametrize(
    ("environment", "event", "scope", "fallback"),
    [pytest.param(*case, id=name) for name, *case in BRANCHES],
)
def test_a_build_of_a_branch_or_tag_writes_its_own_scope(
    environment: dict[str, str], event: Any, scope: str, fallback: tuple[str, ...]
) -> None:
    found = _detect(environment, event)
    assert (found.scope, found.fallback) == (scope, fallback)


@pytest.mark.parametrize(
    ("environment", "event", "scope", "fallback"),
    [pytest.param(*case, id=name) for name, *case in PULL_REQUESTS],
)
def test_a_build_of_a_pull_request_never_writes_a_branch(
    environment: dict[str, str], event: Any, scope: str | None, fallback: tuple[str, ...]
) -> None:
    found = _detect(environment, event)
    assert (found.scope, found.fallback) == (scope, fallback)


@pytest.mark.parametrize(
    ("environment", "source", "url"),
    [
        (GITHUB, "GitHub Actions", "https://github.com/myorg/app/actions/runs/7"),
        (GITLAB, "GitLab CI", GITLAB["CI_JOB_URL"]),
        (BUILDKITE, "Buildkite", BUILDKITE["BUILDKITE_BUILD_URL"]),
        (CIRCLE, "CircleCI", None),
        (BITBUCKET, "Bitbucket Pipelines", "https://bitbucket.org/myorg/app/pipelines/results/3"),
        (CODESHIP, "Codeship", None),
        (AZURE, "Azure Pipelines", "https://dev.azure.com/myorg/app/_build/results?buildId=9"),
        (DRONE, "Drone", DRONE["DRONE_BUILD_LINK"]),
        (JENKINS, "Jenkins", JENKINS["BUILD_URL"]),
    ],
)
def test_a_build_knows_where_it_runs(
    environment: dict[str, str], source: str, url: str | None
) -> None:
    found = _detect(environment, None)
    assert (found.source, found.revision, found.job_url) == (source, "abc", url)


def test_a_pull_request_tells_the_branch_that_it_comes_from() -> None:
    assert _detect(GITHUB_PULL, None).branch == "main"
    assert _detect(AZURE_PULL, None).branch == "main"
    assert _detect(GITHUB, None).branch == "feature/x"
    drone = DRONE | {"DRONE_PULL_REQUEST": "12", "DRONE_SOURCE_BRANCH": "theirs"}
    assert _detect(drone, None).branch == "theirs"


def test_a_detached_head_outside_of_ci_has_no_scope() -> None:
    found = detect_scope({}, GitFacts(default_branch="main", revision="abc"))
    assert found == ScopeDefaults(None, ("main",), "nothing", "abc")
    assert detect_scope({}) == ScopeDefaults(None, (), "nothing")


@pytest.mark.parametrize(
    "branch",
    ["pr:1", "tag:v1", "HEAD", "a b", "a..b", "/x", "a/", "a//b", ".a", "-a", "a\x00", "a~1"],
)
def test_what_cannot_be_a_branch_is_not_taken_for_one(branch: str) -> None:
    assert detect_scope(CIRCLE | {"CIRCLE_BRANCH": branch}, GIT).scope is None
    assert detect_scope(BUILDKITE | {"BUILDKITE_PIPELINE_DEFAULT_BRANCH": branch}).fallback == ()


_ALL = sorted({name for case in (*BRANCHES, *PULL_REQUESTS) for name in case[1]})
_values = st.sampled_from(
    ["", "true", "false", "12", "main", "refs/heads/main", "refs/pull/12/merge", "pr:9", "tag:v1"]
)
_git = st.builds(
    GitFacts, branch=st.none() | st.just("main"), default_branch=st.none() | st.just("main")
)


@given(st.dictionaries(st.sampled_from(_ALL), _values, max_size=12), _git)
def test_no_variables_make_a_fallback_twice_or_of_the_own_scope(
    environment: dict[str, str], git: GitFacts
) -> None:
    found = detect_scope(environment, git)
    assert len(set(found.fallback)) == len(found.fallback)
    assert found.scope not in found.fallback
    assert not any(":" in branch for branch in found.fallback)


@given(
    st.sampled_from(PULL_REQUESTS),
    st.dictionaries(
        st.sampled_from(["CI_COMMIT_BRANCH", "BRANCH_NAME", "CI_BRANCH", "DRONE_BRANCH"]),
        st.just("main"),
    ),
)
def test_no_branch_variable_moves_a_pull_request_into_a_branch(
    case: tuple[str, dict[str, str], Any, str | None, tuple[str, ...]], extra: dict[str, str]
) -> None:
    _, environment, event, scope, _ = case
    assert _detect(environment | extra, event, GitFacts(branch="main")).scope == scope


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "pull_request",
                        "number",
                        "base",
                        "ref",
                        "repository",
                        "workflow_run",
                        "event",
                        "pull_requests",
                        "issue",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=8,
    )
)
def test_no_event_of_github_makes_it_crash(event: Any) -> None:
    detect_scope(GITHUB_PULL, GIT, github_event=json.dumps(event))
