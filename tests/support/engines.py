"""Throw-away Docker engines: each one stands for one fresh build machine.

`scripts/engines` fetches the binaries. An engine here is a dockerd and its containerd in a PID
and a mount namespace of their own. So nothing can outlive it: when dockerd, the namespace's
first process, dies, the kernel kills containerd, every shim and every container, and the mounts
go with the last of them. A pipe ties dockerd to this process: it ends when we do, however we do.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import docker
from docker import DockerClient

Generation = Literal["20.10", "26.1", "28.5"]
ImageStore = Literal["graphdriver", "containerd"]

GENERATIONS: tuple[Generation, ...] = ("20.10", "26.1", "28.5")

START_SECONDS = 60.0  # a fresh one takes 0.3 s; one that recovers on a busy disk takes more
STOP_SECONDS = 30.0
# Unix socket paths end at 107 bytes; libnetwork's `exec/libnetwork/<12 digits>.sock` needs 35.
LONGEST_ROOT = 70

# The first process of the namespace. It starts containerd, waits for a line that says it answers,
# and becomes dockerd, which ends in good order on SIGTERM. That comes when containerd ended, and
# when the pipe did: the starter asks for a stop, or is gone. dockerd could start a containerd by
# itself, but looks only once a second whether that has started or ended: 1 s more for each.
FIRST_PROCESS = """
trap 'exit 1' TERM
exec 3<&0 </dev/null
(containerd --config "$1" 3<&-; kill -TERM 1) &
read -r _ <&3 || exit 1
(read -r _ <&3; kill -TERM 1) &
shift
exec dockerd "$@" 3<&-
"""


class EngineUnavailable(Exception):
    """This machine cannot run such an engine; `reason` says what to do about it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EngineFailed(Exception):
    """A throw-away engine did not start; the message ends with what it logged last."""


@dataclass(frozen=True, slots=True)
class EngineBinaries:
    """One generation's binaries, as `scripts/engines` laid them out."""

    generation: Generation
    version: str
    folder: Path
    tools: Path

    def environment(self) -> dict[str, str]:
        """Return the variables under which these binaries find each other and their libraries."""
        path = [f"{self.folder}/bin", f"{self.tools}/bin", os.environ.get("PATH", os.defpath)]
        # Not every shell of root's has the sbin folders, where mount helpers and modprobe are.
        path += ["/usr/sbin", "/sbin"]
        return {**os.environ, "PATH": ":".join(path), "LD_LIBRARY_PATH": f"{self.tools}/lib"}


def cache_folder() -> Path:
    """Say where `scripts/engines` keeps what it fetched; the rule is written there too."""
    if own := os.environ.get("LONGSHORE_CACHE"):
        return Path(own).absolute() / "engines"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "longshore" / "engines"


def find_tool(name: str) -> Path:
    """Find one of the tools that all engines share, `busybox` (static) among them.

    Raises:
        EngineUnavailable: it was not fetched yet.
    """
    tool = cache_folder() / "tools" / "bin" / name
    if not tool.is_file():
        raise EngineUnavailable(f"{name} is not in {tool.parent}: run scripts/engines")
    return tool


def find_engine(generation: Generation) -> EngineBinaries:
    """Find the binaries of one generation.

    Raises:
        EngineUnavailable: they were not fetched, or this process may not start engines.
    """
    if os.geteuid() != 0:
        raise EngineUnavailable("Docker engines start as root only: run the tests as root")
    tools = find_tool("runc").parent.parent
    for facts_file in sorted(cache_folder().glob("*/engine.json")):
        facts = json.loads(facts_file.read_text())
        if facts["generation"] == generation:
            return EngineBinaries(generation, facts["version"], facts_file.parent, tools)
    raise EngineUnavailable(
        f"Docker {generation} is not in {cache_folder()}: run scripts/engines {generation}"
    )


class ThrowawayEngine:
    """A running Docker engine with its own data, gone without a trace when stopped.

    Use it as a context manager, or call `start` and `stop`. One that is forgotten is stopped when
    it is collected, or at exit. There is no bridge: give builds and containers the network
    `none` or `host`. The engine's mounts are visible in its own namespace only; the files
    of its data-root are visible to all.

    Attributes:
        host: what DOCKER_HOST wants.
        root: holds the socket, the log and `data`, the data-root.
        api: a client of the running engine, a new one after each start.
        version: what the running dockerd says it is.
    """

    api: DockerClient
    version: str

    def __init__(
        self,
        binaries: EngineBinaries,
        image_store: ImageStore = "graphdriver",
        root: Path | None = None,
        *,
        in_memory: bool = False,
    ) -> None:
        """Prepare an engine; `start` runs it.

        Args:
            root: an empty or absent folder, to be removed at the end; by default a temporary one.
            in_memory: make that temporary folder on tmpfs, for quieter measurements.
        """
        if image_store == "containerd" and binaries.generation == "20.10":
            raise ValueError("Docker 20.10 has no containerd image store")
        if root is None:
            parent = "/dev/shm" if in_memory else None
            root = Path(tempfile.mkdtemp(prefix="longshore-", dir=parent))
        root = root.absolute()
        if len(os.fsencode(root)) > LONGEST_ROOT:
            raise ValueError(f"{root} is too long for the Unix sockets below it")
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise ValueError(f"{root} is not empty")
        self.binaries = binaries
        self.image_store = image_store
        self.root = root
        self.host = f"unix://{root}/docker.sock"
        self._daemon = _Daemon(binaries, image_store, root)
        # Holds the daemon, not self, so that a forgotten engine can be collected; runs at exit too.
        self._discard = weakref.finalize(self, self._daemon.discard)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What dockerd and containerd wrote so far, all starts included."""
        return self._daemon.log_file.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._daemon.is_running

    def environment(self) -> dict[str, str]:
        """Return the variables with which this engine's own `docker` command talks to it.

        buildx (and compose, where the suite has it) are found as plug-ins of that command.
        """
        return {
            **self.binaries.environment(),
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.root / "cli"),
        }

    def start(self) -> None:
        """Start the engine and return when it answers; its data is what earlier runs left.

        Raises:
            EngineFailed: it ended or did not answer in time. Nothing of it runs any more.
        """
        if not self._discard.alive:
            raise ValueError(f"the engine in {self.root} was stopped for good")
        self._daemon.start()
        try:
            # No read timeout: a load or a save may be silent for minutes. The stubs know no None.
            options: dict[str, Any] = {"timeout": None}
            self.api = docker.DockerClient(base_url=self.host, version="auto", **options)
            self.version = self.api.version()["Version"]
        except BaseException:
            self.kill()
            raise

    def restart(self) -> None:
        """Stop the daemon in good order and start it on the same data."""
        self._close_api()
        self._daemon.stop(STOP_SECONDS)
        self.start()

    def kill(self) -> None:
        """Kill all of the engine at once, as a power cut would; `start` recovers it."""
        self._close_api()
        self._daemon.kill()

    def stop(self) -> None:
        """Stop the engine and remove all that it left."""
        self._close_api()
        self._discard()

    def _close_api(self) -> None:
        if hasattr(self, "api"):
            self.api.close()


class _Daemon:
    """The processes and files of one engine, apart from it so that its finalizer can hold them."""

    def __init__(self, binaries: EngineBinaries, image_store: ImageStore, root: Path) -> None:
        self.binaries = binaries
        self.image_store = image_store
        self.root = root
        self.log_file = root / "engine.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if self.is_running:
            raise ValueError(f"the engine in {self.root} is running")
        self._write_configuration()
        root = self.root
        for stale in (root / "docker.sock", root / "containerd.sock", root / "docker.pid"):
            stale.unlink(missing_ok=True)  # left by a crash; a connection would be refused
        # fmt: off
        command = [
            "unshare", "--mount", "--propagation", "private", "--pid", "--mount-proc",
            "--kill-child", "sh", "-c", FIRST_PROCESS, "engine", f"{root}/containerd.toml",
            "--config-file", f"{root}/daemon.json",
            "--containerd", f"{root}/containerd.sock",
            "--data-root", f"{root}/data",
            "--exec-root", f"{root}/exec",
            "--pidfile", f"{root}/docker.pid",
            "--host", f"unix://{root}/docker.sock",
            # The host's network stays as it is; nothing else needs iptables to be installed.
            "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
            # A systemd would take the pids of this PID namespace for its own; cgroup files do not.
            "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{root.name}",
        ]
        # fmt: on
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.binaries.environment(),
                bufsize=0,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def _write_configuration(self) -> None:
        # Given even where the default would do: otherwise the host's own daemon.json is read.
        settings: dict[str, object] = {
            "features": {"containerd-snapshotter": self.image_store == "containerd"}
        }
        if self.binaries.generation == "20.10":
            settings = {"deprecated-key-path": f"{self.root}/key.json"}  # else it writes to /etc
        (self.root / "daemon.json").write_text(json.dumps(settings))
        (self.root / "containerd.toml").write_text(
            "version = 2\n"
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'root = "{self.root}/data/containerd"\n'
            f'state = "{self.root}/exec/containerd"\n'
            f'[grpc]\naddress = "{self.root}/containerd.sock"\n'
        )
        plugins = {"cliPluginsExtraDirs": [f"{self.binaries.folder}/cli-plugins"]}
        (self.root / "cli").mkdir(exist_ok=True)
        (self.root / "cli" / "config.json").write_text(json.dumps(plugins))

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        with selectors.DefaultSelector() as selector:
            pidfd = os.pidfd_open(process.pid)
            try:
                selector.register(pidfd, selectors.EVENT_READ)
                self._connect(self.root / "containerd.sock", selector, deadline).close()
                assert process.stdin is not None
                process.stdin.write(b"\n")
                # dockerd listens before it serves, so the answer comes when it is ready.
                with self._connect(self.root / "docker.sock", selector, deadline) as connection:
                    connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                    selector.register(connection, selectors.EVENT_READ)
                    ready = selector.select(max(0.0, deadline - time.monotonic()))
                    if any(key.fd == pidfd for key, _ in ready):
                        raise self._failure("ended while starting")
                    try:
                        answer = connection.recv(4096) if ready else b""
                    except ConnectionResetError:
                        answer = b""
                    selector.unregister(connection)
            finally:
                os.close(pidfd)
        if b" 200 " not in answer.partition(b"\r\n")[0]:
            raise self._failure(f"answered its first ping with {answer!r}")

    def _connect(
        self, path: Path, selector: selectors.BaseSelector, deadline: float
    ) -> socket.socket:
        """Connect as soon as somebody listens; the selector tells of the process's end."""
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
            except BaseException:
                connection.close()
                raise
            else:
                return connection
            if selector.select(0.005):
                raise self._failure("ended while starting")
            if time.monotonic() > deadline:
                raise self._failure(f"did not listen on {path.name} within {START_SECONDS:g} s")

    def _failure(self, what: str) -> EngineFailed:
        lines = self.log_file.read_text(errors="replace").splitlines()
        last = "\n".join(["", *lines[-20:]])
        return EngineFailed(f"Docker {self.binaries.version} in {self.root} {what}:{last}")

    def stop(self, grace_seconds: float) -> None:
        """Let dockerd end its containers and itself; kill what is left after the grace."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()  # see FIRST_PROCESS: this becomes dockerd's SIGTERM
        if not _wait_for_exit(self._process, grace_seconds):
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Kill everything of this engine, and return when it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        if process.poll() is None:
            # The namespace's first process, because its end is the end of all the others: only
            # then does its parent, `unshare`, end too. Killed itself, `unshare` would not wait.
            for child in _children(process.pid):
                _signal(child, signal.SIGKILL)
            if not _wait_for_exit(process, STOP_SECONDS):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def discard(self) -> None:
        """Remove all traces. The data goes too, so no container is given time to end well."""
        self.kill()
        # Only what somebody mounted from outside: the engine's own mounts are gone with it.
        for mount in mounts_below(self.root):
            subprocess.run(["umount", "--lazy", mount], check=True)
        for group in control_groups(self.root):
            group.rmdir()
        if self.root.exists():
            shutil.rmtree(self.root)


def mounts_below(root: Path) -> list[Path]:
    """List what is mounted at or below `root`, the deepest and latest first."""
    mounts = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        # Blanks and backslashes in a path are written as octal escapes.
        path = Path(line.split()[1].encode().decode("unicode_escape"))
        if path == root or root in path.parents:
            mounts.append(path)
    return mounts[::-1]


def control_groups(root: Path) -> list[Path]:
    """List the control groups of an engine's containers, the deepest first."""
    tops = Path("/sys/fs/cgroup")
    found: list[Path] = []
    # One hierarchy (version 2), or one below each controller's name (version 1).
    for top in (tops / root.name, *tops.glob(f"*/{root.name}")):
        if top.is_dir():
            found += [group for group in top.rglob("*") if group.is_dir()][::-1]
            found.append(top)
    return found


def processes_of(root: Path) -> dict[int, str]:
    """Find the living processes whose command line names `root`: pid and command line."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(root) in words and int(entry.parent.name) != os.getpid():
            found[int(entry.parent.name)] = words
    return found


def _wait_for_exit(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait on the process itself; `Popen.wait` with a timeout looks and sleeps by turns."""
    if process.poll() is not None:
        return True
    pidfd = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ)
            exited = bool(selector.select(seconds))
    finally:
        os.close(pidfd)
    if exited:
        process.wait()
    return exited


def _children(pid: int) -> list[int]:
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command's name, in parentheses, may hold anything; the parent is two after it.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == pid:
            children.append(int(stat.parent.name))
    return children


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
