"""Debian packages of any suite, for scripts: downloaded and unpacked, never installed.

They come from the mirror that this host's apt uses, and are checked as apt checks them: against
the suite's signed index. The host's own apt state stays as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHIVE_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What an apt source of Debian's main archive calls its suite; security and updates are others.
DEBIAN_SUITES = frozenset(
    ["bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"]
)


class CannotFetchError(Exception):
    """This host cannot fetch packages; the message says what to do, in one line."""


@dataclass(slots=True)
class Source:
    """One enabled binary entry of apt's sources."""

    uris: list[str] = field(default_factory=list)
    suites: list[str] = field(default_factory=list)
    components: list[str] = field(default_factory=list)
    signed_by: str = ""
    trusted: str = ""


def parse_deb822(text: str) -> Iterator[Source]:
    """Read a `.sources` file: stanzas of fields, with continuation lines."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
            yield Source(
                fields.get("uris", "").split(),
                fields.get("suites", "").split(),
                fields.get("components", "").split(),
                fields.get("signed-by", ""),
                fields.get("trusted", ""),
            )


def parse_list(text: str) -> Iterator[Source]:
    """Read a classic `.list` file: `deb [options] uri suite component...` a line."""
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if found:
            options = dict(
                option.partition("=")[::2] for option in (found[1] or "").lower().split()
            )
            signed_by = re.search(r"signed-by=(\S+)", found[1] or "", re.IGNORECASE)
            yield Source(
                [found[2]],
                [found[3]],
                found[4].split(),
                signed_by[1] if signed_by else "",
                options.get("trusted", ""),
            )


def apt_files() -> list[Path]:
    """Name the files that hold this host's apt sources, where apt says they are."""
    shell = "eval $(apt-config shell LIST Dir::Etc::sourcelist/f PARTS Dir::Etc::sourceparts/d)"
    said = run(["sh", "-c", f'{shell}; printf "%s\\n" "$LIST" "$PARTS"']).splitlines()
    files = [Path(said[0])]
    files += sorted(Path(said[1]).glob("*.sources")) + sorted(Path(said[1]).glob("*.list"))
    return [file for file in files if file.is_file()]


def host_source() -> Source:
    """Find the mirror of Debian's main archive that this host's apt uses."""
    for file in apt_files():
        text = file.read_text(errors="replace")
        for source in parse_deb822(text) if file.suffix == ".sources" else parse_list(text):
            suites = {suite.rstrip("/") for suite in source.suites}
            uris = [uri for uri in source.uris if not uri.startswith("cdrom:")]
            if uris and suites & DEBIAN_SUITES and "main" in source.components:
                return Source(uris[:1], [], ["main"], source.signed_by, source.trusted)
    raise CannotFetchError(
        "apt's sources name no mirror of Debian's main archive: add one to /etc/apt/sources.list.d"
    )


def run(command: list[str], **options: Any) -> str:
    """Run a command and return its output; its last words become the error."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
        **{"env": environment, **options},
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        # apt says the cause first and only then what it means for the whole run.
        cause = next((line for line in lines if line.startswith(("E:", "Err:"))), lines[-1])
        raise CannotFetchError(f"{' '.join(command[:1])} failed: {cause}")
    return done.stdout


def download(
    source: Source, suite: str, packages: tuple[str, ...], work: Path, *, depends: bool = False
) -> list[Path]:
    """Download packages of one suite, leaving the host's own apt state untouched.

    Args:
        depends: all that they depend on as well, whatever the host has.
    """
    for folder in ("lists/partial", "cache/archives/partial", "parts", "none"):
        (work / folder).mkdir(parents=True)
    stanza = {
        "Types": "deb",
        "URIs": source.uris[0],
        "Suites": suite,
        "Components": "main",
        "Signed-By": source.signed_by or (str(ARCHIVE_KEYRING) if ARCHIVE_KEYRING.exists() else ""),
        "Trusted": source.trusted,
    }
    text = "".join(f"{name}: {value}\n" for name, value in stanza.items() if value)
    (work / "parts" / "fetch.sources").write_text(text)
    (work / "status").touch()
    archives = work / "cache" / "archives"
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": f"{work}/parts",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": f"{work}/none",
        "Dir::State::Lists": f"{work}/lists",
        "Dir::Cache": f"{work}/cache",
        "APT::Default-Release": "",
        # The cache belongs to whoever runs this; apt's own user cannot write there.
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
        "Acquire::Retries": "2",
        "Acquire::Languages": "none",
    }
    if depends:
        options["Dir::State::status"] = f"{work}/status"  # nothing is installed
    apt = ["apt-get", "-q"]
    for name, value in options.items():
        apt += ["-o", f"{name}={value}"]
    how = ["install", "--no-install-recommends", "--yes", "--download-only"]
    try:
        run([*apt, "update"])
        run([*apt, *(how if depends else ["download"]), *packages], cwd=archives)
    except CannotFetchError as error:
        raise CannotFetchError(
            f"cannot fetch {packages[0]} of {suite}: {error}; "
            "check the network, and that `apt-get update` works"
        ) from None
    debs = sorted(archives.glob("*.deb"))
    got = {deb.name.partition("_")[0] for deb in debs}
    if missing := set(packages) - got:
        raise CannotFetchError(f"{suite} did not give {', '.join(sorted(missing))}")
    return debs


def cache_folder(name: str) -> Path:
    """Say where things of one kind are kept: outside any checkout, shared by all of a user's."""
    if own := os.environ.get("LONGSHORE_CACHE"):
        return Path(own).absolute() / name
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "longshore" / name


@contextlib.contextmanager
def alone_in(cache: Path, what: str) -> Iterator[None]:
    """Let one run at a time fill a folder of the cache: the others wait, then find the work done.

    Args:
        what: names in the plural what only root can start.
    """
    for tool in ("apt-get", "apt-config", "dpkg"):
        if not shutil.which(tool):
            raise CannotFetchError(
                f"{tool} is missing: {what} come from Debian; use Debian 12 or 13"
            )
    if os.geteuid() != 0:
        # What is fetched here starts as root only, and root looks in root's own cache.
        raise CannotFetchError(f"not root: {what} start as root only, so run this as root too")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache.glob(".staging-*"):  # of a run that was killed: we hold the lock
            shutil.rmtree(leftover, ignore_errors=True)
        yield


@contextlib.contextmanager
def replacing(cache: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Give a folder to work in and one to fill, which becomes `name`, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=cache) as staging:
        ready = Path(staging) / "ready"
        ready.mkdir()
        yield Path(staging) / "work", ready
        ready.chmod(0o755)
        with contextlib.suppress(FileNotFoundError):
            os.rename(cache / name, Path(staging) / "outdated")
        os.rename(ready, cache / name)
