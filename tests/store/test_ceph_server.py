"""The throw-away Ceph itself: nothing of it outlives its use."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.ceph import Ceph

pytestmark = pytest.mark.s3

STARTER = """
import sys
from tests.support.ceph import Ceph, find_ceph
with Ceph(find_ceph()) as ceph:
    print(*ceph.pids, ceph.folder, flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_nothing_is_left_when_who_started_it(ceph: Ceph, how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        *pids, folder = starter.stdout.readline().split()
        handles = [os.pidfd_open(int(pid)) for pid in pids]
        if how == "ends":
            starter.stdin.close()
        else:
            starter.send_signal(signal.SIGKILL)
    try:
        for handle in handles:
            readable, _, _ = select.select([handle], [], [], 30)
            assert readable, "a process of Ceph's still runs"
    finally:
        for handle in handles:
            os.close(handle)

    assert len(handles) == 3
    assert folder not in Path("/proc/self/mounts").read_text()
    assert Path(folder).exists() == (how == "is killed")
    shutil.rmtree(folder, ignore_errors=True)
