"""Keys on the command line: made, given, trusted, and never shown."""

from __future__ import annotations

import os
import stat

import pytest
from tests.cli.conftest import Shell
from tests.support.fake_docker import FakeDocker
from tests.support.fake_engine import FakeEngine

from longshore.core.signing import PublicKey, SigningKey


def keygen(shell: Shell, name: str = "key.pem") -> str:
    """Make a pair of keys, and return the public one in short form."""
    assert shell("keygen", "--output", name) == 0
    return shell.out.strip()


def text_of(shell: Shell, name: str = "key.pem") -> str:
    return (shell.directory / name).read_text()


def body_of(pem: str) -> str:
    return pem.splitlines()[1]


def test_keygen_writes_both_keys_and_prints_the_public_one(shell: Shell) -> None:
    public = keygen(shell)

    private = shell.directory / "key.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert SigningKey.parse(private.read_text()).public.name == public
    assert PublicKey.parse(text_of(shell, "key.pem.pub")).name == public
    assert "keep it secret" in shell.err
    assert body_of(private.read_text()) not in shell.out + shell.err


def test_keygen_makes_the_file_private_whatever_the_umask_is(shell: Shell) -> None:
    before = os.umask(0)
    try:
        keygen(shell)
    finally:
        os.umask(before)

    assert stat.S_IMODE((shell.directory / "key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("present", ["longshore-signing.pem", "longshore-signing.pem.pub"])
def test_keygen_overwrites_nothing_and_leaves_no_half_pair(shell: Shell, present: str) -> None:
    shell.write(present, "precious")

    assert shell("keygen") == 2
    assert f"{present} is there already" in shell.err
    assert text_of(shell, present) == "precious"
    assert len(list(shell.directory.glob("longshore-signing*"))) == 1


def test_keygen_names_a_folder_that_is_not_there(shell: Shell) -> None:
    assert shell("keygen", "--output", "nowhere/key") == 2
    assert shell.err == "error: nowhere/key cannot be written: No such file or directory\n"


def test_every_keygen_makes_another_key(shell: Shell) -> None:
    assert keygen(shell, "one") != keygen(shell, "two")


@pytest.mark.parametrize("form", ["file", "short"])
def test_signed_export_is_imported_by_who_trusts_the_key(built: Shell, form: str) -> None:
    public = keygen(built)
    trusted = public if form == "short" else "key.pem.pub"
    assert built("export", "--signing-key", "key.pem", "--strict") == 0
    built.engine = FakeEngine()

    assert built("import", "--trusted-key", trusted, "--strict") == 0
    assert "web: hit from scope main" in built.out
    for command in ("list", "show", "diff", "cat"):
        names = [] if command == "list" else ["web"]
        assert built(command, *names, "--trusted-key", trusted) == 0


def test_unsigned_entry_is_one_line_and_a_miss(exported: Shell) -> None:
    public = keygen(exported)
    exported.environment["LONGSHORE_TRUSTED_KEY"] = public

    assert exported("import", "web") == 0
    (line,) = exported.err.splitlines()
    assert line.startswith("warning: web: file://")
    assert "/entries/web/linux-amd64/" in line
    assert "does not count: it is not signed; export with a --signing-key" in line
    assert exported.engine.images == {}

    assert exported("import", "web", "--strict") == 3
    assert exported("show", "web") == 3
    assert exported("cat", "web") == 3
    document = exported.json("import", "web")
    assert document["services"][0]["outcome"] == "miss"
    assert document["warnings"][0]["error"] == "NotTrusted"
    assert exported("list") == 0
    assert "it is not signed" in exported.out


def test_one_of_several_trusted_keys_is_enough(built: Shell) -> None:
    other, ours = keygen(built, "other"), keygen(built, "ours")
    built("export", "--signing-key", "ours")
    built.engine = FakeEngine()

    assert built("import", "--trusted-key", other, "--trusted-key", ours, "--strict") == 0
    built.environment["LONGSHORE_TRUSTED_KEY"] = f"{other} ours.pub"
    assert built("import", "--strict") == 0
    built.environment["LONGSHORE_TRUSTED_KEY"] = other
    assert built("import", "--strict") == 3


def test_text_of_the_key_may_be_in_the_variable(built: Shell) -> None:
    public = keygen(built)
    built.environment["LONGSHORE_SIGNING_KEY"] = text_of(built).replace("\n", " ")
    (built.directory / "key.pem").unlink()
    assert built("export", "--strict") == 0
    del built.environment["LONGSHORE_SIGNING_KEY"]

    assert built("import", "--trusted-key", public, "--strict") == 0


def test_who_signs_trusts_nothing_that_is_not_signed(exported: Shell) -> None:
    # It would sign what it has loaded: the next images are built on it.
    keygen(exported)
    exported.environment["LONGSHORE_SIGNING_KEY"] = "key.pem"

    assert exported("import", "web", "--strict") == 3
    assert "it is not signed" in exported.err


@pytest.mark.parametrize("place", ["flag", "file"])
def test_text_of_the_key_is_refused_where_others_can_read_it(shell: Shell, place: str) -> None:
    keygen(shell)
    text = text_of(shell)
    flags = ["--signing-key", text] if place == "flag" else []
    if place == "file":
        shell.write("longshore.toml", f"signing-key = '''{text}'''\n")

    assert shell("export", *flags) == 2
    (line,) = shell.err.splitlines()
    assert "the key itself must not be there" in line
    assert "LONGSHORE_SIGNING_KEY" in line
    assert body_of(text) not in shell.err + shell.out


def test_key_taken_for_a_file_name_is_not_shown(shell: Shell) -> None:
    keygen(shell)
    body = body_of(text_of(shell))

    for arguments in (["export", "--signing-key", body], ["import", "--trusted-key", body]):
        assert shell(*arguments) == 2
        assert "cannot be read (No such file or directory)" in shell.err
        assert body not in shell.err + shell.out
        assert shell.json(*arguments)["exit_code"] == 2
        assert body not in shell.err + shell.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["export", "--signing-key", "key.pem.pub"], "--signing-key: it is a public key"),
        (["export", "--signing-key", "compose.yaml"], "--signing-key: it is not a key"),
        (["import", "--trusted-key", "key.pem"], "--trusted-key: it is a private key"),
        (["import", "--trusted-key", "ed25519:abc"], "--trusted-key: it is not a key"),
        (["import", "--trusted-key", ""], "--trusted-key: it is no public key"),
        (["list", "--trusted-key", "."], "--trusted-key: the file of the key cannot be read"),
    ],
)
def test_what_is_no_key_is_wrong_usage(shell: Shell, arguments: list[str], reason: str) -> None:
    keygen(shell)

    assert shell(*arguments) == 2
    assert f"error: {reason}" in shell.err
    assert len(shell.err.splitlines()) == 1


def test_config_says_that_a_key_is_given_and_no_more(shell: Shell) -> None:
    public = keygen(shell)
    shell.environment["LONGSHORE_SIGNING_KEY"] = text_of(shell)
    shell.environment["LONGSHORE_TRUSTED_KEY"] = public

    assert shell("config") == 0
    assert "(given)" in shell.out
    assert public in shell.out
    document = shell.json("config")
    assert body_of(text_of(shell)) not in shell.out
    options = {option["name"]: option["value"] for option in document["options"]}
    assert options["signing-key"] == "(given)"
    assert options["trusted-key"] == [public]


def test_neither_docker_nor_the_services_file_gets_the_key(
    built: Shell, docker: FakeDocker
) -> None:
    keygen(built)
    built.environment["LONGSHORE_SIGNING_KEY"] = text_of(built)
    built.environment["OTHER"] = "passed on"
    built.write(
        "compose.yaml",
        "name: shop\nservices:\n"
        '  web: {build: ., image: "shop/web:${LONGSHORE_SIGNING_KEY:-1}",'
        " x-longshore: {cached: true}}\n",
    )

    assert built("build") == 0, built.err
    (call,) = docker.calls
    assert call["environment"]["OTHER"] == "passed on"
    assert "LONGSHORE_SIGNING_KEY" not in call["environment"]
    assert "shop/web:1" in built.out
    assert built("import", "--strict") == 0
    assert built("import", "--trusted-key", "key.pem.pub", "--strict") == 0
