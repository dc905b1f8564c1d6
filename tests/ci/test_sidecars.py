"""The sidecars: Compose, Kubernetes and systemd. What is to be in order with what, and is it?"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.ci.conftest import CI, Machine

SIDECAR = yaml.safe_load((CI / "compose/sidecar.yaml").read_text())
POD = yaml.safe_load((CI / "kubernetes/pod.yaml").read_text())
SERVICE = CI / "systemd/longshore.service"
DROP_IN = CI / "systemd/wait-for-longshore.conf"
BUILD = ["longshore build --no-import --no-export", "docker compose run --rm web npm test"]


def seconds(duration: str) -> int:
    (number, unit) = re.fullmatch(r"(\d+)([sm]?)", str(duration)).groups()  # type: ignore[union-attr]
    return int(number) * (60 if unit == "m" else 1)


def value(words: list[str], flag: str) -> int:
    return seconds(words[words.index(flag) + 1])


# Compose


def test_composes_sidecar_has_time_to_load_and_to_finish() -> None:
    service = SIDECAR["services"]["longshore"]

    assert value(service["command"], "--shutdown-timeout") < seconds(service["stop_grace_period"])
    check = service["healthcheck"]
    assert value(check["test"], "--timeout") < seconds(check["timeout"])
    assert value(service["command"], "--ready-timeout") <= value(check["test"], "--timeout")


def test_composes_build_waits_for_the_sidecar_and_shares_what_it_has_to() -> None:
    sidecar, build = SIDECAR["services"]["longshore"], SIDECAR["services"]["build"]

    assert build["depends_on"] == {"longshore": {"condition": "service_healthy"}}
    assert [volume.removesuffix(":ro") for volume in sidecar["volumes"]] == build["volumes"]
    assert build["working_dir"] == "/project"  # which is where the sidecar works, too
    assert sidecar["read_only"]
    assert set(SIDECAR["volumes"]) == {"socket"}


def test_composes_sidecar_does_not_start_without_what_only_the_user_knows() -> None:
    service = SIDECAR["services"]["longshore"]

    (group,) = service["group_add"]
    assert group.startswith("${DOCKER_GID:?")
    assert any(
        line.startswith("LONGSHORE_SCOPE=${LONGSHORE_SCOPE:?") for line in service["environment"]
    )


def test_composes_build_runs(machine: Machine) -> None:
    assert machine.run(SIDECAR["services"]["build"]["command"]).returncode == 0
    assert machine.lines == BUILD


def test_a_build_that_fails_fails_the_container(machine: Machine) -> None:
    machine.install("longshore", exit_code=1)

    for command in (
        SIDECAR["services"]["build"]["command"],
        POD["spec"]["containers"][0]["command"],
    ):
        assert machine.run(command).returncode == 1
    assert not any(line.startswith("docker") for line in machine.lines)


# Kubernetes


def check_pod(document: Any) -> None:
    """Compare with the models of the official client, which are made from the API's schema."""
    from kubernetes.client.models.v1_pod import V1Pod

    V1Pod.model_validate(document, strict=True)


def containers(document: Any) -> dict[str, Any]:
    spec = document["spec"]
    return {c["name"]: c for c in (*spec["initContainers"], *spec["containers"])}


def test_the_pod_is_one_to_kubernetes() -> None:
    assert (POD["apiVersion"], POD["kind"]) == ("v1", "Pod")
    check_pod(POD)


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod["spec"].pop("containers"),
        lambda pod: pod["spec"].update(gracePeriodSeconds=1),
        lambda pod: containers(pod)["longshore"].update(restartPolicy=True),
        lambda pod: containers(pod)["longshore"]["startupProbe"].update(exec=["longshore"]),
        lambda pod: containers(pod)["engine"]["securityContext"].update(privilegd=True),
    ],
)
def test_a_pod_with_a_mistake_would_be_found(change: Callable[[Any], object]) -> None:
    document = copy.deepcopy(POD)
    change(document)

    with pytest.raises(ValueError, match="V1Pod"):
        check_pod(document)


def test_the_pods_sidecars_start_and_stop_in_the_order_that_they_need() -> None:
    kinds = [(c["name"], c.get("restartPolicy")) for c in POD["spec"]["initContainers"]]

    # The services file, then the engine, then longshore; longshore ends first.
    assert kinds == [("checkout", None), ("engine", "Always"), ("longshore", "Always")]
    assert all("startupProbe" in containers(POD)[name] for name in ("engine", "longshore"))
    assert POD["spec"]["restartPolicy"] == "Never"


def test_the_pods_sidecar_has_time_to_load_and_to_finish() -> None:
    sidecar = containers(POD)["longshore"]

    grace = POD["spec"]["terminationGracePeriodSeconds"]
    assert value(sidecar["args"], "--shutdown-timeout") < grace
    probe = sidecar["startupProbe"]
    assert value(probe["exec"]["command"], "--timeout") < probe["timeoutSeconds"]
    assert value(sidecar["args"], "--ready-timeout") <= value(probe["exec"]["command"], "--timeout")


def test_the_pods_containers_share_sockets_and_longshore_may_use_them() -> None:
    found = containers(POD)
    places = {
        name: {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        for name, container in found.items()
    }
    assert places["longshore"] == places["build"]
    assert places["longshore"]["socket"] == "/run/longshore"
    assert {volume["name"] for volume in POD["spec"]["volumes"]} == {
        name for mounts in places.values() for name in mounts
    }

    (host,) = {
        item["value"]
        for container in found.values()
        for item in container.get("env", [])
        if item["name"] == "DOCKER_HOST"
    }
    assert f"--host={host}" in found["engine"]["args"]
    assert host.startswith(f"unix://{places['engine']['engine']}/")
    context = found["longshore"]["securityContext"]
    assert f"--group={context['runAsGroup']}" in found["engine"]["args"]
    assert POD["spec"]["securityContext"]["fsGroup"] == context["runAsGroup"]
    assert context["readOnlyRootFilesystem"]
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_pods_build_runs(machine: Machine) -> None:
    assert machine.run(containers(POD)["build"]["command"]).returncode == 0
    assert machine.lines == BUILD


# systemd


def unit(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and line[0] not in "[#":
            name, _, text = line.partition("=")
            found.setdefault(name, []).append(text)
    return found


def test_the_unit_has_time_to_load_and_to_finish_and_stops_before_the_engine() -> None:
    service = unit(SERVICE)
    (serve,), (wait,) = service["ExecStart"], service["ExecStartPost"]

    assert value(serve.split(), "--shutdown-timeout") < int(service["TimeoutStopSec"][0])
    assert value(wait.split(), "--timeout") < int(service["TimeoutStartSec"][0])
    assert wait.startswith("-")  # a cache keeps nobody from starting
    assert service["KillMode"] == ["mixed"]  # jobs are not told to stop, but the main process
    assert "docker.service" in service["After"][0]
    assert service["Requires"] == ["docker.service"]


def test_the_socket_is_where_longshore_looks_for_it_and_for_those_who_may_use_the_engine() -> None:
    service = unit(SERVICE)

    assert service["RuntimeDirectory"] == ["longshore"]
    assert (service["Group"], service["RuntimeDirectoryMode"]) == (["docker"], ["0750"])
    assert service["UMask"] == ["0007"]


def test_the_agents_unit_comes_after_longshores() -> None:
    assert unit(DROP_IN) == {"Wants": [SERVICE.name], "After": [SERVICE.name]}


def test_the_units_files_are_those_that_the_page_installs() -> None:
    assert unit(SERVICE)["EnvironmentFile"] == ["/etc/longshore/env"]
    assert unit(SERVICE)["WorkingDirectory"] == ["/etc/longshore"]
    lines = (CI / "systemd/env").read_text().splitlines()
    assert {line.partition("=")[0] for line in lines} >= {"LONGSHORE_STORE", "LONGSHORE_SCOPE"}


def verify(folder: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(path) for path in sorted(folder.glob("*.service")))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
        timeout=60,
    )
    return done.stderr + done.stdout + (f"exit {done.returncode}" if done.returncode else "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    text = SERVICE.read_text().replace("/usr/local/bin/longshore", "/bin/true")
    (tmp_path / SERVICE.name).write_text(text)
    for name in ("docker", "agent"):
        (tmp_path / f"{name}.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / "agent.service.d").mkdir()
    shutil.copy(DROP_IN, tmp_path / "agent.service.d")
    assert verify(tmp_path) == ""

    (tmp_path / SERVICE.name).write_text(text.replace("KillMode=mixed", "KillMode=mixt"))
    assert "kill mode" in verify(tmp_path)  # so what it says about the real one means something
