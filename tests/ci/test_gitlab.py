"""The template for GitLab: its scripts are run in two shells, as the runner does."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
import yaml
from tests.ci.conftest import CI, Machine, Playback
from tests.ci.schemas import fits

TEMPLATE = yaml.safe_load((CI / "gitlab/longshore.gitlab-ci.yml").read_text())[".longshore"]
JOB = yaml.safe_load((CI / "gitlab/example.gitlab-ci.yml").read_text())["build"]
BRANCH = {"CI_COMMIT_BRANCH": "feature/x", "CI_COMMIT_REF_NAME": "feature/x"}
MAIN = {"CI_COMMIT_BRANCH": "main", "CI_COMMIT_REF_NAME": "main"}
TAG = {"CI_COMMIT_TAG": "v1", "CI_COMMIT_REF_NAME": "v1"}
MERGE = {
    "CI_MERGE_REQUEST_IID": "17",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    "CI_COMMIT_REF_NAME": "feature/x",
}


def job(machine: Machine, build: dict[str, str], *, status: str = "success") -> None:
    """Run a job: `before_script` and `script` in one shell, `after_script` in another."""
    variables = {**TEMPLATE["variables"], "AWS_CONFIG_FILE": str(machine.folder / "aws/config")}
    machine.environment |= variables | build
    machine.environment |= {
        "GITLAB_CI": "true",
        "CI_DEFAULT_BRANCH": "main",
        "LONGSHORE_ID_TOKEN": "header.claims.signature",
    }
    assert JOB["extends"] == ".longshore"
    for lines in ([*TEMPLATE["before_script"], *JOB["script"]], TEMPLATE["after_script"]):
        script = "\n".join(["set -eo pipefail", *lines])
        done = machine.run(["bash", "-c", script], environment={"CI_JOB_STATUS": status})
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "change", [{}, {"id_tokens": {"A": {"audience": "x"}}}, {"services": [{"nam": "docker"}]}]
)
def test_the_job_that_extends_the_template_fits_gitlabs_schema(
    tmp_path: Path, change: dict[str, object]
) -> None:
    # As GitLab merges them. Hidden jobs, such as the template, are not looked at by the schema.
    own = {name: value for name, value in JOB.items() if name != "extends"}
    path = tmp_path / "merged.yml"
    path.write_text(yaml.safe_dump({"build": {**TEMPLATE, **own, **change}}))

    assert fits("gitlab-ci", path) == (not change)


def test_a_job_exports_what_the_next_one_imports(machine: Machine, playback: Playback) -> None:
    job(machine, MAIN)

    assert machine.lines == [
        "longshore import",
        "longshore build --no-import --no-export",
        "docker compose run --rm web npm test",
        "longshore export",
    ]
    assert "no cached image for web" in playback(machine.calls)
    assert "hit from scope main" in playback(machine.calls)


def test_a_job_that_failed_exports_nothing(machine: Machine) -> None:
    job(machine, MAIN, status="failed")

    assert "longshore export" not in machine.lines


@pytest.mark.parametrize(
    ("build", "kind"),
    [(MAIN, "default"), (BRANCH, "branches"), (TAG, "tags"), (MERGE, "branches")],
    ids=["main", "branch", "tag", "merge-request"],
)
def test_the_role_is_that_of_the_builds_class_in_both_shells(
    machine: Machine, build: dict[str, str], kind: str
) -> None:
    job(machine, build)

    config = machine.folder / "aws/config"
    parser = configparser.ConfigParser()
    parser.read(config)
    token = machine.folder / "aws/token"
    assert dict(parser["default"]) == {
        "role_arn": f"arn:aws:iam::123456789012:role/longshore-shop-{kind}",
        "web_identity_token_file": str(token),
    }
    assert token.read_text() == "header.claims.signature"
    assert token.stat().st_mode & 0o077 == 0
    assert {call.environment["AWS_CONFIG_FILE"] for call in machine.calls} == {str(config)}


def test_botocore_takes_the_role_from_the_file(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.session import Session

    job(machine, MAIN)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(machine.folder / "aws/config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(machine.folder / "none"))
    credentials = Session().get_credentials()

    # It would ask STS when they are used.
    assert credentials is not None
    assert credentials.method == "assume-role-with-web-identity"


def test_an_engine_that_does_not_answer_costs_the_cache_and_not_the_job(machine: Machine) -> None:
    machine.install("docker", exit_code=1)
    # So that a minute of waiting is none.
    (machine.bin / "sleep").symlink_to("/bin/true")
    machine.environment |= TEMPLATE["variables"] | MAIN
    machine.environment |= {
        "AWS_CONFIG_FILE": str(machine.folder / "aws/config"),
        "CI_DEFAULT_BRANCH": "main",
        "LONGSHORE_ID_TOKEN": "x",
    }
    script = "\n".join(["set -eo pipefail", *TEMPLATE["before_script"]])
    done = machine.run(["bash", "-c", script])

    assert done.returncode == 0
    assert "the engine does not answer" in done.stderr
    assert machine.lines == ["longshore import"]
