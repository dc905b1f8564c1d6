"""The recipes for Jenkins and for a machine like Codeship's: their scripts are run."""

from __future__ import annotations

import re

import pytest
import yaml
from tests.ci.conftest import CI, Machine, Playback

JENKINSFILE = (CI / "jenkins/Jenkinsfile").read_text()
SERVICES = (CI / "codeship/codeship-services.yml").read_text()
STEPS = yaml.safe_load((CI / "codeship/codeship-steps.yml").read_text())
CODESHIP = {"CI": "true", "CI_NAME": "codeship", "CI_BRANCH": "main", "LONGSHORE_PROJECT": "shop"}


# Jenkins


def blocks(text: str) -> dict[str, str]:
    """Take Groovy apart into what is in braces; what is in quotes and comments does not count."""
    plain = re.sub(r"'''.*?'''|'[^'\n]*'|//[^\n]*", lambda m: "_" * len(m[0]), text, flags=re.S)
    found: dict[str, str] = {}
    opened: list[tuple[str, int]] = []
    for match in re.finditer(r"([a-z]+)?(?:\([^()]*\))?\s*\{|\}", plain):
        if match[0] == "}":
            name, start = opened.pop()
            found[name] = found.get(name, "") + text[start : match.start()]
        else:
            within = [opened[-1][0]] if opened else []
            opened.append(("/".join([*within, match[1] or ""]), match.end()))
    assert not opened
    return found


def shell_steps(groovy: str) -> list[str]:
    return [a or b for a, b in re.findall(r"\bsh (?:'''(.*?)'''|'([^'\n]*)')", groovy, re.DOTALL)]


def test_the_pipeline_has_the_sections_that_a_declarative_one_needs() -> None:
    found = blocks(JENKINSFILE)

    assert set(found) == {
        *("pipeline", "pipeline/agent", "pipeline/options", "pipeline/environment"),
        *("pipeline/stages", "pipeline/stages/stage", "pipeline/stages/stage/steps"),
        *("pipeline/post", "pipeline/post/success"),
    }
    assert set(re.findall(r"^ {4}(\w+)", JENKINSFILE, re.MULTILINE)) == {
        *("agent", "options", "environment", "stages", "post")
    }
    for kind in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        assert re.search(rf"AWS_{kind} = credentials\('", JENKINSFILE)


def test_the_pipelines_steps_export_what_the_next_one_imports(
    machine: Machine, playback: Playback
) -> None:
    variables = dict(re.findall(r"(\w+) = '([^']*)'", blocks(JENKINSFILE)["pipeline/environment"]))
    machine.environment |= variables
    machine.environment |= {"JENKINS_URL": "https://ci.example.com", "BRANCH_NAME": "main"}
    steps = shell_steps(JENKINSFILE)
    assert steps[-1] == shell_steps(blocks(JENKINSFILE)["pipeline/post/success"])[0]
    for step in steps:
        assert machine.run(["sh", "-xec", step]).returncode == 0

    assert machine.lines == [
        "longshore import",
        "longshore build --no-import --no-export",
        "docker compose run --rm web npm test",
        "longshore export",
    ]
    assert machine.calls[0].environment["LONGSHORE_STORE"] == "s3://my-bucket/cache"
    assert "no cached image for web" in playback(machine.calls)
    assert "hit from scope main" in playback(machine.calls)


# A machine like Codeship's


def hook(machine: Machine, name: str, *arguments: str) -> int:
    return machine.run([str(CI / "codeship" / name), *arguments]).returncode


def test_the_hooks_export_what_the_next_machine_imports(
    machine: Machine, playback: Playback
) -> None:
    machine.environment |= CODESHIP
    assert hook(machine, "before") == 0
    assert hook(machine, "after", "0") == 0
    assert machine.lines == [
        "longshore import",
        "longshore build --no-import --no-export",
        "longshore export",
    ]

    (playback.shell.directory / "compose.yaml").unlink()
    playback.shell.write("codeship-services.yml", SERVICES.replace("shop/web", "shop/web:1"))
    assert "no cached image for web" in playback(machine.calls)
    assert "hit from scope main" in playback(machine.calls)
    (first, *_) = playback.docker.calls
    assert first["arguments"][-5:] == ["--tag", "shop/web:1", "--file", "./Dockerfile", "."]


def test_the_services_file_caches_what_it_builds_and_nothing_else(playback: Playback) -> None:
    (playback.shell.directory / "compose.yaml").unlink()
    playback.shell.write("codeship-services.yml", SERVICES)
    playback.shell.environment = {**CODESHIP, "CI_BRANCH": "x", "LONGSHORE_STORE": "file:///none"}

    found = playback.shell.json("config")["options"]
    values = {option["name"]: option["value"] for option in found}
    assert (values["scope"], values["fallback"]) == ("x", ["main"])
    assert playback.shell("doctor") in (0, 1)
    assert "codeship-services.yml (codeship) caches web" in playback.shell.out


def test_the_steps_name_services_that_there_are() -> None:
    services = yaml.safe_load(SERVICES)

    assert {step["service"] for step in STEPS} <= set(services)
    assert all(step["command"] for step in STEPS)


def test_a_step_that_failed_leaves_the_cache_as_it_is(machine: Machine) -> None:
    machine.environment |= CODESHIP

    assert hook(machine, "after", "1") == 0
    assert machine.lines == []


@pytest.mark.parametrize("name", ["before", "after"])
def test_wrong_usage_fails_the_build(machine: Machine, name: str) -> None:
    machine.environment |= CODESHIP
    machine.install("longshore", exit_code=2)

    assert hook(machine, name) == 2


def test_a_machine_that_names_no_project_is_told_so(machine: Machine) -> None:
    done = machine.run([str(CI / "codeship/before")])

    assert done.returncode != 0
    assert "there is no project name" in done.stderr
    assert machine.lines == []
