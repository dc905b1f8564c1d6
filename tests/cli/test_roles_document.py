"""`docs/roles.md` says what is so: its commands run, its YAML names what there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.conftest import Shell

from longshore.config_options import OPTIONS

TEXT = (Path(__file__).parents[2] / "docs" / "roles.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line
]
GITHUB, GITLAB = (
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
)
ROLE = re.compile(r"longshore-(?:my-cache|shop)-[a-z]+")


def command_for(word: str) -> list[str]:
    (found,) = (line for line in COMMANDS if word in line)
    return shlex.split(found)[1:]


def roles_of(shell: Shell, command: list[str]) -> dict[str, Any]:
    """Run a command of the document, for JSON."""
    arguments = [word for word in command if word not in ("terraform", "roles", "--print")]
    document = shell.json(*arguments, "--print", "roles")
    return {role["kind"]: role for role in document["roles"]}


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_commands_of_the_document_work(shell: Shell, command: str) -> None:
    assert shell(*shlex.split(command)[1:]) == 0, shell.err
    assert shell.out


def test_roles_of_the_document_are_those_that_are_made(shell: Shell) -> None:
    made = {
        role["name"]
        for word in ("github:", "gitlab:", "--prune-arn")
        for role in roles_of(shell, command_for(word)).values()
    }

    table = TEXT.partition("## Which roles there are")[2].partition(
        "\n\n",
    )[2]
    assert set(ROLE.findall(table.partition("\n\n")[2].partition("Scopes of")[0])) == made
    assert set(ROLE.findall(TEXT)) == made


def test_the_example_is_what_is_printed(shell: Shell) -> None:
    (text,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    (example,) = json.loads(text)["roles"]

    real = roles_of(shell, command_for("github:"))["pulls"]

    assert example == real
    for name in real:
        assert f"`roles[].{name}`" in TEXT


def test_workflow_for_github_takes_the_roles_and_asks_for_the_token(shell: Shell) -> None:
    job = GITHUB["jobs"]["build"]
    (step,) = (step for step in job["steps"] if "configure-aws" in step.get("uses", ""))
    roles = roles_of(shell, command_for("github:"))

    # The inputs of the action, from its action.yml.
    assert set(step["with"]) == {"aws-region", "role-to-assume"}
    assert job["permissions"]["id-token"] == "write"
    wanted = step["with"]["role-to-assume"]
    kinds = set(re.findall(r"'(default|branches|tags|pulls)'", wanted))
    assert kinds == set(roles) - {"prune"}
    arn = wanted.partition("${{")[0]
    assert all(roles[kind]["name"] == arn.partition("role/")[2] + kind for kind in kinds)
    assert "refs/heads/main" in wanted


def test_pipeline_for_gitlab_takes_the_roles_with_their_audience(shell: Shell) -> None:
    job = GITLAB["build"]
    roles = roles_of(shell, command_for("gitlab:"))

    lines = " ".join(job["before_script"])
    kinds = set(re.findall(r"kind=(\w+)", lines))
    assert kinds == set(roles) - {"prune"}
    for kind in kinds:
        assert "role/" + roles[kind]["name"].removesuffix(kind) + "$kind" in lines
        condition = roles[kind]["trust"]["Statement"][0]["Condition"]["StringEquals"]
        assert condition["gitlab.com:aud"] == job["id_tokens"]["AWS_TOKEN"]["aud"]


def test_variables_of_the_document_are_options() -> None:
    known = {option.variable for option in OPTIONS}

    found = set(re.findall(r"\bLONGSHORE_[A-Z_]+", TEXT))
    assert found
    assert found <= known
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert flags <= {option.flag for option in OPTIONS}


def test_links_of_the_document_lead_somewhere() -> None:
    docs = Path(__file__).parents[2] / "docs"
    for target, anchor in re.findall(r"\]\(([\w.-]+\.md)(?:#([\w-]+))?\)", TEXT):
        text = (docs / target).read_text()
        headings = [
            re.sub(r"[^\w -]", "", h).lower().replace(" ", "-")
            for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        ]
        assert not anchor or anchor in headings
