"""The Terraform can be parsed, and holds the same documents as everything else."""

from __future__ import annotations

import io
import json
from typing import Any

import hcl2
import pytest

from longshore.core.bucket_lifecycle import rule_id
from longshore.core.bucket_plan import Wanted
from longshore.core.bucket_policy import with_tls_only
from longshore.core.oidc_roles import oidc_roles
from longshore.core.policy import Place
from longshore.core.roles import Role, broker_role, prune_role
from longshore.core.subjects import parse_issuer, subjects_of
from longshore.core.terraform import terraform

PROVIDER = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
BROKER = "arn:aws:iam::123456789012:role/broker"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def parsed(text: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Parse Terraform: each block's attributes by its labels."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for kind, blocks in hcl2.load(io.StringIO(f"{text}\n")).items():
        if kind.startswith("__"):
            continue  # comments
        for block in blocks:
            labels = [kind]
            while not block.get("__is_block__"):
                ((label, block),) = block.items()
                labels.append(label.strip('"'))
            found[tuple(labels)] = block
    return found


def text_of(value: str) -> str:
    return str(json.loads(value)).replace("$${", "${").replace("%%{", "%{")


def document(value: str) -> Any:
    """Read a heredoc, which the parser gives with its marks and in quotes."""
    lines = value.removeprefix('"').removesuffix('"').splitlines()
    assert (lines[0], lines[-1]) == ("<<JSON", "JSON")
    return json.loads("\n".join(lines[1:-1]))


def all_roles(place: Place, branch: str = "main") -> tuple[Role, ...]:
    jobs = oidc_roles(
        place,
        "shop",
        parse_issuer(PROVIDER, None, "github"),
        subjects_of("github", "acme/shop", branch),
        default_branch=branch,
    )
    return (broker_role(place, BROKER), prune_role(place, BROKER), *jobs)


def render(place: Place, roles: tuple[Role, ...] = (), provider: str | None = None) -> Any:
    wanted = Wanted(place, None, 2)
    return parsed(terraform(wanted, roles, provider=provider, session_seconds=43200))


@pytest.mark.parametrize("root", ["", "cache", 'a b/"c"\\d', "100%/é"])
@pytest.mark.parametrize("branch", ["main", 'release/é-"x"%'])
def test_documents_in_terraform_are_those_of_the_roles(root: str, branch: str) -> None:
    place = Place("my-cache", root, kms_key=KEY)
    roles = all_roles(place, branch)
    blocks = render(place, roles, PROVIDER)

    for role in roles:
        made = blocks["resource", "aws_iam_role", role.kind]
        assert text_of(made["name"]) == role.name
        assert document(made["assume_role_policy"]) == role.trust
        assert made["max_session_duration"] == 43200
        policy = blocks["resource", "aws_iam_role_policy", role.kind]
        assert document(policy["policy"]) == role.permissions
        assert policy["role"] == f"${{aws_iam_role.{role.kind}.id}}"
        output = blocks["output", f"{role.kind}_role_arn"]
        assert output["value"] == f"${{aws_iam_role.{role.kind}.arn}}"
    provider = blocks["data", "aws_iam_openid_connect_provider", "jobs"]
    assert text_of(provider["arn"]) == PROVIDER
    kinds = {labels[1] for labels in blocks if labels[0] == "resource"}
    assert {kind for kind in kinds if kind.startswith("aws_iam")} == {
        "aws_iam_role",
        "aws_iam_role_policy",
    }


def test_a_role_that_nobody_takes_is_a_policy_alone() -> None:
    place = Place("my-cache")
    role = prune_role(place, None)

    blocks = render(place, (role,))

    made = blocks["resource", "aws_iam_policy", "prune"]
    assert text_of(made["name"]) == role.name
    assert document(made["policy"]) == role.permissions
    assert ("resource", "aws_iam_role", "prune") not in blocks
    assert ("data", "aws_iam_openid_connect_provider", "jobs") not in blocks


def test_the_bucket_in_terraform_is_the_one_that_setup_makes() -> None:
    place = Place("my-cache", "cache")

    blocks = {labels[1]: block for labels, block in render(place).items()}

    assert text_of(blocks["aws_s3_bucket"]["bucket"]) == "my-cache"
    block = blocks["aws_s3_bucket_public_access_block"]
    assert [name for name, value in block.items() if value is True and name[0] != "_"] == [
        "block_public_acls",
        "ignore_public_acls",
        "block_public_policy",
        "restrict_public_buckets",
    ]
    assert document(blocks["aws_s3_bucket_policy"]["policy"]) == with_tls_only(None, place)
    (rule,) = blocks["aws_s3_bucket_lifecycle_configuration"]["rule"]
    assert text_of(rule["id"]) == rule_id("cache/")
    assert text_of(rule["filter"][0]["prefix"]) == "cache/"
    assert rule["abort_incomplete_multipart_upload"][0]["days_after_initiation"] == 2
    (rule,) = blocks["aws_s3_bucket_ownership_controls"]["rule"]
    assert text_of(rule["object_ownership"]) == "BucketOwnerEnforced"
    (rule,) = blocks["aws_s3_bucket_server_side_encryption_configuration"]["rule"]
    (default,) = rule["apply_server_side_encryption_by_default"]
    assert text_of(default["sse_algorithm"]) == "AES256"
    for name, made in blocks.items():
        assert made["bucket"] == "${aws_s3_bucket.cache.id}" or name == "aws_s3_bucket"


def test_a_key_in_terraform_encrypts_with_a_bucket_key() -> None:
    blocks = render(Place("my-cache", kms_key=KEY))

    name = "aws_s3_bucket_server_side_encryption_configuration"
    (rule,) = blocks["resource", name, "cache"]["rule"]
    (default,) = rule["apply_server_side_encryption_by_default"]
    assert text_of(default["sse_algorithm"]) == "aws:kms"
    assert text_of(default["kms_master_key_id"]) == KEY
    assert rule["bucket_key_enabled"] is True
