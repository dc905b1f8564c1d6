"""Write the bucket and the roles as Terraform, for those who keep their account in it.

Policies are the same documents as elsewhere, as JSON. Nothing in them means anything to Terraform:
names that hold `${` are refused before, and what else could is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from msgspec import Struct

from longshore.core.bucket_lifecycle import rule_id
from longshore.core.bucket_plan import OWNER, PUBLIC_ACCESS, Wanted
from longshore.core.bucket_policy import with_tls_only
from longshore.core.policy import Policy
from longshore.core.roles import Role

_NAME = "cache"
_BUCKET_ID = f"aws_s3_bucket.{_NAME}.id"


class _Block(Struct, frozen=True):
    """One block: its attributes by name, as Terraform's expressions, and the blocks in it."""

    header: str
    attributes: dict[str, str]
    blocks: tuple[_Block, ...] = ()
    comment: str = ""

    def lines(self, indent: str = "") -> Iterator[str]:
        if self.comment:
            yield f"{indent}# {self.comment}"
        yield f"{indent}{self.header} {{"
        width = max(map(len, self.attributes), default=0)
        for name, value in self.attributes.items():
            yield f"{indent}  {name:<{width}} = {value}"
        for block in self.blocks:
            yield from block.lines(f"{indent}  ")
        yield f"{indent}}}"


def terraform(
    wanted: Wanted, roles: tuple[Role, ...], *, provider: str | None, session_seconds: int
) -> str:
    """Write all resources.

    Args:
        provider: the ARN of the OIDC provider that jobs' tokens come from, if roles trust one.
        session_seconds: the longest that credentials of these roles may last.
    """
    blocks = [*_bucket(wanted)]
    if provider is not None:
        blocks.append(
            _Block(
                'data "aws_iam_openid_connect_provider" "jobs"',
                {"arn": _text(provider)},
                comment="It has to exist: the roles below trust it.",
            )
        )
    for role in roles:
        blocks += _role(role, session_seconds)
    return "\n\n".join("\n".join(block.lines()) for block in blocks)


def _bucket(wanted: Wanted) -> Iterable[_Block]:
    place = wanted.place
    yield _Block(_resource("aws_s3_bucket", _NAME), {"bucket": _text(place.bucket)})
    yield _of_bucket(
        "aws_s3_bucket_ownership_controls",
        _Block("rule", {"object_ownership": _text(OWNER)}),
    )
    yield _Block(
        _resource("aws_s3_bucket_public_access_block", _NAME),
        {"bucket": _BUCKET_ID, **{_snake(name): "true" for name in PUBLIC_ACCESS}},
    )
    default = {"sse_algorithm": _text("aws:kms" if place.kms_key else "AES256")}
    if place.kms_key:
        default["kms_master_key_id"] = _text(place.kms_key)
    yield _of_bucket(
        "aws_s3_bucket_server_side_encryption_configuration",
        _Block(
            "rule",
            {"bucket_key_enabled": "true"} if place.kms_key else {},
            (_Block("apply_server_side_encryption_by_default", default),),
        ),
    )
    yield _Block(
        _resource("aws_s3_bucket_policy", _NAME),
        {"bucket": _BUCKET_ID, "policy": _json(with_tls_only(None, place))},
        comment="This is the bucket's whole policy: statements of your own have to be added here.",
    )
    yield _of_bucket(
        "aws_s3_bucket_lifecycle_configuration",
        _Block(
            "rule",
            {"id": _text(rule_id(place.prefix)), "status": _text("Enabled")},
            (
                _Block("filter", {"prefix": _text(place.prefix)}),
                _Block(
                    "abort_incomplete_multipart_upload",
                    {"days_after_initiation": str(wanted.upload_days)},
                ),
            ),
        ),
        comment="These are all of the bucket's rules: rules of your own have to be added here.",
    )


def _role(role: Role, session_seconds: int) -> Iterable[_Block]:
    """Write a role; or its policy alone, if it was not said who may take it."""
    permissions = {"name": _text(role.name), "policy": _json(role.permissions)}
    if role.trust is None:
        yield _Block(_resource("aws_iam_policy", role.kind), permissions, comment=role.purpose)
        return
    yield _Block(
        _resource("aws_iam_role", role.kind),
        {
            "name": _text(role.name),
            "max_session_duration": str(session_seconds),
            "assume_role_policy": _json(role.trust),
        },
        comment=role.purpose,
    )
    yield _Block(
        _resource("aws_iam_role_policy", role.kind),
        {"role": f"aws_iam_role.{role.kind}.id", **permissions},
    )
    yield _Block(f'output "{role.kind}_role_arn"', {"value": f"aws_iam_role.{role.kind}.arn"})


def _of_bucket(kind: str, block: _Block, comment: str = "") -> _Block:
    return _Block(_resource(kind, _NAME), {"bucket": _BUCKET_ID}, (block,), comment)


def _resource(kind: str, name: str) -> str:
    return f'resource "{kind}" "{name}"'


def _snake(name: str) -> str:
    """Write `BlockPublicAcls` as `block_public_acls`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def _json(policy: Policy) -> str:
    """Write a policy as a heredoc, which takes backslashes as they are."""
    return f"<<JSON\n{_plain(json.dumps(policy, indent=2))}\nJSON"


def _text(text: str) -> str:
    return _plain(json.dumps(text, ensure_ascii=False))


def _plain(text: str) -> str:
    return text.replace("${", "$${").replace("%{", "%%{")
