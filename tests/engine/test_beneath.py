"""Nothing leads out of the folder that is read below, and only regular files are opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.engine.beneath import Beneath
from longshore.errors import NotOnDisk


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "secret").write_bytes(b"secret")
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").write_bytes(b"contents")
    (top / "etc").mkdir()
    (top / "etc/shadow").write_bytes(b"own")
    (top / "out").symlink_to(tmp_path)
    (top / "a/in").symlink_to("b")
    (top / "a/secret").symlink_to(tmp_path / "secret")
    os.mkfifo(top / "a/pipe")
    before = len(os.listdir("/proc/self/fd"))
    yield top
    assert len(os.listdir("/proc/self/fd")) == before


def read(beneath: Beneath, *paths: bytes, size: int = 1) -> bytes:
    view = memoryview(bytearray(size * len(paths)))
    files = [(number * size, path, 0, size) for number, path in enumerate(paths)]
    beneath.read_pieces(view, files)
    return bytes(view)


def test_files_are_read_wherever_they_lie_below(folder: Path) -> None:
    with Beneath(str(folder)) as beneath:
        found = read(beneath, b"a/b/file", b"./etc/shadow", b"a//b/./file", size=3)
        again = beneath.read(b"a/b/file", limit_bytes=8)

    assert (found, again) == (b"conowncon", b"contents")


def test_an_absolute_name_means_the_folder_itself(folder: Path) -> None:
    with Beneath(str(folder)) as beneath:
        assert read(beneath, b"/etc/shadow", size=3) == b"own"


@pytest.mark.parametrize(
    "path",
    [
        b"out/secret",
        b"a/in/file",
        b"a/secret",
        b"../secret",
        b"a/../../secret",
        b"..",
        b"a/b/..",
        b"a/b/",
        b"",
        b"a/b",
        b"a/pipe",
        b"a/b/file/more",
        b"a/nothing",
        b"a/b/fi\0le",
    ],
)
def test_what_leads_out_or_is_no_regular_file_is_not_read(folder: Path, path: bytes) -> None:
    with Beneath(str(folder)) as beneath:
        with pytest.raises((OSError, NotOnDisk, ValueError)):
            read(beneath, path)
        with pytest.raises((OSError, NotOnDisk, ValueError)):
            beneath.read(path, limit_bytes=100)
        assert read(beneath, b"a/b/file") == b"c"


def test_a_device_is_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("devices are made by root only")
    os.mknod(folder / "a/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    opened: list[object] = []
    really = os.open

    def noting(path: str | bytes, *rest: int, dir_fd: int | None = None) -> int:
        opened.append(path)
        return really(path, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", noting)
    with Beneath(str(folder)) as beneath, pytest.raises(NotOnDisk, match="no regular file"):
        read(beneath, b"a/zero")

    assert b"zero" not in opened


def test_a_file_that_is_shorter_than_promised_is_not_read(folder: Path) -> None:
    with Beneath(str(folder)) as beneath, pytest.raises(NotOnDisk, match="shorter"):
        read(beneath, b"a/b/file", size=9)


def test_a_file_that_is_too_large_is_not_read(folder: Path) -> None:
    with Beneath(str(folder)) as beneath, pytest.raises(NotOnDisk, match="more than 7"):
        beneath.read(b"a/b/file", limit_bytes=7)
