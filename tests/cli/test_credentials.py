"""`longshore credentials`: what it asks STS for, and in which form it hands the answer on."""

from __future__ import annotations

import json
import shlex
import subprocess
from datetime import timedelta
from functools import partial

import pytest
from tests.cli.conftest import Shell

from longshore.config import load_settings
from longshore.core.policy import Grant, Place, session_policy
from longshore.errors import AccessDenied
from longshore.wiring import open_sts

ROLE = "arn:aws:iam::123456789012:role/longshore"
GRANT = (
    *("--store", "s3://ci-cache/acme", "--project", "shop", "--scope", "pr:17"),
    *("--fallback", "main", "--role-arn", ROLE),
)
KEY, SECRET = "ASIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE/a+b=="


def granted(*fallback: str, read_only: bool = False, place: Place | None = None) -> object:
    return session_policy(
        Grant(place or Place("ci-cache", "acme"), "shop", "pr:17", fallback, read_only)
    )


def test_sts_is_asked_for_the_grant_and_nothing_else(shell: Shell) -> None:
    assert shell("credentials", *GRANT) == 0

    (asked,) = shell.sts.asked
    assert json.loads(asked.pop("policy")) == granted("main")
    assert asked == {"role": ROLE, "name": "pr=3A17@shop", "duration": timedelta(hours=1)}
    assert shell.sts.opened == [(None, None)]


def test_options_reach_sts(shell: Shell) -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd"
    shell.environment["AWS_REGION"] = "eu-west-7"
    more = ("--read-only", "--duration", "12h", "--session-name", "me", "--kms-key", key)

    assert shell("credentials", *GRANT, *more, "--sts-endpoint-url", "http://sts.example") == 0

    (asked,) = shell.sts.asked
    place = Place("ci-cache", "acme", kms_key=key)
    assert json.loads(asked["policy"]) == granted("main", read_only=True, place=place)
    assert (asked["name"], asked["duration"]) == ("me", timedelta(hours=12))
    assert shell.sts.opened == [("http://sts.example", "eu-west-7")]


def test_a_shell_evaluates_the_output(shell: Shell) -> None:
    assert shell("credentials", *GRANT) == 0

    script = f'eval {shlex.quote(shell.out)} && echo "$AWS_SECRET_ACCESS_KEY $AWS_SESSION_TOKEN"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout == f"{SECRET} {TOKEN}\n"


def test_the_aws_libraries_read_the_output(shell: Shell) -> None:
    assert shell("credentials", *GRANT, "--format", "process") == 0

    document = json.loads(shell.out)
    assert (document["Version"], document["SessionToken"]) == (1, TOKEN)


def test_github_hides_the_secrets_before_anything_can_use_them(shell: Shell) -> None:
    shell.write("env", "BEFORE=1")  # by somebody who forgot to end the line
    shell.environment["GITHUB_ENV"] = str(shell.directory / "env")

    assert shell("credentials", *GRANT, "--format", "github") == 0

    assert shell.out.splitlines() == [f"::add-mask::{value}" for value in (KEY, SECRET, TOKEN)]
    lines = (shell.directory / "env").read_text().split("\n")
    assert lines[:2] == ["BEFORE=1", f"AWS_ACCESS_KEY_ID={KEY}"]
    assert lines[-1] == ""


def test_github_without_its_file_is_told_all_on_standard_output(shell: Shell) -> None:
    assert shell("credentials", *GRANT, "--format", "github") == 0

    masks, variables = shell.out.splitlines()[:3], shell.out.splitlines()[3:]
    assert all(line.startswith("::add-mask::") for line in masks)
    assert f"AWS_SESSION_TOKEN={TOKEN}" in variables


def test_nothing_is_used_that_could_not_be_hidden(shell: Shell) -> None:
    shell.environment["GITHUB_ENV"] = str(shell.directory / "env")
    shell.write_error = OSError(28, "No space left on device")

    assert shell("credentials", *GRANT, "--format", "github") == 2

    assert not (shell.directory / "env").exists()
    assert SECRET not in shell.err


def test_a_file_of_github_that_cannot_be_written_is_named(shell: Shell) -> None:
    shell.environment["GITHUB_ENV"] = str(shell.directory / "no" / "env")

    assert shell("credentials", *GRANT, "--format", "github") == 2
    assert "GITHUB_ENV" in shell.err
    assert "No such file" in shell.err


@pytest.mark.parametrize("arguments", [["--json"], ["--format", "json"]])
def test_json_is_one_document_that_holds_them(shell: Shell, arguments: list[str]) -> None:
    assert shell("credentials", *GRANT, *arguments) == 0

    document = json.loads(shell.out)
    assert document["credentials"] == {
        "access_key_id": KEY,
        "secret_access_key": SECRET,
        "session_token": TOKEN,
        "expires_at": "2026-11-26T07:30:00Z",
    }
    assert json.loads(document["policy"]) == granted("main")
    assert document["store"] == "s3://ci-cache/acme/"


@pytest.mark.parametrize("form", ["env", "json", "process", "github"])
def test_standard_error_says_until_when_and_no_secret(shell: Shell, form: str) -> None:
    shell.environment["GITHUB_ENV"] = str(shell.directory / "env")
    assert shell("credentials", *GRANT, "--format", form, "--verbose") == 0

    assert shell.err == (
        "credentials for scope pr:17 of project shop, valid until 2026-11-26T07:30:00Z\n"
    )
    shell("credentials", *GRANT, "--format", form, "--quiet")
    assert shell.err == ""


@pytest.mark.parametrize("form", ["env", "json", "process", "github"])
def test_nothing_is_written_to_a_terminal_or_even_asked_for(shell: Shell, form: str) -> None:
    shell.terminal = True
    assert shell("credentials", *GRANT, "--format", form) == 2

    assert SECRET not in shell.out + shell.err
    assert "nothing for a terminal" in shell.err
    assert shell.sts.asked == []


def test_the_policy_is_printed_without_asking_anyone(shell: Shell) -> None:
    shell.terminal = True
    assert shell("credentials", *GRANT[:-2], "--print-policy") == 0  # without a role

    assert json.loads(shell.out) == granted("main")
    assert shell.sts.opened == []
    document = shell.json("credentials", *GRANT, "--print-policy")
    assert json.loads(document["policy"]) == granted("main")
    assert document["credentials"] is None


def test_the_policy_is_of_the_roles_partition(shell: Shell) -> None:
    role = "arn:aws-cn:iam::123456789012:role/x"
    assert shell("credentials", *GRANT, "--role-arn", role, "--print-policy") == 0

    assert "arn:aws-cn:s3:::ci-cache/acme/" in shell.out
    assert "arn:aws:" not in shell.out


@pytest.mark.parametrize("left_out", ["--store", "--project", "--scope", "--role-arn"])
def test_what_a_broker_has_to_say_is_asked_for(shell: Shell, left_out: str) -> None:
    index = GRANT.index(left_out)
    del shell.environment["LONGSHORE_STORE"], shell.environment["LONGSHORE_SCOPE"]

    assert shell("credentials", *GRANT[:index], *GRANT[index + 2 :]) == 2
    assert left_out in shell.err
    assert shell.sts.opened == []


def test_neither_git_nor_the_ci_nor_files_of_the_job_widen_a_grant(shell: Shell) -> None:
    subprocess.run(["git", "init", "-q", "-b", "evil", str(shell.directory)], check=True)
    shell.write(
        "longshore.toml",
        'fallback = ["evil"]\nproject = "evil"\nkms-key = "evil"\nread-only = false\n',
    )
    shell.environment |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_REF": "refs/pull/9/merge",
        "GITHUB_BASE_REF": "evil",
        "GITHUB_HEAD_REF": "evil",
    }
    without_fallback = GRANT[: GRANT.index("--fallback")] + GRANT[GRANT.index("--role-arn") :]

    assert shell("credentials", *without_fallback) == 0
    assert json.loads(shell.sts.asked[0]["policy"]) == granted()

    shell.write("mine.toml", 'fallback = ["release"]\n')
    assert shell("credentials", *without_fallback, "--config", "mine.toml") == 0
    assert json.loads(shell.sts.asked[1]["policy"]) == granted("release")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--duration", "14m"], "15m at least and 12h at most"),
        (["--duration", "13h"], "15m at least and 12h at most"),
        (["--role-arn", "builder"], "not the ARN of a role"),
        (["--session-name", "a b"], "not a name of a session"),
        (["--kms-key", "alias/x"], "not the ARN of a KMS key"),
        (["--store", "file:///tmp"], "credentials are for a bucket"),
        (["--sts-endpoint-url", "sts"], "not a URL of a server"),
        (["--format", "flags"], "known are env, json, process, github"),
        (
            [part for letter in "abcdef" for part in ("--fallback", letter * 199)],
            "STS takes",
        ),
    ],
)
def test_what_sts_would_not_take_is_wrong_usage(
    shell: Shell, arguments: list[str], said: str
) -> None:
    assert shell("credentials", *GRANT, *arguments) == 2
    assert said in shell.err
    assert shell.sts.asked == []
    assert shell.out == ""


def test_a_format_of_cache_from_in_a_variable_is_not_meant(shell: Shell) -> None:
    shell.environment["LONGSHORE_FORMAT"] = "compose"
    assert shell("credentials", *GRANT) == 0
    assert shell.out.startswith("export ")

    shell.environment["LONGSHORE_FORMAT"] = "process"
    assert shell("credentials", *GRANT) == 0
    assert json.loads(shell.out)["Version"] == 1

    shell.environment["LONGSHORE_FORMAT"] = "toml"
    assert shell("credentials", *GRANT) == 2
    assert "LONGSHORE_FORMAT: 'toml' is no format" in shell.err


def test_a_refusal_is_an_error_and_no_output(shell: Shell) -> None:
    shell.sts.error = AccessDenied("cannot get credentials: no")

    assert shell("credentials", *GRANT) == 6
    assert (shell.out, shell.err) == ("", "error: cannot get credentials: no\n")

    document = shell.json("credentials", *GRANT)
    assert document["error"]["error"] == "AccessDenied"
    assert "credentials" not in document


def test_other_commands_hold_no_secrets(shell: Shell) -> None:
    shell.environment |= {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}

    for command in ("config", "list", "doctor"):
        for more in ([], ["--json"]):
            shell(command, *more)
            assert SECRET not in shell.out + shell.err
            assert TOKEN not in shell.out + shell.err


@pytest.mark.parametrize(
    ("endpoints", "asked"),
    [
        ({}, None),
        ({"endpoint-url": "http://seaweedfs.example:8333"}, "http://seaweedfs.example:8333"),
        ({"endpoint-url": "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com"}, None),
        (
            {"endpoint-url": "http://s3.example", "sts-endpoint-url": "http://sts.example"},
            "http://sts.example",
        ),
    ],
)
def test_sts_is_where_the_s3_server_is_unless_that_is_at_aws(
    endpoints: dict[str, str], asked: str | None
) -> None:
    ask = open_sts(load_settings(endpoints, {}, {}, ""), None)

    assert isinstance(ask, partial)
    assert ask.keywords["endpoint_url"] == asked
