"""A second S3 and STS server for tests: Ceph's RADOS gateway, with a monitor and one disk.

`scripts/ceph` fetches it. Optional: it takes long to start, and its tests are collected only with
LONGSHORE_TEST_CEPH=1. Each of its processes runs in a mount namespace of its own, with the fetched
folder, read-only, for a root file system, and the cluster's temporary folder at /lab. So nothing is
to be unmounted at the end, whichever way it comes: mounts go with the process that sees them.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.engines import cache_folder
from tests.support.seaweedfs import ADMIN, BROKER, make_bucket

START_SECONDS = 120.0
STEP_SECONDS = 60.0
BROKER_ARN = "arn:aws:iam:::user/broker"
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

# $1 is the root file system, $2 the cluster's folder; what follows is run there.
_INSIDE = """
root=$1 lab=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmp "$root/tmp"
mount -t tmpfs run "$root/run"
mount --bind "$lab" "$root/lab"
exec chroot "$root" "$@"
"""
_CONFIGURATION = """
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = v2:127.0.0.1:{mon_port}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
# Without authentication radosgw hangs.
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = /lab/keyring
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 2000
run_dir = /lab
admin_socket = /lab/$name.asok
log_file = /lab/$name.log
[mon]
mon_data = /lab/mon
mon_cluster_log_file = /lab/cluster.log
# Each new pool waits for these, seconds and a monitor's peers that there are none of.
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
mon_data_avail_crit = 1
mon_data_avail_warn = 2
[osd]
osd_data = /lab/osd0
osd_objectstore = bluestore
bluestore_block_size = {disk_bytes}
bluestore_cache_size = 268435456
osd_memory_target = 1073741824
bdev_enable_discard = false
osd_max_object_name_len = 2048
osd_class_load_list = *
osd_class_default_list = *
[client.rgw.a]
rgw_data = /lab/rgw
rgw_frontends = beast endpoint=127.0.0.1:{s3_port}
rgw_thread_pool_size = 64
# What is deleted makes room within seconds; otherwise it takes hours.
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 5
rgw_gc_processor_max_time = 5
rgw_sts_key = {sts_key}
rgw_s3_auth_use_sts = true
rgw_crypt_require_ssl = false
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = {kms_key}={kms_secret}
"""
_DISK_BYTES = 8 << 30  # a sparse file
KMS_KEY = "test-key"

Document = Mapping[str, Any]


OPEN_TRUST: Document = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": [BROKER_ARN]}, "Action": ["sts:AssumeRole"]}
    ],
}
"""Lets the broker take a role, as one would write it who knows nothing of Ceph."""


class CephUnavailable(Exception):
    """This machine cannot run Ceph; the message says what to do about it."""


def find_ceph() -> Path:
    """Find the root file system that `scripts/ceph` made.

    Raises:
        CephUnavailable: it is not there, or this process may not start it.
    """
    if os.geteuid() != 0:
        raise CephUnavailable("Ceph's servers start as root only: run the tests as root")
    for facts in sorted((cache_folder().parent / "ceph").glob("*/ceph.json")):
        return facts.parent / "root"
    raise CephUnavailable(f"Ceph is not in {cache_folder().parent / 'ceph'}: run scripts/ceph")


def ceph_version(root: Path) -> str:
    """Tell the version of the Ceph in such a folder."""
    version: str = json.loads((root.parent / "ceph.json").read_text())["version"]
    return version


class Ceph:
    """One cluster on free ports of the loopback interface, with its data in a temporary folder.

    It is killed when the `with` block ends, and when the thread that started it dies. It knows the
    users `admin` and `broker`, and no roles but those that a test makes.
    """

    admin = ADMIN
    broker = BROKER

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = Path()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.port = 0
        self.version = ceph_version(root)

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def folder(self) -> Path:
        """Where its data and logs are while it runs."""
        return self._folder

    @property
    def pids(self) -> list[int]:
        """The processes of its servers."""
        return [process.pid for process in self._processes]

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="longshore-ceph-"))
        try:
            self._start(time.monotonic() + START_SECONDS)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def make_bucket(self, name: str | None = None) -> str:
        """Make a bucket that no other test uses, and tell its name."""
        return make_bucket(self.endpoint_url, ADMIN, name)

    def make_role(self, name: str, trust: Document, policy: Document) -> str:
        """Make a role and give it a policy; tell its ARN."""
        self.admin_command(
            *("role", "create", f"--role-name={name}"),
            f"--assume-role-policy-doc={json.dumps(trust)}",
        )
        self.admin_command(
            *("role-policy", "put", f"--role-name={name}", "--policy-name=longshore"),
            f"--policy-doc={json.dumps(policy)}",
        )
        return f"arn:aws:iam:::role/{name}"

    def carry_out(self, commands: Iterable[str]) -> None:
        """Run commands as `longshore setup --provider ceph` prints them: `a` or `a || b`."""
        for command in commands:
            ways = [shlex.split(way) for way in command.split(" || ")]
            for tool, *arguments in ways:
                assert tool == "radosgw-admin"
                try:
                    self.admin_command(*arguments)
                except subprocess.CalledProcessError:
                    if arguments == ways[-1][1:]:
                        raise
                else:
                    break

    def admin_command(self, *arguments: str) -> str:
        """Run `radosgw-admin`, as who operates the server would."""
        return self._run("radosgw-admin", "-n", "client.rgw.a", *arguments)

    def _start(self, end: float) -> None:
        mon_port, self.port = _free_ports(2)
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        for name in ("mon", "osd0", "rgw"):
            (self._folder / name).mkdir()
        (self._folder / "ceph.conf").write_text(
            _CONFIGURATION.format(
                fsid=fsid,
                mon_port=mon_port,
                s3_port=self.port,
                disk_bytes=_DISK_BYTES,
                sts_key=uuid.uuid4().hex[:16],
                kms_key=KMS_KEY,
                kms_secret=base64.b64encode(os.urandom(32)).decode(),
            )
        )
        self._write_keyring()
        address = f"[v2:127.0.0.1:{mon_port}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, "/lab/monmap")
        self._run(
            "ceph-mon", "--mkfs", "-i", "a", "--monmap", "/lab/monmap", "--keyring", "/lab/keyring"
        )
        self._spawn("ceph-mon", "-f", "-i", "a")
        self._wait(lambda: self._ask("ceph", "--connect-timeout", "2", "-s") is not None, end)
        self._run("ceph", "osd", "new", osd)
        self._run("ceph", "auth", "import", "-i", "/lab/keyring")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._spawn("ceph-osd", "-f", "-i", "0")
        self._wait(lambda: "1 up" in (self._ask("ceph", "osd", "stat") or ""), end)
        self._spawn("radosgw", "-f", "-n", "client.rgw.a")
        self._wait(self._answers, end)
        for user, name, caps in (
            (ADMIN, "admin", "roles=*;user-policy=*"),
            (BROKER, "broker", ""),
        ):
            self.admin_command(
                *("user", "create", f"--uid={name}", f"--display-name={name}"),
                *(f"--access-key={user.access_key}", f"--secret-key={user.secret_key}"),
                *([f"--caps={caps}"] if caps else []),
            )

    def _write_keyring(self) -> None:
        tool = ("ceph-authtool", "/lab/keyring", "--gen-key", "-n")
        for who, caps in (
            ("mon.", {"mon": "allow *"}),
            ("client.admin", {"mon": "allow *", "osd": "allow *", "mgr": "allow *"}),
            ("client.rgw.a", {"mon": "allow rw", "osd": "allow rwx"}),
            ("osd.0", {"mon": "allow profile osd", "osd": "allow *"}),
        ):
            create = ("--create-keyring",) if who == "mon." else ()
            of = [word for kind, cap in caps.items() for word in ("--cap", kind, cap)]
            self._run(*tool, who, *of, *create)

    def _inside(self, command: tuple[str, ...]) -> list[str]:
        return [
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-e", "-c", _INSIDE, "ceph", str(self._root), str(self._folder)),
            *command,
        ]

    def _environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/usr/sbin:/bin:/sbin", "CEPH_CONF": "/lab/ceph.conf"}

    def _ask(self, *command: str) -> str | None:
        """Run a command of Ceph's; None if it failed."""
        with contextlib.suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return self._run(*command)
        return None

    def _run(self, *command: str) -> str:
        try:
            return subprocess.run(
                self._inside(command),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
                timeout=STEP_SECONDS,
            ).stdout
        except subprocess.CalledProcessError as failed:
            failed.add_note(failed.stderr[-2000:])
            raise

    def _spawn(self, *command: str) -> None:
        with (self._folder / f"{command[0]}.output").open("wb") as output:
            self._processes.append(
                subprocess.Popen(
                    self._inside(command),
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            )

    def _wait(self, ready: Callable[[], bool], end: float) -> None:
        latest = self._processes[-1]
        while not ready():
            if latest.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Ceph did not start: {self._last_words()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                latest.wait(0.05)

    def _last_words(self) -> str:
        logs = sorted(self._folder.glob("*.output")) + sorted(self._folder.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _stop(self) -> None:
        # The gateway first: asked to stop together with the rest, it would wait for them for ever.
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()
        shutil.rmtree(self._folder, ignore_errors=True)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
