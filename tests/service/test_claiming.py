"""The place of a socket: one sidecar's at a time, whoever comes, and whatever was left there."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path

import pytest

from longshore.errors import UsageError
from longshore.service.claiming import Claim, claim

STARTERS = 8
HOLDER = """
import signal, sys
from pathlib import Path
from longshore.service.claiming import claim
claimed = claim(Path(sys.argv[1]))
print("mine", flush=True)
signal.pause()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ls-") as name:  # names of sockets are short
        yield Path(name) / "run" / "s.sock"


def lock_of(place: Path) -> Path:
    return place.with_name("s.sock.lock")


def bind(claimed: Claim) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    claimed.path.unlink(missing_ok=True)
    made.bind(str(claimed.path))
    claimed.note(claimed.path.lstat())
    return made


def test_of_many_that_start_at_the_same_instant_one_gets_the_place(place: Path) -> None:
    together = threading.Barrier(STARTERS)

    def start(_: int) -> Claim | str:
        together.wait()
        try:
            return claim(place)
        except UsageError as error:
            return str(error)

    with ThreadPoolExecutor(STARTERS) as starters:
        for _ in range(50):
            came_to = list(starters.map(start, range(STARTERS)))
            (winner,) = (one for one in came_to if isinstance(one, Claim))
            said = {one for one in came_to if isinstance(one, str)}
            assert said == {
                f"another sidecar listens at {place}; end it, or name another socket with --socket"
            }
            assert stat.S_IMODE(lock_of(place).stat().st_mode) == 0o600
            with bind(winner):
                pass  # what it leaves is a socket where nobody listens
            winner.lock.close()


def test_a_lock_that_was_removed_before_it_was_had_does_not_count(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = claim(place)
    others: list[Claim] = []
    flock = fcntl.flock

    def late(lock: FileIO, how: int) -> None:
        """Between opening the file and locking it, its holder goes and another one comes."""
        if not others:
            monkeypatch.setattr(fcntl, "flock", flock)
            first.release()
            others.append(claim(place))
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UsageError, match="another sidecar listens at"):
        claim(place)
    (second,) = others
    second.release()
    assert os.listdir(place.parent) == []


def test_a_holder_that_is_killed_leaves_the_place_to_the_next_one(place: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            str(place),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "mine\n"
            with pytest.raises(UsageError, match="another sidecar listens at"):
                claim(place)
        finally:
            holder.kill()

    assert lock_of(place).exists()
    claim(place).release()
    assert not lock_of(place).exists()


def test_where_somebody_listens_it_does_not_help_to_remove_the_lock(place: Path) -> None:
    first = claim(place)
    with bind(first) as listening:
        listening.listen()
        lock_of(place).unlink()

        with pytest.raises(UsageError, match="another sidecar listens at"):
            claim(place)
        assert place.exists()
    first.release()
    assert os.listdir(place.parent) == []


def test_what_others_made_meanwhile_is_not_removed_at_the_end(place: Path) -> None:
    first = claim(place)
    with bind(first):
        place.unlink()
        lock_of(place).unlink()
        second = claim(place)
        with bind(second):
            first.release()
            assert sorted(os.listdir(place.parent)) == ["s.sock", "s.sock.lock"]
            with pytest.raises(UsageError, match="another sidecar listens at"):
                claim(place)
        second.release()
    assert os.listdir(place.parent) == []


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (lambda lock: lock.symlink_to("victim"), "Too many levels of symbolic links"),
        (lambda lock: lock.mkdir(), "Is a directory"),
    ],
)
def test_a_lock_that_is_no_file_is_not_followed(
    place: Path, lie: Callable[[Path], None], said: str
) -> None:
    place.parent.mkdir()
    lie(lock_of(place))

    with pytest.raises(UsageError) as caught:
        claim(place)
    assert str(caught.value) == (
        f"the socket {place} cannot be made: {lock_of(place)}: {said}; name another with --socket"
    )
    assert os.listdir(place.parent) == ["s.sock.lock"]


def test_a_pipe_in_the_locks_place_keeps_nobody_waiting(place: Path) -> None:
    place.parent.mkdir()
    os.mkfifo(lock_of(place))

    claim(place).release()


def test_a_folder_that_cannot_be_made_is_named(place: Path) -> None:
    place.parent.write_text("a file")

    with pytest.raises(UsageError, match=rf"cannot be made: {place.parent}: File exists; name"):
        claim(place)
