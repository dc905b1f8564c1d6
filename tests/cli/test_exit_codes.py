"""The table of exit codes: each kind of failure, with and without `--strict`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Shell
from tests.support.faulty_store import FaultyStore

from longshore.errors import AccessDenied, StoreUnavailable

Break = Callable[[Shell], None]


def _entries(shell: Shell, service: str) -> list[Path]:
    return sorted((shell.store / "shop/scopes/main/entries" / service).rglob("*-*-*-*-*"))


def _packs(shell: Shell) -> list[Path]:
    return sorted((shell.store / "shop/scopes/main/packs").iterdir())


def flip_entry(shell: Shell) -> None:
    for path in _entries(shell, "web"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def cut_pack(shell: Shell) -> None:
    for path in _packs(shell):
        path.write_bytes(path.read_bytes()[:-100])


def lose_packs(shell: Shell) -> None:
    for path in _packs(shell):
        path.unlink()


def newer_entry(shell: Shell) -> None:
    from longshore.core import codec
    from longshore.core.envelope import Envelope, seal, unseal

    for path in _entries(shell, "web"):
        payload = codec.decompress(unseal(path.read_bytes()).payload, limit_bytes=1 << 24)
        newer = payload.replace(b'"format":1', b'"format":9')
        assert newer != payload
        path.write_bytes(seal(Envelope(codec.compress(newer, 3))))


def no_engine(shell: Shell) -> None:
    shell.engine.unreachable = True


def engine_dies(shell: Shell) -> None:
    shell.engine.save_dies_after = 20_000


def engine_says_so_in_band(shell: Shell) -> None:
    shell.engine.save_dies_after = 20_000
    shell.engine.save_appends = b'{"errorDetail":{"message":"layer does not exist"}}\n'


def full_disk(shell: Shell) -> None:
    shell.engine.load_error = "write /var/lib/docker: no space left on device"


def denied(shell: Shell) -> None:
    error = AccessDenied("s3://b refuses the credentials: expired token")
    shell.wrap = lambda store: FaultyStore(store, failures=1000, error=lambda _: error)


def unreachable(shell: Shell) -> None:
    error = StoreUnavailable("no connection to s3://b")
    shell.wrap = lambda store: FaultyStore(store, failures=1000, error=lambda _: error)


def not_built(shell: Shell) -> None:
    shell.engine.images.clear()


def nothing(shell: Shell) -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "broken", "code", "said"),
    [
        (["import", "web"], flip_entry, 4, "entries/web"),
        (["import", "web"], cut_pack, 4, "packs/"),
        (["import", "web"], lose_packs, 4, "packs/"),
        (["import", "web"], newer_entry, 3, "newer longshore"),
        (["import"], no_engine, 9, "cannot be reached"),
        (["import"], full_disk, 9, "no space left on device"),
        (["import"], denied, 6, "expired token"),
        (["import"], unreachable, 6, "no connection"),
        (["import", "nope"], nothing, 3, "cached services: web, api"),
        (["import", "db"], nothing, 3, "not marked as cached"),
    ],
)
def test_import_fails_only_if_it_is_strict(
    exported: Shell, arguments: list[str], broken: Break, code: int, said: str
) -> None:
    broken(exported)

    assert exported(*arguments) == 0
    assert said in exported.err
    _check_lines(exported)
    assert exported(*arguments, "--strict") == code
    assert said in exported.err
    _check_lines(exported)


@pytest.mark.parametrize(
    ("arguments", "broken", "code", "said"),
    [
        (["export"], no_engine, 9, "cannot be reached"),
        (["export"], engine_dies, 9, "broke the connection off"),
        (["export"], engine_says_so_in_band, 9, "archive"),
        (["export"], not_built, 3, "there is no image shop/web:1"),
        (["export"], denied, 6, "expired token"),
        (["export"], unreachable, 6, "no connection"),
        (["export", "web", "nope"], nothing, 3, "cached services: web, api"),
    ],
)
def test_export_fails_only_if_it_is_strict(
    built: Shell, arguments: list[str], broken: Break, code: int, said: str
) -> None:
    broken(built)

    assert built(*arguments) == 0
    assert said in built.err
    _check_lines(built)
    assert built(*arguments, "--strict") == code
    assert said in built.err


def test_damaged_entry_is_exported_anew_with_a_warning(built: Shell) -> None:
    built("export")
    flip_entry(built)

    assert built("export", "web") == 0
    assert "warning: " in built.err
    assert built("import", "web", "--strict") == 0


@pytest.mark.parametrize(
    ("arguments", "broken", "code"),
    [
        (["show", "nope"], nothing, 3),
        (["cat", "nope"], nothing, 3),
        (["diff", "nope"], nothing, 3),
        (["diff", "web"], nothing, 3),
        (["diff", "web"], no_engine, 9),
        (["show", "web"], flip_entry, 4),
        (["show", "web"], newer_entry, 3),
        (["cat", "web"], cut_pack, 4),
        (["cat", "web"], denied, 6),
        (["list"], denied, 6),
        (["list"], unreachable, 6),
    ],
)
def test_other_commands_are_always_strict(
    exported: Shell, arguments: list[str], broken: Break, code: int
) -> None:
    broken(exported)

    assert exported(*arguments) == code
    assert exported.err.splitlines()[-1].startswith("error: ")
    _check_lines(exported)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "--foo"], "No such option"),
        (["exprot"], "Did you mean 'export'"),
        (["show"], "SERVICE"),
        (["export", "--level", "20"], "--level: expected auto, or a whole number from 1 to 19"),
        (["export", "--store", "/var/cache"], "file:///dir"),
        (["export", "--timeout", "soon"], "--timeout: 'soon' is not a duration"),
        (["export", "--memory", "1MiB"], "--memory"),
        (["export", "--image", "web"], "--image 'web'"),
        (["export", "--services", "nowhere.yml"], "nowhere.yml: No such file or directory"),
        (["export", "--services", "."], "Is a directory"),
        (["export", "--project", ".."], "--project"),
        (["cat", "web", "--json"], "leave --json away"),
    ],
)
def test_wrong_usage_is_2_in_one_line(built: Shell, arguments: list[str], said: str) -> None:
    assert built(*arguments) == 2
    assert said in built.err
    assert len(built.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: [", "compose.yaml:"),
        ("\x00", "compose.yaml"),
        ("services: {web: {cached: true, image: a}}", "compose.yaml:1"),
        ("services: {web: {image: a}}", "x-longshore"),
    ],
)
def test_services_file_that_is_wrong_is_2_without_strict_too(
    built: Shell, text: str, said: str
) -> None:
    built.write("compose.yaml", text)

    for command in ("import", "export"):
        assert built(command) == 2
        assert said in built.err
        assert len(built.err.splitlines()) == 1


def test_no_store_is_2_and_names_the_three_ways(built: Shell) -> None:
    del built.environment["LONGSHORE_STORE"]

    assert built("export") == 2
    for way in ("--store s3://", "LONGSHORE_STORE", "longshore.toml"):
        assert way in built.err


def test_no_services_at_all_is_2_with_advice(built: Shell) -> None:
    (built.directory / "compose.yaml").unlink()

    assert built("export", "--project", "p") == 2
    assert "--services" in built.err
    assert "--image" in built.err


def test_without_a_command_the_help_is_shown_and_the_code_is_2(shell: Shell) -> None:
    assert shell() == 2
    assert "Usage: longshore" in shell.err


def test_most_severe_of_several_problems_counts(exported: Shell) -> None:
    flip_entry(exported)

    assert exported("import", "nope", "web", "--strict") == 4


def test_time_limit_is_one_line_and_6(built: Shell) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    built.engine.hang = forever

    assert built("export", "--timeout", "0.2s") == 0
    assert built.err == (
        "warning: export did not end within 0.2s; if it needs longer, raise --timeout\n"
    )
    assert built("export", "--timeout", "0.2s", "--strict") == 6
    assert not _entries_exist(built)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_in_good_order(built: Shell, number: signal.Signals) -> None:
    async def forever() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        await asyncio.Event().wait()

    built.engine.hang = forever

    assert built("export") == 128 + number
    assert built.err.splitlines()[-1].startswith(f"stopped: {number.name}")
    assert not _entries_exist(built)
    assert built.engine.closed


def test_bug_is_not_hidden(built: Shell) -> None:
    async def bug() -> None:
        raise ZeroDivisionError

    built.engine.hang = bug

    with pytest.raises(ZeroDivisionError):
        built("export")


def test_full_disk_behind_stdout_is_one_line(exported: Shell) -> None:
    exported.write_error = OSError(28, "No space left on device")

    for arguments in (["list"], ["cat", "web"]):
        assert exported(*arguments) == 2
        assert "cannot be written: No space left on device" in exported.err.splitlines()[-1]


def test_reader_that_has_gone_ends_the_command_quietly(exported: Shell) -> None:
    exported.write_error = BrokenPipeError()

    for arguments in (["list", "-q"], ["cat", "web", "-q"], ["list", "--json", "-q"]):
        assert exported(*arguments) == 128 + signal.SIGPIPE
        assert exported.err == ""


def _entries_exist(shell: Shell) -> bool:
    return shell.store.exists() and any(shell.store.rglob("entries/*/*/*"))


def _check_lines(shell: Shell) -> None:
    assert "Traceback" not in shell.err + shell.out
    for line in shell.err.splitlines():
        assert line
