"""Roles that an administrator makes once: who may take them, and what they may do at most.

Sessions of the broker's role are narrowed to one scope by `policy.py`; its rights are what all such
sessions together may need. Only the role that prunes may delete.
"""

from __future__ import annotations

import hashlib
import re

from msgspec import Struct

from longshore.core.keys import segment
from longshore.core.policy import (
    Place,
    Policy,
    allow,
    compact,
    document,
    kms_statements,
    list_statement,
)
from longshore.errors import UsageError

MAX_ROLE_NAME = 64  # IAM quotas, as are the next two
MAX_TRUST_CHARACTERS = 2048
MAX_PERMISSIONS_CHARACTERS = 10_240

READS = ("s3:GetObject",)
WRITES = ("s3:PutObject", "s3:AbortMultipartUpload")

_HASH_DIGITS = 8
# One user or role: an account as a whole would let in whoever it gives the right to take roles.
_PRINCIPAL = re.compile(
    r"arn:aws[a-z0-9-]*:iam::[A-Za-z0-9_-]*:(?:user|role)/[\w+=,.@/-]{1,576}", re.ASCII
)


class Role(Struct, frozen=True):
    """One role.

    Attributes:
        kind: what it is for, in one word; roles of one project differ in it.
        trust: `None` if it was not said who may take the role.
    """

    kind: str
    name: str
    purpose: str
    permissions: Policy
    trust: Policy | None


def broker_role(place: Place, principal: str) -> Role:
    """Make the role that a broker takes to give out credentials for one scope.

    Even without a session policy it does not reach what prune writes, and deletes nothing.
    """
    anywhere = place.objects("*/scopes/")
    return Role(
        kind="broker",
        name=role_name(place.bucket, "broker"),
        purpose="Gives out credentials for one scope of one project.",
        permissions=document(
            list_statement(place, ["*/scopes/*"]),
            allow([*READS, *WRITES], anywhere),
            *kms_statements(place),
        ),
        trust=trust_of(principal),
    )


def prune_role(place: Place, principal: str | None) -> Role:
    """Make the role that prunes the whole store: the only one that may delete."""
    return Role(
        kind="prune",
        name=role_name(place.bucket, "prune"),
        purpose="Prunes the store: the only role that may delete.",
        permissions=document(
            list_statement(place, ["*"]),
            allow([*READS, *WRITES, "s3:DeleteObject"], place.objects("")),
            *kms_statements(place),
        ),
        trust=None if principal is None else trust_of(principal),
    )


def trust_of(principal: str) -> Policy:
    """Let one user or role take a role."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"AWS": check_principal(principal)},
            "Action": "sts:AssumeRole",
        }
    )


def role_name(owner: str, kind: str) -> str:
    """Name a role: `longshore-shop-branches`. Two owners' roles never have one name.

    The characters are those that Ceph takes, which are fewer than IAM's: no `_` and no `+`.
    """
    written = segment(owner).replace("~", "=").replace("_", "=5F")
    room = MAX_ROLE_NAME - len(f"longshore--{kind}")
    if len(written) > room:
        digest = hashlib.sha256(owner.encode()).hexdigest()[:_HASH_DIGITS]
        written = f"{written[: room - 1 - _HASH_DIGITS]}@{digest}"
    return f"longshore-{written}-{kind}"


def check_principal(arn: str) -> str:
    """Accept the ARN of one user or role.

    Raises:
        UsageError: it is none.
    """
    if not _PRINCIPAL.fullmatch(arn):
        raise UsageError(
            f"{arn[:200]!r} is not the ARN of one user or role; write"
            " arn:aws:iam::<account>:role/<name>"
        )
    return arn


def check_sizes(role: Role) -> Role:
    """Accept a role whose documents IAM takes.

    Raises:
        UsageError: one of them is too long.
    """
    for what, policy, most in (
        ("trust policy", role.trust, MAX_TRUST_CHARACTERS),
        ("policy", role.permissions, MAX_PERMISSIONS_CHARACTERS),
    ):
        size = 0 if policy is None else len(compact(policy))  # IAM counts no white space
        if size > most:
            raise UsageError(
                f"the {what} of the role {role.name} has {size} characters, and IAM takes {most};"
                " give the store a shorter prefix, or name fewer fallback scopes"
            )
    return role
