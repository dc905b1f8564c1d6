"""`docs/cli.md` is complete, and says nothing that is not so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import COMPOSE, STEPS, Shell
from tests.support.fake_docker import FakeDocker
from tests.support.fake_engine import FakeEngine

from longshore import errors
from longshore.config_options import CONFIG, OPTIONS

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
TEXT = DOCS.read_text()
COMMANDS = (
    *("export", "import", "cache-from", "build"),
    *("credentials", "list", "show", "diff", "cat", "keygen", "doctor", "setup", "config"),
    *("prune", "flush", "check", "stats", "serve", "wait"),
)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
GRANT = (
    "--store s3://ci-cache/acme --project shop --scope pr:17 --fallback main"
    " --role-arn arn:aws:iam::123456789012:role/longshore"
)
FOREIGN = {"--cache-from", "--cache-to", "--pull", "--allow", "--load", "--push"}  # of docker


def help_of(shell: Shell, *command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert shell(*command, "--help") == 0
    return capsys.readouterr().out


def test_help_explains_the_job_in_three_lines(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(shell, capsys=capsys)

    usage, job, *_ = text.split("\n\n")
    assert usage == "Usage: longshore [OPTIONS] COMMAND [ARGS]..."
    assert len(job.splitlines()) == 3
    assert "longshore import" in job
    assert "longshore export" in job
    assert "..." not in text.partition("Commands:")[2]
    assert max(map(len, text.splitlines())) <= 80


def test_commands_in_help_and_documentation_are_the_same(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = help_of(shell, capsys=capsys).partition("Commands:\n")[2]

    in_help = {line.split()[0] for line in listed.splitlines() if line.strip()}
    in_docs = set(re.findall(r"^\| `longshore ([a-z-]+)", TEXT, re.MULTILINE))
    assert in_help == in_docs == set(COMMANDS)


def test_options_in_help_and_documentation_are_the_same(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    in_help = set(FLAG.findall(help_of(shell, capsys=capsys)))
    for command in COMMANDS:
        in_help |= set(FLAG.findall(help_of(shell, command, capsys=capsys)))

    in_docs = set(FLAG.findall(TEXT)) - FOREIGN
    assert in_help - FOREIGN == in_docs


def test_table_of_options_names_flag_variable_and_key() -> None:
    rows = {row.split("|")[2].strip(): row for row in TEXT.splitlines() if "| `LONGSHORE_" in row}

    assert list(rows) == [f"`{option.variable}`" for option in (*OPTIONS, CONFIG)]
    for option in OPTIONS:
        assert f"| `{option.flag}" in rows[f"`{option.variable}`"]
        assert f"| `{option.name}` |" in rows[f"`{option.variable}`"]


def test_flags_that_only_some_commands_have_are_theirs(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in COMMANDS:
        has = set(FLAG.findall(help_of(shell, command, capsys=capsys)))
        for option in OPTIONS:
            assert (option.flag in has) == (not option.only or command in option.only)


def test_all_kinds_of_errors_and_their_codes_are_documented() -> None:
    kinds = {
        (name, kind.exit_code)
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
        and issubclass(kind, errors.LongshoreError)
        and kind is not errors.LongshoreError
    }
    section = TEXT.partition("Kinds of errors are")[2].partition("\n\n")[0]

    assert {name for name, _ in kinds} == set(re.findall(r"`(\w+)`", section))
    table = TEXT.partition("## Exit codes")[2]
    for _, code in kinds:
        assert re.search(rf"^\| {code} \|", table, re.MULTILINE)


def shape(value: Any) -> Any:
    """Reduce a document to its fields; lists to what their members have in common."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        shapes = {json.dumps(shape(item)) for item in value}
        fields: dict[str, Any] = {}
        for text in sorted(shapes):
            found = json.loads(text)
            if isinstance(found, dict):
                fields |= {k: v for k, v in found.items() if k not in fields or v}
        return [fields] if fields else []
    return None


def examples() -> dict[str, Any]:
    documents = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
    return {document["command"]: document for document in documents if document["ok"]}


ELSEWHERE = (
    "cat",
    "setup",
    "prune",
    "flush",
    "serve",
    "wait",
)  # writes no JSON, or beside the command's own tests


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ELSEWHERE])
def test_example_has_the_fields_of_real_output_and_all_are_explained(
    built: Shell, docker: FakeDocker, command: str
) -> None:
    if command in ("cache-from", "build"):
        built.write("compose.yaml", COMPOSE.replace('web: {image: "', 'web: {build: ., image: "'))
    if command != "export":
        built("export")
    if command in ("import", "build"):
        built.engine = FakeEngine()
    if command == "diff":
        built.engine.build([*STEPS, ("COPY . .", {"app.js": b"new"})], "shop/web:1")
    if command == "check":
        entry = next(built.store.rglob("entries/web/*/*"))
        entry.unlink()
        entry.write_bytes(b"junk")
    alone = ("list", "keygen", "check", "stats", "doctor", "config")
    names = [] if command in alone else ["web"]
    if command == "credentials":
        names = GRANT.split()
    real = built.json(command, *names)

    assert shape(examples()[command]) == shape(real)
    section = TEXT.partition("## JSON")[2]
    for name in _fields(real):
        assert re.search(rf"`[^`]*\b{name}\b[^`]*`", section), name


def test_failure_has_the_documented_fields(built: Shell) -> None:
    built.engine.unreachable = True
    document = built.json("import")

    assert document["ok"] is False
    assert document["exit_code"] == 0
    (text,) = (t for t in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL) if '"ok": false' in t)
    assert shape(json.loads(text)) == shape(document)
    assert json.loads(text) == document


def test_wrong_setting_is_a_document_too(built: Shell) -> None:
    document = built.json("export", "--level", "99")

    assert (document["ok"], document["exit_code"]) == (False, 2)
    assert document["error"]["error"] == "UsageError"


def test_miss_is_ok_and_listed_among_the_warnings(shell: Shell) -> None:
    document = shell.json("import", "web")

    assert document["ok"]
    assert document["services"][0]["outcome"] == "miss"
    assert document["warnings"] == [
        {"error": "NotCached", "message": "no cached image for web", "exit_code": 3}
    ]


def _fields(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for item in value.values() for name in _fields(item)}
    if isinstance(value, list):
        return {name for item in value for name in _fields(item)}
    return set()


def test_configuration_file_of_the_documentation_is_accepted(shell: Shell) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    shell.write("longshore.toml", text)
    del shell.environment["LONGSHORE_STORE"]

    assert shell("config") == 0
    assert "s3://ci-cache/acme" in shell.out


def test_commands_of_the_documentation_are_parsed(built: Shell, docker: FakeDocker) -> None:
    lines = [
        line.partition(" | ")[0].split()[1:]
        for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("longshore ")
    ]
    assert len(lines) > 5

    built("export", "--image", "web=shop/web:1", "--project", "shop")
    built.engine.build(STEPS, "myorg/web:latest")
    for line in lines:
        assert built(*line) == 0, (line, built.err)
