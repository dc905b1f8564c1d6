"""Roles for Ceph's RGW, which do not rely on what it does not enforce.

Seen on RGW 20.2.4: a session token that was tampered with can be accepted without its policy, with
all rights of the role; and a session may take roles again. So there is a role for each class of
builds, as for jobs with identity tokens: then no token of a pull request writes what the default
branch reads. And no session may take any of them: `aws:TokenIssueTime` is there for sessions only.
"""

from __future__ import annotations

import shlex

from longshore.core.oidc_roles import PURPOSES, class_rights
from longshore.core.policy import Place, Policy, compact, document
from longshore.core.roles import Role, check_principal, check_sizes, role_name
from longshore.core.subjects import CLASSES
from longshore.errors import UsageError

_POLICY_NAME = "longshore"


def ceph_roles(
    place: Place,
    project: str,
    principal: str,
    *,
    default_branch: str,
    fallback: tuple[str, ...] = (),
) -> tuple[Role, ...]:
    """Make the roles of a project, of which a broker takes the one of the build's class.

    Args:
        fallback: scopes that all classes may read, besides the default branch's.

    Raises:
        UsageError: it is not one user that is to take them.
    """
    trust = ceph_trust(principal)
    return tuple(
        check_sizes(
            Role(
                kind=kind,
                name=role_name(project, kind),
                purpose=PURPOSES[kind],
                permissions=class_rights(
                    place, project, kind, default_branch=default_branch, fallback=fallback
                ),
                trust=trust,
            )
        )
        for kind in CLASSES
    )


def ceph_trust(principal: str) -> Policy:
    """Let one user take a role, and no session, whoever took the role that it has.

    Raises:
        UsageError: it is not one user.
    """
    check_principal(principal)
    if ":user/" not in principal:
        raise UsageError(
            f"{principal[:200]!r} is not a user, as the broker is on Ceph; write"
            " arn:aws:iam:::user/<name>"
        )
    return document(
        {"Effect": "Allow", "Principal": {"AWS": [principal]}, "Action": ["sts:AssumeRole"]},
        {
            # To Ceph a session is also the user that took its role. Roles cannot be named by `*`.
            "Effect": "Deny",
            "Principal": {"AWS": ["*"]},
            "Action": ["sts:AssumeRole"],
            "Condition": {"Null": {"aws:TokenIssueTime": "false"}},
        },
    )


def admin_commands(roles: tuple[Role, ...]) -> list[str]:
    """Write the commands that make the roles, or bring them up to date."""
    commands = []
    for role in roles:
        name = shlex.quote(f"--role-name={role.name}")
        trust = shlex.quote(f"--assume-role-policy-doc={compact(role.trust or document())}")
        policy = shlex.quote(f"--policy-doc={compact(role.permissions)}")
        create = f"radosgw-admin role create {name} {trust}"
        modify = f"radosgw-admin role-trust-policy modify {name} {trust}"
        commands.append(f"{create} || {modify}")
        commands.append(
            f"radosgw-admin role-policy put {name} --policy-name={_POLICY_NAME} {policy}"
        )
    return commands
