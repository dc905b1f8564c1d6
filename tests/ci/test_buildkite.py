"""The plugin for Buildkite: its hooks are sourced, as the agent does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.ci.conftest import CI, Machine, Playback

PLUGIN = yaml.safe_load((CI / "buildkite/plugin.yml").read_text())
(STEP,) = yaml.safe_load((CI / "buildkite/pipeline.yml").read_text())["steps"]
(PLUGGED,) = STEP["plugins"]
BUILD = {"BUILDKITE": "true", "BUILDKITE_BRANCH": "main", "BUILDKITE_PULL_REQUEST": "false"}


def variables(options: dict[str, object]) -> dict[str, str]:
    """Turn a plugin's configuration into variables, as the agent does."""
    found: dict[str, str] = {}
    for name, value in options.items():
        variable = f"BUILDKITE_PLUGIN_LONGSHORE_{name.upper().replace('-', '_')}"
        if isinstance(value, list):
            found |= {f"{variable}_{number}": item for number, item in enumerate(value)}
        else:
            found[variable] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def hook(machine: Machine, name: str) -> int:
    """Source a hook, and take over what it exports; the shell has to come to its end."""
    seen = machine.folder / "environment"
    script = f'. "{CI}/buildkite/hooks/{name}"; status=$?; env -0 > "{seen}"; exit $status'
    seen.unlink(missing_ok=True)
    done = machine.run(["bash", "-c", script], environment={"TMPDIR": str(machine.folder)})
    assert seen.exists(), "the hook ended the agent's shell"
    lines = seen.read_text().split("\0")
    machine.environment |= dict(line.split("=", 1) for line in lines if line)
    return done.returncode


def job(machine: Machine, options: dict[str, object], *, status: int = 0) -> None:
    """Run a step with the plugin."""
    assert set(options) <= set(PLUGIN["configuration"]["properties"])
    machine.install("buildkite-agent", prints="header.claims.signature")
    machine.environment |= BUILD | STEP["env"] | variables(options)
    assert hook(machine, "pre-command") == 0
    for command in STEP["commands"]:
        assert machine.run(["bash", "-ec", command]).returncode == 0
    machine.environment["BUILDKITE_COMMAND_EXIT_STATUS"] = str(status)
    assert hook(machine, "post-command") == 0


def test_a_step_exports_what_the_next_one_imports(machine: Machine, playback: Playback) -> None:
    ((where, options),) = PLUGGED.items()
    assert Path(where).name == PLUGIN["name"]  # which the names of variables come from
    job(machine, options)

    token = "buildkite-agent oidc request-token --audience sts.amazonaws.com"
    assert machine.lines == [
        token,
        "longshore import",
        "longshore build --no-import --no-export",
        "docker compose run --rm web npm test",
        token,
        "longshore export",
    ]
    for call in (call for call in machine.calls if call.name == "longshore"):
        assert call.environment["LONGSHORE_STORE"] == options["store"]
        assert call.environment["AWS_ROLE_ARN"] == options["role-arn"]
        assert not Path(call.environment["AWS_WEB_IDENTITY_TOKEN_FILE"]).exists()  # any more
    assert "no cached image for web" in playback(machine.calls)
    assert "hit from scope main" in playback(machine.calls)


@pytest.mark.parametrize("services", ["web", ["web"], ["web", "my api"]])
def test_services_are_one_or_a_list(machine: Machine, services: str | list[str]) -> None:
    job(machine, {"services": services})

    wanted = [services] if isinstance(services, str) else services
    calls = [call.arguments for call in machine.calls if call.name == "longshore"]
    assert calls[0] == ["import", *wanted]
    assert calls[-1] == ["export", *wanted]


@pytest.mark.parametrize("on_failure", [False, True])
def test_a_step_that_failed_exports_only_if_it_is_told_to(
    machine: Machine, on_failure: bool
) -> None:
    job(machine, {"export-on-failure": on_failure}, status=1)

    assert ("longshore export" in machine.lines) == on_failure


def test_an_agent_without_longshore_builds_without_a_cache(machine: Machine) -> None:
    (machine.bin / "longshore").unlink()
    machine.environment |= BUILD

    assert hook(machine, "pre-command") == 0
    machine.environment["BUILDKITE_COMMAND_EXIT_STATUS"] = "0"
    assert hook(machine, "post-command") == 0
    assert machine.lines == []


def test_wrong_usage_fails_the_step(machine: Machine) -> None:
    machine.install("longshore", exit_code=2)
    machine.environment |= BUILD

    assert hook(machine, "pre-command") == 2
    machine.environment["BUILDKITE_COMMAND_EXIT_STATUS"] = "0"
    assert hook(machine, "post-command") == 2


def test_an_agent_that_gets_no_token_builds_without_a_cache(machine: Machine) -> None:
    machine.install("buildkite-agent", exit_code=1)
    machine.environment |= BUILD | variables({"role-arn": "arn:aws:iam::1:role/x"})

    assert hook(machine, "pre-command") == 0
    assert machine.lines[-1] == "longshore import"
