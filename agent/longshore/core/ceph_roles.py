"""Roles for Ceph's RGW, one for each project, which do not rely on what it does not enforce.

Seen on RGW 20.2.4: a session token that was tampered with can be accepted without its policy, with
all rights of the role; and a session may take roles again. So a role reaches its own project only,
and each trust policy refuses every such role, the own one too. That is why all projects have to be
named together, and why the roles of all of them change when one is added.
"""

from __future__ import annotations

import shlex

from longshore.core.keys import scopes_prefix
from longshore.core.policy import Place, allow, compact, document, list_statement
from longshore.core.roles import READS, WRITES, Role, check_principal, role_name
from longshore.errors import UsageError

_POLICY_NAME = "longshore"


def ceph_roles(place: Place, projects: tuple[str, ...], principal: str) -> tuple[Role, ...]:
    """Make the roles that a broker takes, one for each project of the store.

    Raises:
        UsageError: it is not one user that is to take them.
    """
    check_principal(principal)
    if ":user/" not in principal:
        raise UsageError(
            f"{principal[:200]!r} is not a user, as the broker is on Ceph; write"
            " arn:aws:iam:::user/<name>"
        )
    names = {project: role_name(project, "broker") for project in projects}
    trust = document(
        {"Effect": "Allow", "Principal": {"AWS": [principal]}, "Action": ["sts:AssumeRole"]},
        {
            "Effect": "Deny",
            "Principal": {"AWS": [f"arn:aws:iam:::role/{name}" for name in names.values()]},
            "Action": ["sts:AssumeRole"],
        },
    )
    return tuple(
        Role(
            kind="broker",
            name=name,
            purpose=f"Gives out credentials for one scope of the project {project}.",
            permissions=document(
                list_statement(place, [f"{scopes_prefix(project)}*"]),
                allow([*READS, *WRITES], place.objects(scopes_prefix(project))),
            ),
            trust=trust,
        )
        for project, name in names.items()
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
