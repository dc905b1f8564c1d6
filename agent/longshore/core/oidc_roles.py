"""Roles for jobs that take them by themselves, with an identity token of their CI service.

Such a job could leave a session policy out. So what it may write is in the role: one for each class
of builds that can be told from each other by the token's subject. Within a class, builds are not
kept apart: one pull request may write what another one reads. A broker keeps them apart, too.
"""

from __future__ import annotations

from longshore.core.keys import scope_prefix, scopes_prefix, segment
from longshore.core.policy import Place, Policy, allow, document, kms_statements, list_statement
from longshore.core.roles import READS, WRITES, Role, check_sizes, role_name
from longshore.core.subjects import Issuer, Subjects, TrustClass, trust_policy

PURPOSES: dict[TrustClass, str] = {
    "default": "Builds of the default branch: write its scope only.",
    "branches": "Builds of other branches: write their scopes, never the default branch's.",
    "tags": "Builds of tags: write the scopes of tags, read the default branch's as well.",
    "pulls": "Builds of pull requests: write their scopes, read the default branch's as well.",
}
_WITH_PULLS = "Builds of other branches and of merge requests: never write the default branch's."


def oidc_roles(
    place: Place,
    project: str,
    issuer: Issuer,
    subjects: Subjects,
    *,
    default_branch: str,
    fallback: tuple[str, ...] = (),
) -> tuple[Role, ...]:
    """Make the roles of a project, one for each class of builds that has subjects.

    Args:
        fallback: scopes that all classes may read, besides the default branch's.
    """
    rights = _Rights(place, project, default_branch, fallback, subjects.pulls_are_branches)
    made = []
    for kind in subjects.patterns:
        purpose = PURPOSES[kind]
        if kind == "branches" and subjects.pulls_are_branches:
            purpose = _WITH_PULLS
        made.append(
            check_sizes(
                Role(
                    kind=kind,
                    name=role_name(project, kind),
                    purpose=purpose,
                    permissions=rights.of(kind),
                    trust=trust_policy(issuer, subjects, kind),
                )
            )
        )
    return tuple(made)


def class_rights(
    place: Place, project: str, kind: TrustClass, *, default_branch: str, fallback: tuple[str, ...]
) -> Policy:
    """Say what the builds of one class may do in a project, where pull requests are a class."""
    return _Rights(place, project, default_branch, fallback, False).of(kind)


class _Rights:
    """What each class may do in one project."""

    def __init__(
        self,
        place: Place,
        project: str,
        default_branch: str,
        fallback: tuple[str, ...],
        pulls_are_branches: bool,
    ) -> None:
        self._place = place
        self._scopes = scopes_prefix(project)
        self._default = scope_prefix(project, default_branch)
        self._fallback = [scope_prefix(project, scope) for scope in fallback]
        self._pulls_are_branches = pulls_are_branches

    def of(self, kind: TrustClass) -> Policy:
        if kind == "branches":
            return self._branches()
        if kind == "default":
            own, listed = self._default, f"{self._default}*"
        else:
            # A branch cannot have the `:` of these scopes in its name, nor the `~` of the segment.
            own = self._scopes + segment("pr:" if kind == "pulls" else "tag:")
            listed = f"{own}*/*"
        others = [scope for scope in (self._default, *self._fallback) if scope != own]
        others = list(dict.fromkeys(others))
        return document(
            list_statement(self._place, [listed, *(f"{scope}*" for scope in others)]),
            allow(list(READS), [self._place.objects(each) for each in (own, *others)]),
            allow(list(WRITES), self._place.objects(own)),
            *kms_statements(self._place),
        )

    def _branches(self) -> Policy:
        """Allow all scopes but those of others: what branches are called, nobody knows before."""
        kinds = ("tag:",) if self._pulls_are_branches else ("pr:", "tag:")
        foreign = [self._scopes + segment(kind) for kind in kinds]
        denied_lists = list_statement(self._place, [f"{prefix}*" for prefix in foreign])
        return document(
            list_statement(self._place, [f"{self._scopes}*/*"]),
            allow([*READS, *WRITES], self._place.objects(self._scopes)),
            {
                **allow(list(WRITES), self._place.objects(self._default)),
                "Sid": "NotTheDefaultBranch",
                "Effect": "Deny",
            },
            {
                **allow("s3:*", [self._place.objects(prefix) for prefix in foreign]),
                "Sid": "NotTheirObjects",
                "Effect": "Deny",
            },
            {**denied_lists, "Sid": "NotTheirNames", "Effect": "Deny"},
            *kms_statements(self._place),
        )
