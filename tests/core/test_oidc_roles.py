"""Each class of builds gets its own role, and each role writes the scopes of its class only."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.support.iam import allows, may_assume
from tests.support.names import keys_of, names, roots

from longshore.core.keys import scope_prefix, scopes_prefix, segment
from longshore.core.oidc_roles import oidc_roles
from longshore.core.policy import Place
from longshore.core.roles import Role
from longshore.core.scopes import is_branch
from longshore.core.subjects import (
    Issuer,
    Subjects,
    TrustClass,
    check_default_branch,
    parse_issuer,
    parse_repository,
    subjects_of,
    with_given,
)
from longshore.errors import UsageError

ID = "019424f8-632e-7001-8203-040506070809"
GITHUB = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
GITLAB = "arn:aws:iam::123456789012:oidc-provider/gitlab.example.com"
BUILDKITE = "arn:aws:iam::123456789012:oidc-provider/agent.buildkite.com"
ASSUME = "sts:AssumeRoleWithWebIdentity"
WRITES = ("s3:PutObject", "s3:AbortMultipartUpload")
PLACE = Place("bucket", "cache")

branches = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=240)
    | st.text("amin/-.2_@é$%", min_size=1, max_size=12)
    | st.sampled_from(["main", "mai", "main2", "main/x", "x/main", "MAIN", "pr-1", "pr", "tag"])
    | st.sampled_from(["refs/heads/main", "m" * 198, "m" * 199, "m" * 240, "pull_request"])
).filter(is_branch)
defaults = branches.filter(lambda name: not set("$*?{}") & set(name))


def roles_of(
    service: str = "github",
    name: str = "acme/shop",
    default: str = "main",
    *,
    project: str = "shop",
    place: Place = PLACE,
    fallback: tuple[str, ...] = (),
) -> dict[str, Role]:
    arn = GITHUB if service == "github" else GITLAB
    issuer = parse_issuer(arn, None, service)
    subjects = subjects_of(service, name, default)
    made = oidc_roles(place, project, issuer, subjects, default_branch=default, fallback=fallback)
    return {role.kind: role for role in made}


def may(role: Role, action: str, key: str, place: Place = PLACE) -> bool:
    return allows(role.permissions, action, f"{place.bucket_arn}/{place.prefix}{key}")


def writes(role: Role, scope: str, project: str = "shop", place: Place = PLACE) -> bool:
    found = {may(role, action, key, place) for key in keys_of(project, scope) for action in WRITES}
    assert len(found) == 1
    return found.pop()


def reads(role: Role, scope: str, project: str = "shop", place: Place = PLACE) -> bool:
    found = {may(role, "s3:GetObject", key, place) for key in keys_of(project, scope)}
    for below in ("", "entries/", "entries/web/", "packs/", "recipes/"):
        prefix = place.prefix + scope_prefix(project, scope) + below
        context = {"s3:prefix": prefix}
        found.add(allows(role.permissions, "s3:ListBucket", place.bucket_arn, context))
    assert len(found) == 1, "what is listed can be read, and the other way round"
    return found.pop()


@given(defaults, branches, names, names, roots)
@example("main", "mai", "1", "1", "")
@example("main", "main/x", "1", "1", "cache")
@example("m" * 240, "m" * 199, "1", "1", "")
def test_each_role_writes_the_scopes_of_its_class_and_no_others(
    default: str, branch: str, number: str, project: str, root: str
) -> None:
    assume(branch != default)
    place = Place("bucket", root)
    roles = roles_of(default=default, project=project, place=place)
    scopes = {
        "default": default,
        "branches": branch,
        "pulls": f"pr:{number}",
        "tags": f"tag:{number}",
    }

    for kind, role in roles.items():
        for owner, scope in scopes.items():
            assert writes(role, scope, project, place) == (owner == kind), (kind, scope)


@given(defaults, branches, names)
def test_each_role_reads_its_class_and_the_default_branch(
    default: str, branch: str, number: str
) -> None:
    assume(branch != default)
    roles = roles_of(default=default)

    for role in roles.values():
        assert reads(role, default)
        assert reads(role, branch) == (role.kind == "branches")
        assert reads(role, f"pr:{number}") == (role.kind == "pulls")
        assert reads(role, f"tag:{number}") == (role.kind == "tags")


@given(defaults, names, names)
@example("main", "shop-evil", "main")
@example("main", "shop/scopes", "main")
@example("main", "sho", "main")
def test_no_role_reaches_another_project(default: str, other: str, scope: str) -> None:
    assume(other != "shop")

    for role in roles_of(default=default).values():
        assert not writes(role, scope, other)
        assert not reads(role, scope, other)


@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_no_role_deletes_or_reaches_beyond_scopes(service: str) -> None:
    for role in roles_of(service).values():
        for scope in ("main", "x", "pr:1", "tag:1"):
            for key in keys_of("shop", scope):
                for action in ("s3:DeleteObject", "s3:PutObjectAcl", "s3:GetObjectVersion"):
                    assert not may(role, action, key)
        for key in (f"shop/gc/{ID}.mark", "shop/x", "x"):
            assert not any(may(role, action, key) for action in (*WRITES, "s3:GetObject"))
        for prefix in (None, "", "cache/", "cache/shop/", "cache/shop/scopes/", "cache/shop/gc/"):
            context = {} if prefix is None else {"s3:prefix": prefix}
            assert not allows(role.permissions, "s3:ListBucket", PLACE.bucket_arn, context)
        for action in ("s3:ListBucketMultipartUploads", "s3:PutBucketPolicy", "iam:PassRole"):
            assert not allows(role.permissions, action, PLACE.bucket_arn)


def test_branches_cannot_list_pull_requests_by_a_shorter_prefix() -> None:
    role = roles_of()["branches"]

    for prefix in ("p", "pr", "pr~", "pr~3", "pr~3A", "pr~3A1", "pr~3A1/", "pr~3A1/entries/"):
        context = {"s3:prefix": f"cache/shop/scopes/{prefix}"}
        assert not allows(role.permissions, "s3:ListBucket", PLACE.bucket_arn, context)


@given(names.filter(lambda name: not is_branch(name)), branches)
def test_no_name_of_a_pull_requests_scope_is_that_of_a_branch(number: str, branch: str) -> None:
    assert not segment(branch).startswith(segment("pr:"))
    assert segment(f"pr:{number}").startswith("pr~3A")


def test_scopes_that_are_named_are_read_by_all_and_written_by_none() -> None:
    for role in roles_of(fallback=("develop",)).values():
        assert reads(role, "develop")
        assert writes(role, "develop") == (role.kind == "branches")


# Who takes a role


def claims(issuer: Issuer, subject: str, audience: str | None = None) -> dict[str, str]:
    return {
        f"{issuer.host}:sub": subject,
        f"{issuer.host}:aud": audience or issuer.audience,
    }


def taken(roles: Iterable[Role], issuer: Issuer, subject: str) -> set[str]:
    """Name the roles that a job with a token of this subject can take."""
    found = set()
    for role in roles:
        assert role.trust is not None
        if may_assume(role.trust, issuer.arn, ASSUME, claims(issuer, subject)):
            found.add(role.kind)
        assert not may_assume(role.trust, issuer.arn, ASSUME, claims(issuer, subject, "other"))
        assert not may_assume(role.trust, issuer.arn, "sts:AssumeRole", claims(issuer, subject))
        assert not may_assume(role.trust, issuer.arn, ASSUME, {})
        other = f"{issuer.arn}.evil.com"
        assert not may_assume(role.trust, other, ASSUME, claims(issuer, subject))
    return found


@given(defaults, branches)
@example("main", "mai")
@example("main", "main2")
@example("main", "main/x")
def test_a_github_job_takes_the_role_of_its_class_only(default: str, branch: str) -> None:
    assume(branch != default)
    issuer = parse_issuer(GITHUB, None, "github")
    roles = roles_of(default=default).values()

    def role_of(rest: str) -> set[str]:
        return taken(roles, issuer, f"repo:acme/shop:{rest}")

    assert role_of(f"ref:refs/heads/{default}") == {"default"}
    assert role_of(f"ref:refs/heads/{branch}") == {"branches"}
    assert role_of(f"ref:refs/tags/{default}") == {"tags"}
    assert role_of("pull_request") == {"pulls"}
    assert role_of("environment:production") == set()
    assert role_of("ref:refs/pull/1/merge") == set()
    assert role_of(f"ref:refs/heads/{default}:job_workflow_ref:x") <= {"branches"}


@pytest.mark.parametrize(
    "repository",
    ["repo:acme/shop2", "repo:acme/sho", "repo:acme2/shop", "repo:ACME/shop", "repo:acme@1/shop@2"],
)
@pytest.mark.parametrize("rest", ["ref:refs/heads/main", "pull_request", "ref:refs/heads/x"])
def test_jobs_of_other_repositories_take_no_role(repository: str, rest: str) -> None:
    issuer = parse_issuer(GITHUB, None, "github")

    assert taken(roles_of().values(), issuer, f"{repository}:{rest}") == set()


def test_a_repository_with_ids_in_its_subjects_takes_its_roles() -> None:
    issuer = parse_issuer(GITHUB, None, "github")
    roles = roles_of("github", "acme@1/shop@2").values()

    assert taken(roles, issuer, "repo:acme@1/shop@2:ref:refs/heads/main") == {"default"}
    assert taken(roles, issuer, "repo:acme@1/shop@2:pull_request") == {"pulls"}
    assert taken(roles, issuer, "repo:acme/shop:pull_request") == set()
    assert taken(roles, issuer, "repo:acme@9/shop@2:pull_request") == set()


@given(defaults, branches)
def test_a_gitlab_job_takes_the_role_of_its_branch_or_tag(default: str, branch: str) -> None:
    assume(branch != default)
    issuer = parse_issuer(GITLAB, None, "gitlab")
    assert issuer.audience == "https://gitlab.example.com"
    roles = roles_of("gitlab", "acme/web/shop", default).values()

    def role_of(rest: str, project: str = "acme/web/shop") -> set[str]:
        return taken(roles, issuer, f"project_path:{project}:ref_type:{rest}")

    assert role_of(f"branch:ref:{default}") == {"default"}
    assert role_of(f"branch:ref:{branch}") == {"branches"}
    assert role_of(f"tag:ref:{default}") == {"tags"}
    assert role_of(f"branch:ref:{default}", "acme/web/shop/x") == set()
    assert role_of(f"branch:ref:{default}", "fork/web/shop") == set()
    assert role_of(f"branch:ref:{default}", "acme/web") == set()


def test_merge_requests_on_gitlab_write_their_scopes_as_branches_do() -> None:
    roles = roles_of("gitlab")

    assert set(roles) == {"default", "branches", "tags"}
    assert writes(roles["branches"], "pr:17")
    assert reads(roles["branches"], "pr:17")
    assert not writes(roles["branches"], "main")
    assert not writes(roles["branches"], "tag:v1")
    assert not writes(roles["default"], "pr:17")


def test_subjects_of_another_service_can_be_written_out() -> None:
    issuer = parse_issuer(BUILDKITE, "sts.amazonaws.com", None)
    job = "organization:acme:pipeline:shop:ref:refs/heads"
    subjects = with_given(Subjects({}), (f"default={job}/main:commit:*", f"branches={job}/*"))
    roles = oidc_roles(PLACE, "shop", issuer, subjects, default_branch="main")

    assert [role.kind for role in roles] == ["default", "branches"]
    assert taken(roles, issuer, f"{job}/main:commit:abc:step:x") == {"default"}
    assert taken(roles, issuer, f"{job}/main2:commit:abc:step:x") == {"branches"}
    assert not writes(roles[1], "pr:1")


def test_a_given_subject_takes_the_place_of_the_services_own() -> None:
    issuer = parse_issuer(GITLAB, None, "gitlab")
    given_ = "project_path:acme/shop:ref_type:branch:ref:main:ref_protected:true"
    subjects = with_given(subjects_of("gitlab", "acme/shop", "main"), (f"default={given_}",))
    roles = oidc_roles(PLACE, "shop", issuer, subjects, default_branch="main")

    assert taken(roles, issuer, given_) == {"default"}
    assert taken(roles, issuer, given_.replace("true", "false")) == {"branches"}


@pytest.mark.parametrize(
    "text",
    [
        *("default=*", "branches=*", "branches=repo:*", "branches=repo:acme/*", "branches="),
        *("branches=repo:*/shop:ref:refs/heads/*", "pulls=repo:acme/sh?p:pull_request"),
        *("default=repo:acme/shop:ref:refs/heads/main*", "default=repo:acme/shop:ref:refs/heads/*"),
        *("branches=repo:acme/shop*", "tags=repo:acme/shop:ref:refs/tags/**", "nobody=a:b:c:d"),
        *("pulls=repo:acme/shop:${aws:x}", "repo:acme/shop:pull_request", "pulls=a:b:c d"),
    ],
)
def test_a_subject_that_others_could_have_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        with_given(Subjects({}), (text,))


@pytest.mark.parametrize(
    "texts",
    [
        ("branches=repo:acme/shop:*", "pulls=repo:acme/shop:pull_request"),
        ("branches=repo:acme/shop:ref:*", "tags=repo:acme/shop:ref:refs/tags/*"),
        ("pulls=repo:acme/shop:pull_request", "pulls=repo:acme/shop:pull"),
    ],
)
def test_classes_that_a_build_could_choose_from_are_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        with_given(Subjects({}), texts)


@pytest.mark.parametrize(
    "text",
    [
        *("github:acme/*", "github:*/*", "github:acme", "github:acme/shop:ref", "github:ac?e/shop"),
        *("github:acme/shop/x", "github:acme@1/shop", "github:acme/shop@2", "github:a b/c"),
        *("gitlab:acme", "gitlab:acme/*", "gitlab:/shop", "gitlab:acme//shop", "gitlab:a:b/c"),
        *("bitbucket:acme/shop", "acme/shop", "", "github:${x}/shop", "github:acme/shop\n"),
    ],
)
def test_what_is_not_one_repository_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_repository(text)


@pytest.mark.parametrize("branch", ["", "*", "ma*n", "a:b", "${x}", "a{b", "a b", "~x", "pr:1"])
def test_a_default_branch_with_a_meaning_in_policies_is_refused(branch: str) -> None:
    with pytest.raises(UsageError, match="default branch"):
        check_default_branch(branch)


@pytest.mark.parametrize(
    "arn",
    ["gitlab.com", "*", "arn:aws:iam::123456789012:oidc-provider/*", GITHUB.replace("oidc-", "")],
)
def test_what_is_no_oidc_provider_is_refused(arn: str) -> None:
    with pytest.raises(UsageError, match="OIDC provider"):
        parse_issuer(arn, None, "github")


def test_an_audience_that_is_not_known_has_to_be_given() -> None:
    with pytest.raises(UsageError, match="--oidc-audience"):
        parse_issuer(BUILDKITE, None, None)
    with pytest.raises(UsageError, match="audience"):
        parse_issuer(BUILDKITE, "*", None)


@given(defaults, names.filter(lambda name: len(name) < 60))
def test_every_trust_policy_pins_subject_and_audience(default: str, project: str) -> None:
    kinds: list[TrustClass] = ["default", "branches", "tags", "pulls"]
    roles = roles_of(default=default, project=project)

    assert list(roles) == kinds
    host = "token.actions.githubusercontent.com"
    for role in roles.values():
        assert role.trust is not None
        (statement,) = role.trust["Statement"]
        equal = statement["Condition"]["StringEquals"]
        like = statement["Condition"].get("StringLike", {})
        assert equal[f"{host}:aud"] == "sts.amazonaws.com"
        subject = equal.get(f"{host}:sub") or like[f"{host}:sub"]
        assert subject.startswith("repo:acme/shop:")
        assert f"{scopes_prefix(project)}" in str(role.permissions)
