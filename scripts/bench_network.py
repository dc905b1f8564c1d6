"""A network between a build machine and its servers: counted, and as slow as it is told to be.

The proxy is a process of its own, and moves bytes with splice(2): what passes it costs hardly any
of the processor, so a pipeline that moves much is not measured as slower than it is.

    python -m scripts.bench_network PORT BYTES_PER_CONNECTION BYTES_PER_SECOND

(0 is no limit) prints its own port, and for each line that it reads, what it has passed so far.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

PIECE_BYTES = 256 << 10
# What may pass at once after a pause, in seconds of the rate: small enough that a short transfer
# is not free.
BURST_SECONDS = 0.01
LONGEST_WAIT_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Network:
    """How fast a network is, in each direction; 0 is no limit."""

    name: str
    connection_bytes_per_second: float = 0
    bytes_per_second: float = 0


NETWORKS = {
    network.name: network
    for network in (
        Network("unlimited"),
        Network("limited", 50e6, 125e6),  # 50 MB/s per connection, 1 Gbit/s overall
    )
}


@dataclass(slots=True)
class Bucket:
    """A rate that several transfers share."""

    rate: float
    _free_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for(self, size: int, now: float) -> float:
        """Take so many bytes, and tell how long to wait until they may have passed."""
        if not self.rate:
            return 0.0
        with self._lock:
            self._free_at = max(self._free_at, now - BURST_SECONDS) + size / self.rate
            return self._free_at - now


class Forwarder:
    """Passes connections on to one port of the loopback interface."""

    def __init__(self, target: int, network: Network) -> None:
        self._target = target
        self._network = network
        self._overall = {
            "up": Bucket(network.bytes_per_second),
            "down": Bucket(network.bytes_per_second),
        }
        self._counts = {"up": 0, "down": 0}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    def counts(self) -> dict[str, int]:
        """Say how many bytes went each way."""
        with self._lock:
            return dict(self._counts)

    def run(self) -> None:
        """Accept connections until the process ends."""
        while True:
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ends = threading.Barrier(2, partial(_close, client, server))
            for source, sink, way in ((client, server, "up"), (server, client, "down")):
                threading.Thread(
                    target=self._pump, args=(source, sink, way, ends), daemon=True
                ).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, way: str, ends: threading.Barrier
    ) -> None:
        own = Bucket(self._network.connection_bytes_per_second)
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIECE_BYTES)
        try:
            while moved := os.splice(source.fileno(), writer, PIECE_BYTES):
                now = time.monotonic()
                pause = max(own.wait_for(moved, now), self._overall[way].wait_for(moved, now))
                if pause > LONGEST_WAIT_SECONDS:
                    time.sleep(pause)
                with self._lock:
                    self._counts[way] += moved
                left = moved
                while left:
                    left -= os.splice(reader, sink.fileno(), left)
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            for each in (source, sink):  # the other direction ends as well
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        finally:
            os.close(reader)
            os.close(writer)
            with contextlib.suppress(threading.BrokenBarrierError):
                ends.wait()


def _close(*connections: socket.socket) -> None:
    for each in connections:
        each.close()


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that passed."""

    up: int = 0
    down: int = 0

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.up - other.up, self.down - other.down)


class Link:
    """A running proxy in front of one server."""

    def __init__(self, target: int, network: Network) -> None:
        self._command = [
            sys.executable,
            "-m",
            "scripts.bench_network",
            str(target),
            str(network.connection_bytes_per_second),
            str(network.bytes_per_second),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[1],
        )
        self.port = int(self._read())
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def traffic(self) -> Traffic:
        """Say what has passed so far."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Traffic(**json.loads(self._read()))

    def _read(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy has ended")
        return line


class Registry:
    """Debian's docker-registry on a free port of the loopback interface."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self.data = folder / "data"
        self._folder = folder

    def __enter__(self) -> Self:
        from tests.support.seaweedfs import die_with_parent  # not for the proxy: it brings boto3

        self.data.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        configuration = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.data), "maxthreads": 100}},
            "http": {"addr": f"127.0.0.1:{self.port}", "secret": "of nothing but a benchmark"},
        }
        file = self._folder / "config.yml"
        file.write_text(json.dumps(configuration))  # JSON is YAML
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._binary, "serve", file],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            if self._process.poll() is not None or time.monotonic() > end:
                said = (self._folder / "log").read_text(errors="replace")[-1000:]
                self._process.kill()
                raise RuntimeError(f"docker-registry did not start: {said}")
            time.sleep(0.02)

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()

    def stored_bytes(self) -> int:
        """Weigh its blobs."""
        return sum(path.stat().st_size for path in self.data.rglob("data") if path.is_file())


def main(target: str, connection_rate: str, rate: str) -> None:
    """Forward until standard input ends."""
    forwarder = Forwarder(int(target), Network("", float(connection_rate), float(rate)))
    threading.Thread(target=forwarder.run, daemon=True).start()
    print(forwarder.port, flush=True)
    for _ in sys.stdin:
        print(json.dumps(forwarder.counts()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
