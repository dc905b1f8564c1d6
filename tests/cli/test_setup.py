"""`longshore setup`, as it is typed: on moto in AWS's place, and on SeaweedFS."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from tests.cli.conftest import Shell
from tests.cli.test_docs import TEXT, _fields, shape
from tests.support.s3_fixtures import isolate_from_host
from tests.support.seaweedfs import ADMIN, SeaweedFS

READING = re.compile(r"(?:Get|Head|List)[A-Z].*")
BROKER = "arn:aws:iam::123456789012:role/broker"
GITHUB = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
JOBS = (
    *("--oidc-provider", GITHUB, "--repository", "github:acme/shop"),
    *("--default-branch", "main", "--project", "shop"),
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of S3, by the names of operations."""
    from botocore.client import BaseClient

    made: list[str] = []
    real = BaseClient._make_api_call

    def call(self: Any, operation: str, arguments: Any) -> Any:
        made.append(operation)
        return real(self, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    return made


@pytest.fixture
def admin(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell of somebody who may do everything, and a store that is a bucket."""
    isolate_from_host(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ADMIN.secret_key)
    shell.environment["LONGSHORE_STORE"] = "s3://my-cache/team"
    return shell


@pytest.fixture
def aws(admin: Shell) -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")


def writes(calls: list[str]) -> list[str]:
    return [call for call in calls if not READING.fullmatch(call)]


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    admin: Shell, aws: Any, calls: list[str]
) -> None:
    assert admin("setup", "--dry-run", "--region", "eu-west-1") == 0

    assert writes(calls) == []
    assert admin.out.splitlines() == [
        "create  the bucket my-cache exists in eu-west-1",
        "create  objects belong to the bucket's owner, and ACLs count for nothing",
        "create  objects are encrypted (SSE-S3)",
        "create  requests without TLS are refused",
        "create  public access is blocked",
        "create  uploads below team/ that nobody finishes are removed after 2 days",
        "6 changes to make; nothing was changed yet",
    ]


def test_without_a_terminal_nothing_is_done_unless_it_was_said_before(
    admin: Shell, aws: Any, calls: list[str]
) -> None:
    assert admin("setup") == 2

    assert writes(calls) == []
    assert admin.out == ""
    assert admin.err == (
        "error: setup would change 6 things and has nobody to ask; look with --dry-run, then say"
        " --yes\n"
    )


def test_yes_does_it_and_the_second_time_nothing_is_written(
    admin: Shell, aws: Any, calls: list[str]
) -> None:
    assert admin("setup", "--yes", "--kms-key", KEY) == 0
    assert admin.out.splitlines()[-1] == "6 changes made"
    assert "create  public access is blocked" in admin.err, "the plan comes first"
    assert "PutBucketPolicy" in writes(calls)
    calls.clear()

    assert admin("setup", "--yes", "--kms-key", KEY) == 0

    assert writes(calls) == []
    assert admin.out.splitlines()[-1] == "nothing to change"
    assert [line.split()[0] for line in admin.out.splitlines()[:-1]] == ["ok"] * 6
    assert admin.err == ""


def test_on_a_terminal_it_asks_after_the_plan(admin: Shell, aws: Any, calls: list[str]) -> None:
    admin.answer = "y\n"

    assert admin("setup", "--quiet") == 0

    assert "create  public access is blocked\n" in admin.err
    assert admin.err.endswith("Go on? [y/N] ")
    assert writes(calls)
    calls.clear()
    assert admin("setup") == 0
    assert "Go on?" not in admin.err, "there is nothing to ask about"
    assert writes(calls) == []


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yess\n"])
def test_any_other_answer_is_a_no(admin: Shell, aws: Any, calls: list[str], answer: str) -> None:
    admin.answer = answer

    assert admin("setup") == 1

    assert writes(calls) == []
    assert admin.out.splitlines()[-1] == "6 changes to make; nothing was changed"


def test_one_setting_that_was_changed_is_the_only_one_that_is_written(
    admin: Shell, aws: Any, calls: list[str]
) -> None:
    admin("setup", "--yes")
    aws.delete_public_access_block(Bucket="my-cache")
    calls.clear()

    assert admin("setup", "--yes") == 0

    assert writes(calls) == ["PutPublicAccessBlock"]
    assert "done  public access is blocked" in admin.out


def test_what_may_not_be_read_is_a_failure_and_the_rest_is_done(
    admin: Shell, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

    real = BaseClient._make_api_call

    def call(self: Any, operation: str, arguments: Any) -> Any:
        if operation == "PutPublicAccessBlock":
            answer = {
                "Error": {"Code": "AccessDenied"},
                "ResponseMetadata": {"HTTPStatusCode": 403},
            }
            raise ClientError(answer, operation)
        return real(self, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)

    assert admin("setup", "--yes") == 6

    assert "warning: cannot set the block of public access of s3://my-cache: access" in admin.err
    assert re.search(r"^not done  public access is blocked: cannot set", admin.out, re.MULTILINE)
    assert admin.out.splitlines()[-1] == "5 changes made"


@pytest.mark.s3
def test_what_a_server_lacks_is_said_and_no_failure(
    admin: Shell, seaweedfs: SeaweedFS, calls: list[str]
) -> None:
    admin.environment["LONGSHORE_STORE"] = "s3://lacking/team"
    admin.environment["LONGSHORE_ENDPOINT_URL"] = seaweedfs.endpoint_url

    assert admin("setup", "--yes") == 0

    assert "not done  public access is blocked: this server has no block of public" in admin.out
    assert "left out  requests without TLS are refused: behind a proxy" in admin.out
    calls.clear()
    assert admin("setup", "--yes") == 0
    assert writes(calls) == []
    assert "unsupported  public access is blocked: this server has no block" in admin.out
    assert admin.out.splitlines()[-1] == "nothing to change"


def test_documented_json_is_the_real_one(admin: Shell, aws: Any) -> None:
    (text,) = (
        text
        for text in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
        if '"command": "setup"' in text
    )

    real = admin.json("setup", "--yes")

    assert shape(json.loads(text)) == shape(real)
    section = TEXT.partition("## JSON")[2]
    for name in _fields(real):
        assert re.search(rf"`[^`]*\b{name}\b[^`]*`", section), name
    assert [step["done"] for step in real["steps"]] == [True] * 6
    assert not any(step["done"] for step in admin.json("setup", "--dry-run")["steps"])


# What is printed


@pytest.fixture
def offline(admin: Shell, calls: list[str]) -> Iterator[Shell]:
    """A shell whose commands ask nobody anything."""
    yield admin
    assert calls == []


def test_roles_are_printed_without_asking_anybody(offline: Shell) -> None:
    assert offline("setup", "--print", "roles", "--broker-arn", BROKER, *JOBS) == 0

    roles = {role["name"]: role for role in json.loads(offline.out)["roles"]}
    assert list(roles) == [
        "longshore-my-cache-broker",
        "longshore-my-cache-prune",
        "longshore-shop-default",
        "longshore-shop-branches",
        "longshore-shop-tags",
        "longshore-shop-pulls",
    ]
    assert roles["longshore-my-cache-prune"]["trust"] is None
    pulls = roles["longshore-shop-pulls"]["permissions"]["Statement"]
    assert pulls[-1]["Resource"] == "arn:aws:s3:::my-cache/team/shop/scopes/pr~3A*"
    document = offline.json("setup", "--print", "roles", "--broker-arn", BROKER, *JOBS)
    assert document["roles"] == list(roles.values())


def test_terraform_is_printed_without_asking_anybody(offline: Shell) -> None:
    assert offline("setup", "--print", "terraform", *JOBS) == 0

    assert 'resource "aws_iam_role" "pulls" {' in offline.out
    assert f'arn = "{GITHUB}"' in offline.out
    text = offline.out
    assert f"{offline.json('setup', '--print', 'terraform', *JOBS)['terraform']}\n" == text


def test_roles_for_ceph_are_printed_as_documents_and_as_commands(offline: Shell) -> None:
    ceph = (
        *("--provider", "ceph", "--broker-arn", "arn:aws:iam:::user/broker"),
        *("--project", "shop", "--default-branch", "main"),
    )

    assert offline("setup", "--print", "commands", *ceph) == 0
    lines = offline.out.splitlines()
    assert [shlex.split(line)[:3] for line in lines] == [
        ["radosgw-admin", "role", "create"],
        ["radosgw-admin", "role-policy", "put"],
    ] * 4
    assert offline.json("setup", "--print", "commands", *ceph)["commands"] == lines

    roles = offline.json("setup", "--print", "roles", *ceph)["roles"]
    assert [role["kind"] for role in roles] == ["default", "branches", "tags", "pulls"]
    assert all(role["trust"]["Statement"][1]["Effect"] == "Deny" for role in roles)
    assert offline("setup", "--print", "terraform", *ceph) == 2


def test_the_partition_is_that_of_the_arns(offline: Shell) -> None:
    broker = BROKER.replace(":aws:", ":aws-cn:")

    offline("setup", "--print", "roles", "--broker-arn", broker)

    assert "arn:aws-cn:s3:::my-cache" in offline.out
    assert offline("setup", "--print", "roles", "--broker-arn", broker, *JOBS) == 2
    assert "not of one partition: aws, aws-cn" in offline.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--print", "roles"], "nobody is to take a role"),
        (["--print", "roles", "--oidc-provider", GITHUB, "--project", "shop"], "--default-branch"),
        (["--print", "roles", "--oidc-provider", GITHUB, "--default-branch", "x"], "--project"),
        (
            ["--print", "roles", *JOBS[:2], "--project", "p", "--default-branch", "main"],
            "name the --repository, or each --subject",
        ),
        (["--print", "roles", "--repository", "github:acme/*", *JOBS[:2], *JOBS[4:]], "acme/*"),
        (["--print", "roles", "--broker-arn", "*"], "--broker-arn: '*' is not the ARN of one"),
        (["--print", "nothing"], "--print: 'nothing' cannot be printed"),
        (["--print", "commands", "--broker-arn", BROKER], "only roles of --provider ceph"),
        (["--print", "roles", "--provider", "ceph", "--project", "p"], "--broker-arn"),
        (["--provider", "minio"], "--provider: 'minio' is no provider"),
        (["--kms-key", "alias/x"], "--kms-key: 'alias/x' is not the ARN of a KMS key"),
        (["--region", "a b"], "--region: 'a b' is not a region"),
        (["--store", "file:///tmp/x"], "setup is for a bucket"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    offline: Shell, arguments: list[str], said: str
) -> None:
    assert offline("setup", *arguments) == 2

    assert said in offline.err
    assert offline.err.count("\n") == 1


def test_roles_that_were_named_without_print_are_not_forgotten(admin: Shell, aws: Any) -> None:
    admin("setup", "--dry-run", "--broker-arn", BROKER)

    assert "roles are made by you: see them with --print roles" in admin.err


def test_setup_does_not_read_a_projects_files(admin: Shell, aws: Any, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("]")

    assert admin("setup", "--dry-run") == 0
