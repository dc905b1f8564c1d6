"""Say in IAM's language what one grant of credentials may do, and nothing more.

The policy names keys by prefixes from `keys.py`, whose segments hold no character that IAM reads as
a wildcard or a variable. So a prefix covers one scope and no sibling whose name begins like its.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from longshore.core.keys import check_root, is_bucket, scope_prefix, segment
from longshore.errors import UsageError

MAX_POLICY_CHARACTERS = 2048  # of an inline policy, AWS STS API reference, AssumeRole
MAX_SESSION_NAME = 64
MIN_SESSION = timedelta(minutes=15)  # AWS STS API reference, AssumeRole, DurationSeconds
MAX_SESSION = timedelta(hours=12)

Policy = dict[str, Any]

_PARTITION = re.compile(r"aws[a-z0-9-]*", re.ASCII)
# Not an alias: IAM compares the key's own ARN.
_KMS_KEY = re.compile(r"arn:aws[a-z0-9-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+", re.ASCII)
_ROLE = re.compile(r"arn:(aws[a-z0-9-]*):iam::(?:[0-9]{12})?:role/[\w+=,.@/-]{1,576}", re.ASCII)
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_HASH_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is, as policies name it.

    Args:
        root: the prefix in the bucket, as the store is given it.
        kms_key: the ARN of the key that encrypts objects, if there is one.
    """

    bucket: str
    root: str = ""
    partition: str = "aws"
    kms_key: str | None = None

    def __post_init__(self) -> None:
        if not is_bucket(self.bucket):
            raise UsageError(f"{self.bucket[:200]!r} is not a bucket's name")
        if not _PARTITION.fullmatch(self.partition):
            raise UsageError(f"{self.partition[:80]!r} is not a partition such as aws or aws-cn")
        check_root(self.root)
        if self.kms_key is not None:
            check_kms_key(self.kms_key)

    @property
    def bucket_arn(self) -> str:
        """The ARN of the bucket."""
        return f"arn:{self.partition}:s3:::{self.bucket}"

    @property
    def prefix(self) -> str:
        """What all keys begin with, as the store has it: empty, or with a slash at its end."""
        root = self.root.strip("/")
        return f"{root}/" if root else ""

    def objects(self, below: str) -> str:
        """Return the ARN of all objects below a prefix of longshore's keys."""
        return f"{self.bucket_arn}/{self.prefix}{below}*"


@dataclass(frozen=True, slots=True)
class Grant:
    """What one build is given: to read some scopes of a project, and to write one of them."""

    place: Place
    project: str
    scope: str
    fallback: tuple[str, ...] = ()
    read_only: bool = False

    @property
    def readable(self) -> tuple[str, ...]:
        """The scopes that may be read, the own one first."""
        return tuple(dict.fromkeys((self.scope, *self.fallback)))


def session_policy(grant: Grant) -> Policy:
    """Return the policy of a grant.

    There is no right to delete, to copy what cannot be read, or to list multipart uploads, which
    cannot be limited to a prefix: an upload is aborted by the id that its writer knows.
    """
    prefixes = [scope_prefix(grant.project, scope) for scope in grant.readable]
    writable = [] if grant.read_only else prefixes[:1]
    return document(
        list_statement(grant.place, [f"{prefix}*" for prefix in prefixes]),
        allow("s3:GetObject", [grant.place.objects(prefix) for prefix in prefixes]),
        *(
            allow(["s3:PutObject", "s3:AbortMultipartUpload"], grant.place.objects(prefix))
            for prefix in writable
        ),
        *kms_statements(grant.place, read_only=grant.read_only),
    )


def session_policy_text(grant: Grant) -> str:
    """Return the policy of a grant as STS is sent it.

    Raises:
        UsageError: it is longer than STS takes.
    """
    text = compact(session_policy(grant))
    if len(text) <= MAX_POLICY_CHARACTERS:
        return text
    problem = (
        f"the policy for scope {grant.scope!r} has {len(text)} characters,"
        f" and STS takes {MAX_POLICY_CHARACTERS}"
    )
    others = grant.readable[1:]
    for kept in reversed(range(len(others))):
        shorter = compact(session_policy(replace(grant, fallback=others[:kept])))
        if len(shorter) <= MAX_POLICY_CHARACTERS:
            raise UsageError(f"{problem}; leave out --fallback {' '.join(others[kept:])}")
    raise UsageError(f"{problem}; give the store a shorter prefix, or the project a shorter name")


def list_statement(place: Place, prefixes: list[str]) -> Policy:
    """Allow listing below prefixes of longshore's keys, which may hold wildcards."""
    return {
        **allow("s3:ListBucket", place.bucket_arn),
        "Condition": {"StringLike": {"s3:prefix": _one([place.prefix + p for p in prefixes])}},
    }


def kms_statements(place: Place, *, read_only: bool = False) -> list[Policy]:
    """Allow what S3 does with a key on behalf of who reads or writes objects."""
    if place.kms_key is None:
        return []
    # The parts of an upload are decrypted to put them together, so a writer needs both.
    actions = ["kms:Decrypt"] if read_only else ["kms:GenerateDataKey", "kms:Decrypt"]
    return [allow(_one(actions), place.kms_key)]


def allow(action: str | list[str], resource: str | list[str]) -> Policy:
    """Write a statement that allows something."""
    resource = resource if isinstance(resource, str) else _one(resource)
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def document(*statements: Policy) -> Policy:
    """Put statements together."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def compact(policy: Policy) -> str:
    """Write a policy in as few characters as can be; ASCII, as STS takes nothing beyond Latin 1."""
    return json.dumps(policy, separators=(",", ":"), ensure_ascii=True)


def session_name(project: str, scope: str) -> str:
    """Name a session such that the store's log says who it was: `pr=3A17@shop`.

    Two grants never have one name: a name that is too long ends in a hash.
    """
    name = f"{segment(scope)}@{segment(project)}".replace("~", "=")
    if len(name) <= MAX_SESSION_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]
    # A comma, because Ceph takes no plus.
    return f"{name[: MAX_SESSION_NAME - 1 - _HASH_DIGITS]},{digest}"


def check_session_name(name: str) -> str:
    """Accept the name of a session.

    Raises:
        UsageError: STS would not.
    """
    if not _SESSION_NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} is not a name of a session: 2 to 64 of A-Z a-z 0-9 _ + = , . @ -"
        )
    return name


def check_duration(duration: timedelta) -> timedelta:
    """Accept how long a session lasts.

    Raises:
        UsageError: no session is that short, or that long.
    """
    if not MIN_SESSION <= duration <= MAX_SESSION:
        raise UsageError("a session lasts 15m at least and 12h at most")
    return duration


def check_kms_key(arn: str) -> str:
    """Accept the ARN of a KMS key.

    Raises:
        UsageError: it is none, or that of an alias, which policies cannot name.
    """
    if not _KMS_KEY.fullmatch(arn):
        raise UsageError(
            f"{arn[:200]!r} is not the ARN of a KMS key;"
            " write arn:aws:kms:<region>:<account>:key/<id>"
        )
    return arn


def check_role(arn: str) -> str:
    """Accept the ARN of a role.

    Raises:
        UsageError: it is none.
    """
    if not _ROLE.fullmatch(arn):
        raise UsageError(
            f"{arn[:200]!r} is not the ARN of a role; write arn:aws:iam::<account>:role/<name>"
        )
    return arn


def partition_of(role_arn: str) -> str:
    """Tell the partition of a role, in which its bucket is, too."""
    return check_role(role_arn).split(":")[1]


def _one(items: list[str]) -> Any:
    """Write a list of one as its member, as IAM lets us, because characters count."""
    return items[0] if len(items) == 1 else items
