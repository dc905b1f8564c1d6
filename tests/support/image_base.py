"""What longshore's image is built of where no registry can be reached: a base image, and wheels.

The base stands for `python:…-slim`: this machine's Python without bytecode and without tests, the
shared libraries that it needs, and busybox for everything else. The wheels are what
`scripts/wheels` fetched, served on loopback.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from docker import DockerClient
from tests.support.engines import cache_folder
from tests.support.images import busybox_tree

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-build.lock")

# Of the standard library, what an official slim image does not have either, or nobody imports.
LEFT_OUT = re.compile(
    r"/(__pycache__|config-[^/]+|idlelib|lib2to3|site-packages|dist-packages|tests?|tkinter"
    r"|turtledemo)(/|$)"
)
# What wheels may take for granted, besides what Python itself needs.
TAKEN_FOR_GRANTED = (
    *("libgcc_s.so.1", "libstdc++.so.6"),
    *("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"),
)
ASK = """
import ensurepip, json, sys, sysconfig
bundled = ensurepip._WHEEL_PKG_DIR or ensurepip.__path__[0] + "/_bundled"
print(json.dumps([sys.base_prefix, sys._base_executable, sysconfig.get_path("stdlib"), bundled]))
"""
PIP = b"""#!/usr/local/bin/python
from pip._internal.cli.main import main
raise SystemExit(main())
"""


class WheelsUnavailable(Exception):
    """The wheels were not fetched; the message says what to run."""


def find_wheels() -> Path:
    """Find the folder that `scripts/wheels` filled for this Python and these lock files.

    Raises:
        WheelsUnavailable: it is not there.
    """
    locks = hashlib.sha256(b"".join((ROOT / lock).read_bytes() for lock in LOCKS))
    version = "{}{}{}".format(sys.implementation.name, *sys.version_info[:2])
    name = f"{locks.hexdigest()[:16]}-{version}-{os.uname().machine}"
    folder = cache_folder().parent / "wheels" / name
    if not folder.is_dir():
        raise WheelsUnavailable(f"{name} is not in {folder.parent}: run scripts/wheels")
    return folder


class _Listing(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the build's own log tells what failed."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; its listing is what pip's `--find-links` reads."""
    handler = functools.partial(_Listing, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def import_python(client: DockerClient, tag: str, python: str = sys.executable) -> None:
    """Make the base image of a Python of this machine."""
    repository, _, version = tag.rpartition(":")
    said = client.api.import_image_from_data(
        python_tree(python), repository=repository, tag=version, changes=['CMD ["python3"]']
    )
    assert "sha256:" in json.loads(said.splitlines()[-1])["status"]


def python_tree(python: str) -> bytes:
    """Return a root file system as a tar: Python, its libraries, busybox."""
    asked = subprocess.run([python, "-I", "-c", ASK], check=True, capture_output=True, text=True)
    prefix, executable, stdlib, bundled = json.loads(asked.stdout)
    (pip,) = Path(bundled).glob("pip-*.whl")
    # One that lives in a folder of its own may live in another one; a distribution's may not.
    to = "/usr" if prefix == "/usr" else "/usr/local"
    buffer = io.BytesIO(busybox_tree())
    with tarfile.open(fileobj=buffer, mode="a", format=tarfile.PAX_FORMAT) as tar:
        minor = Path(stdlib).name
        _add(tar, Path(executable), f"{to}/bin/{minor}")
        for name in ("python", "python3"):
            _link(tar, f"/usr/local/bin/{name}", f"{to}/bin/{minor}")
        loaded = [Path(executable)]
        for path in sorted(Path(stdlib).rglob("*")):
            if path.is_file() and not LEFT_OUT.search(str(path.relative_to(prefix))):
                _add(tar, path, f"{to}/lib/{minor}/{path.relative_to(stdlib)}")
                loaded += [path] if ".so" in path.suffixes else []
        for path in _libraries(loaded):
            # Those of a folder of its own are found where the loader looks anyway.
            _add(tar, path, f"/usr/lib/{path.name}" if path.is_relative_to(prefix) else str(path))
        # Official images have a pip there; a distribution's Python does not look there by itself.
        packages = f"{to}/lib/{minor}/" + ("dist-packages" if to == "/usr" else "site-packages")
        with zipfile.ZipFile(pip) as wheel:
            for name in wheel.namelist():
                _put(tar, f"{packages}/{name}", wheel.read(name), 0o644)
        _put(tar, "/usr/local/bin/pip", PIP, 0o755)
        _put(tar, "/etc/os-release", b"PRETTY_NAME=test\n", 0o644)
    return buffer.getvalue()


def _libraries(files: list[Path]) -> list[Path]:
    """List the shared libraries that files need, the loader among them."""
    said = subprocess.run(
        ["ldd", *map(str, files)], check=True, capture_output=True, text=True
    ).stdout
    found = set(re.findall(r"^\t(?:.* => )?(/\S+) \(0x", said, re.MULTILINE))
    (libc,) = (path for path in found if Path(path).name.startswith("libc.so"))
    near = (Path(libc).parent / name for name in TAKEN_FOR_GRANTED)
    return sorted({Path(path) for path in found} | {path for path in near if path.exists()})


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    _put(tar, name, path.read_bytes(), 0o755 if os.access(path, os.X_OK) else 0o644)


def _put(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)
