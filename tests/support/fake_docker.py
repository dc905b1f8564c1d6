"""A `docker` command that builds nothing: it notes how it was called, and ends as it is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What it writes is one JSON document a call. The override file is gone when the test looks.
SCRIPT = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path({folder!r})
arguments = sys.argv[1:]
told = json.loads((here / "told.json").read_text())
if arguments[0] == "buildx":
    if not told["buildx"]:
        sys.exit("docker: unknown command: docker buildx")
    if arguments[1] == "inspect":
        print("Name: x\\nDriver:   " + told["driver"])
    sys.exit(0)
if arguments[:2] == ["compose", "version"]:
    sys.exit(0 if told["compose"] else 1)
files = [v for f, v in zip(arguments, arguments[1:]) if f == "-f"]
overrides = {{f: pathlib.Path(f).read_text() for f in files if f.endswith(".cache.yaml")}}
call = {{"arguments": arguments, "overrides": overrides, "cwd": os.getcwd(),
        "buildkit": os.environ.get("DOCKER_BUILDKIT"), "environment": dict(os.environ)}}
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(call) + "\\n")
print("the build's own output", flush=True)
if told["fetches"] is not None:
    import hashlib, http.client, re, urllib.error, urllib.request
    text = " ".join([*arguments, *overrides.values()])
    for host, name in re.findall("type=registry,ref=([^/]+)/([^:]+):latest", text):
        for path in ["manifests/latest", *told["fetches"]]:
            request = f"http://{{host}}/v2/{{name}}/{{path}}"
            if told["spoils"]:
                pathlib.Path(told["spoils"][0]).write_text(told["spoils"][1])
            try:
                with urllib.request.urlopen(request) as answer:
                    data = answer.read()
                    fetched = [answer.status, answer.headers["Content-Type"], len(data)]
                if "sha256:" in path and "sha256:" + hashlib.sha256(data).hexdigest() not in path:
                    fetched = [0, "", 0]
            except urllib.error.HTTPError as error:
                fetched = [error.code, "", 0]
            except http.client.HTTPException:
                fetched = [0, "", 0]
            with (here / "fetched").open("a") as lines:
                lines.write(json.dumps([path, *fetched]) + "\\n")
            if fetched[0] != 200:
                sys.exit(1)
if told["hangs"]:
    import signal, time
    signal.signal(signal.SIGTERM, lambda *_: ((here / "stopped").touch(), sys.exit(130)))
    os.kill(os.getppid(), told["hangs"])
    signal.pause()
sys.exit(told["exit_code"])
"""


@dataclass
class FakeDocker:
    """How the fake is told what to do, and asked what it was told."""

    folder: Path
    buildx: bool = True
    compose: bool = True
    driver: str = "docker"
    exit_code: int = 0
    fetches: list[str] | None = None
    """What it fetches besides the manifest, if it is told a registry; it fails if that fails."""
    spoils: list[str] | None = None
    """A file that it overwrites before that, and with what."""
    hangs: int = 0
    """The signal that it sends to who called it, before it waits for its own end."""

    def install(self, python: str) -> None:
        """Write the command into its folder."""
        self.folder.mkdir()
        command = self.folder / "docker"
        command.write_text(SCRIPT.format(python=python, folder=str(self.folder)))
        command.chmod(0o755)
        self.tell()

    def tell(self, **changes: Any) -> None:
        """Change what it does."""
        for name, value in changes.items():
            setattr(self, name, value)
        told = {n: v for n, v in vars(self).items() if n != "folder"}
        (self.folder / "told.json").write_text(json.dumps(told))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What it was told to build: arguments, override files' texts, directory, variables."""
        calls = self.folder / "calls"
        if not calls.exists():
            return []
        return [json.loads(line) for line in calls.read_text().splitlines()]

    @property
    def fetched(self) -> list[tuple[str, int, str, int]]:
        """What it fetched: the path, the status, the media type, and how many bytes."""
        lines = self.folder / "fetched"
        found = lines.read_text().splitlines() if lines.exists() else []
        return [tuple(json.loads(line)) for line in found]

    @property
    def was_stopped(self) -> bool:
        """Whether a build was told to end."""
        return (self.folder / "stopped").exists()
