"""What a start costs: nothing is imported that a command does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.sidecars import ThreadedSidecar, outcome

import longshore

HEAVY = {
    *("aiobotocore", "aiohttp", "blake3", "boto3", "botocore", "cryptography", "docker"),
    *("pyfastcdc", "requests"),
}
SOURCE = str(Path(longshore.__file__).parents[1])


def run(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": SOURCE, **environment},
        timeout=60,
    )


def imported(tmp_path: Path, *arguments: str, **environment: str) -> set[str]:
    """Run a command in a new Python, and list the packages that it has imported in the end."""
    script = (
        "import json, os, sys\n"
        "from longshore import cli\n"
        f"sys.argv = ['longshore', *{list(arguments)!r}]\n"
        "def report(code=0):\n"
        "    sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))\n"
        "    sys.stderr.flush()\n"
        "    real(code or 0)\n"
        "real, os._exit, sys.exit = os._exit, report, report\n"
        "cli.main()\n"
    )
    done = run("-c", script, cwd=tmp_path, **environment)
    modules: list[str] = json.loads(done.stderr.splitlines()[-1])
    return {module.partition(".")[0] for module in modules}


def test_version_imports_next_to_nothing(tmp_path: Path) -> None:
    modules = imported(tmp_path, "--version")

    assert not modules & (
        HEAVY | {"asyncio", "rich", "yaml", "typer", "msgspec", "zstandard", "ssl"}
    )


def test_help_imports_no_client_and_no_event_loop_libraries(tmp_path: Path) -> None:
    modules = imported(tmp_path, "export", "--help")

    assert not modules & (HEAVY | {"rich", "yaml", "zstandard"})


@pytest.mark.parametrize("command", [["prune"], ["flush", "--dry-run"]])
def test_prune_and_flush_of_a_folder_import_neither_s3_nor_docker(
    tmp_path: Path, command: list[str]
) -> None:
    store = f"file://{tmp_path}/store"
    modules = imported(tmp_path, *command, "--project", "p", LONGSHORE_STORE=store)

    assert not modules & (HEAVY - {"blake3", "pyfastcdc"} | {"rich"})


def test_list_of_a_folder_imports_neither_s3_nor_docker(tmp_path: Path) -> None:
    modules = imported(
        tmp_path,
        "list",
        "--project",
        "p",
        LONGSHORE_STORE=f"file://{tmp_path}/store",
        LONGSHORE_SCOPE="main",
    )

    assert not modules & {"aiobotocore", "botocore", "aiohttp", "docker", "requests", "rich"}
    assert "cryptography" not in modules  # there are no keys


# What takes its time to import, and is nothing for a command that lets a sidecar work.
NOT_FOR_CLIENTS = HEAVY | {
    *("asyncio", "concurrent", "jinja2", "msgspec", "multiprocessing", "prometheus_client"),
    *("email", "http", "pydantic", "rich", "ssl", "subprocess", "typer", "yaml", "zstandard"),
}


@pytest.mark.parametrize(
    "arguments",
    [["import", "web"], ["export", "--json"], ["flush", "--dry-run"], ["wait"], ["wait", "--live"]],
    ids=" ".join,
)
def test_what_a_sidecar_does_imports_no_more_than_a_client_needs(
    tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: web}}")
    with ThreadedSidecar(lambda task, _: outcome(task.command)) as sidecar:
        modules = imported(
            tmp_path,
            *arguments,
            LONGSHORE_SOCKET=str(sidecar.socket),
            LONGSHORE_STORE=f"file://{tmp_path}/store",
        )

        assert len(sidecar.jobs.all) == (arguments[0] != "wait")
    assert not modules & NOT_FOR_CLIENTS


def test_an_import_without_a_sidecar_does_not_import_typer(tmp_path: Path) -> None:
    modules = imported(
        tmp_path, "import", "--project", "p", "--image", "web=web", "--scope", "main"
    )

    assert "longshore" in modules
    assert not modules & {"pydantic", "typer"}


def test_printing_a_policy_imports_no_client(tmp_path: Path) -> None:
    modules = imported(
        tmp_path,
        *("credentials", "--print-policy", "--store", "s3://ci-cache/acme"),
        *("--project", "shop", "--scope", "main"),
    )

    assert not modules & (HEAVY | {"rich", "yaml", "zstandard", "msgspec"})


def test_printing_roles_imports_no_client(tmp_path: Path) -> None:
    broker = "arn:aws:iam::123456789012:role/broker"
    arguments = ("setup", "--print", "roles", "--store", "s3://bucket", "--broker-arn", broker)

    modules = imported(tmp_path, *arguments)

    assert not modules & {"boto3", "botocore", "aiobotocore", "aiohttp", "docker", "rich"}


@pytest.mark.parametrize("arguments", [["-m", "longshore", "--version"], ["-m", "longshore", "-h"]])
def test_python_m_works(arguments: list[str]) -> None:
    done = run(*arguments)

    assert done.returncode == 0
    assert "longshore" in done.stdout
    assert done.stderr == ""


def test_reader_of_a_pipe_may_leave(tmp_path: Path) -> None:
    shell = f"{sys.executable} -m longshore config --project p | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": SOURCE},
        timeout=60,
    )

    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""


def test_bug_ends_with_1_and_a_traceback(tmp_path: Path) -> None:
    script = (
        "from longshore import cli\n"
        "def broken(*_): raise ZeroDivisionError\n"
        "cli.run = broken\n"
        "cli.main()\n"
    )
    done = run("-c", script, cwd=tmp_path)

    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
