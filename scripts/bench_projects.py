"""The projects that pipelines are measured with: like the first users', of real packages.

Each package is fetched once, on the host, with the registries' own clients, and kept in the cache
folder outside the checkout as tars. A build gets them from a mirror on loopback, as it would from
Debian, npm and PyPI. Plain tars, so what a build without a cache has to do is as quick here as it
can be.

    python -m scripts.bench_projects [PROJECT...]    fetch, and say what each tar holds
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.debian_packages import (
    CannotFetchError,
    alone_in,
    cache_folder,
    download,
    host_source,
    replacing,
    run,
)

# Part of what makes a cached tar complete: raise it when the layout of a tar changes.
LAYOUT = 1
SUITE = "bookworm"
# The dependency that changes: a real package, of which each version has a thousand files.
CHANGING = "lodash"
VERSIONS = tuple(f"4.17.{number}" for number in (10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21))


@dataclass(frozen=True, slots=True)
class Bundle:
    """Packages that one step of a build installs.

    Args:
        after: a bundle whose Debian packages are there already.
    """

    name: str
    debs: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    pypi: tuple[str, ...] = ()
    after: Bundle | None = None

    @property
    def wanted(self) -> dict[str, object]:
        """Say what a complete bundle's facts must hold at least."""
        return {
            "layout": LAYOUT,
            "debs": [*self.debs],
            "npm": [*self.npm],
            "pypi": [*self.pypi],
            "after": self.after.name if self.after else None,
        }


@dataclass(frozen=True, slots=True)
class BenchService:
    """One service: what its steps install, and whether it has code that changes.

    Args:
        system: installed first; it never changes.
        modules: installed next, anew when the changing dependency does.
    """

    name: str
    system: tuple[Bundle, ...]
    modules: Bundle | None = None

    @property
    def changes(self) -> bool:
        return self.modules is not None


@dataclass(frozen=True, slots=True)
class Project:
    """Services that are built on one machine."""

    name: str
    services: tuple[BenchService, ...]

    @property
    def bundles(self) -> list[Bundle]:
        """List what has to be fetched, in an order in which that is possible."""
        found: dict[str, Bundle] = {}
        for service in self.services:
            for bundle in (*service.system, *((service.modules,) if service.modules else ())):
                if bundle.after:
                    found.setdefault(bundle.after.name, bundle.after)
                found.setdefault(bundle.name, bundle)
        return list(found.values())


NODE = Bundle(
    "node",
    ("nodejs", "git", "python3", "build-essential", "curl", "imagemagick", "libpq-dev", "bash"),
)
RUBY = Bundle(
    "ruby",
    ("ruby-full", "nodejs", "git", "build-essential", "curl", "imagemagick", "libpq-dev", "bash"),
)
GEMS = Bundle("gems", ("rails", "puma", "ruby-pg", "ruby-nokogiri", "ruby-rspec"), after=RUBY)
POSTGRES = Bundle("postgres", ("postgresql-15", "postgresql-plpython3-15", "locales-all"))
CHROMIUM = Bundle(
    "chromium", ("chromium", "chromium-driver", "xvfb", "openjdk-17-jre-headless", "fonts-dejavu")
)
SELENIUM = Bundle("selenium", pypi=("selenium", "robotframework", "lxml"))
BACKEND = Bundle(
    "backend",
    npm=(
        "express",
        "pg",
        "sequelize",
        "typescript",
        "jest",
        "eslint",
        "webpack",
        "aws-sdk",
        "next",
        "date-fns",
        "rxjs",
        "core-js",
        "@babel/core",
        "@babel/preset-env",
        "@types/node",
        "moment",
        "ts-node",
        "socket.io",
    ),
)
REACT = Bundle(
    "react",
    npm=(
        "react@18",
        "react-dom@18",
        "react-scripts@5",
        "@mui/material@5",
        "@mui/icons-material@5",
        "@emotion/react",
        "@emotion/styled",
    ),
)
FRONT = Bundle(
    "front",
    npm=(
        "webpack",
        "@babel/core",
        "@babel/preset-env",
        "@rails/ujs",
        "@rails/activestorage",
        "turbolinks",
        "sass",
        "bootstrap",
        "jquery",
        "core-js",
        "date-fns",
        "@fortawesome/fontawesome-free",
        "jest",
        "eslint",
    ),
)
TESTING = Bundle(
    "testing",
    npm=(
        "selenium-webdriver",
        "mocha",
        "chai",
        "typescript",
        "jest",
        "webdriverio",
        "eslint",
        "express",
        "date-fns",
        "rxjs",
        "core-js",
        "@babel/core",
        "@babel/preset-env",
        "@types/node",
    ),
)
SMALL_NODE = Bundle("small-node", ("nodejs",))
SMALL_MODULES = Bundle("small-modules", npm=("express", "pg", "mocha", "rxjs"))
REDIS = Bundle("redis", ("redis-server",))

DATABASE = BenchService("db", (POSTGRES,))
PROJECTS = {
    project.name: project
    for project in (
        Project("node-postgres", (BenchService("web", (NODE,), BACKEND), DATABASE)),
        Project("react-postgres", (BenchService("web", (NODE,), REACT), DATABASE)),
        Project("rails-postgres", (BenchService("web", (RUBY, GEMS), FRONT), DATABASE)),
        Project(
            "node-selenium",
            (
                BenchService("web", (NODE,), TESTING),
                BenchService("browser", (CHROMIUM, SELENIUM)),
            ),
        ),
        Project(
            "small",
            (BenchService("web", (SMALL_NODE,), SMALL_MODULES), BenchService("db", (REDIS,))),
        ),
    )
}


def tar_of(cache: Path, name: str) -> Path:
    """Say where a bundle's tar is, or that of the changing dependency."""
    return cache / name / "tree.tar"


def is_complete(cache: Path, bundle: Bundle) -> bool:
    """Tell whether the cached tar is of this bundle as it is now."""
    try:
        facts = json.loads((cache / bundle.name / "facts.json").read_text())
    except (OSError, ValueError):
        return False
    wanted = bundle.wanted
    return {name: facts.get(name) for name in wanted} == wanted


def changing_name(number: int) -> str:
    """Name the changing dependency's tar of the build with this number."""
    return f"{CHANGING}-{VERSIONS[number % len(VERSIONS)]}"


def fetch_bundle(cache: Path, bundle: Bundle) -> None:
    """Put a bundle's tar into the cache, whole or not at all."""
    sys.stderr.write(f"bench: fetching the packages of {bundle.name}\n")
    with replacing(cache, bundle.name) as (work, ready):
        tree = work / "tree"
        tree.mkdir(parents=True)
        facts = bundle.wanted
        versions: list[str] = []
        if bundle.debs:
            versions += _unpack_debs(cache, bundle, work / "apt", tree)
        if bundle.npm:
            _install_npm(bundle, tree)
        if bundle.pypi:
            _install_pypi(bundle, tree)
        facts["files"], facts["bytes"] = _weigh(tree)
        facts["versions"] = versions
        _pack(tree, ready / "tree.tar")
        (ready / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")


def _unpack_debs(cache: Path, bundle: Bundle, work: Path, tree: Path) -> list[str]:
    debs = download(host_source(), SUITE, bundle.debs, work, depends=True)
    there: set[str] = set()
    if bundle.after:
        facts = json.loads((cache / bundle.after.name / "facts.json").read_text())
        there = set(facts["versions"])
    new = [deb for deb in debs if deb.name not in there]
    for deb in new:
        run(["dpkg", "-x", str(deb), str(tree)])
    return [deb.name for deb in new]


def _install_npm(bundle: Bundle, tree: Path) -> None:
    # Scripts would build for, or fetch for, this host; the files are all that counts here.
    (tree / "package.json").write_text('{"name": "bench", "version": "1.0.0", "private": true}\n')
    command = [
        "npm",
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--legacy-peer-deps",
    ]
    run([*command, *bundle.npm], cwd=tree)
    # It comes from a tar of its own.
    shutil.rmtree(tree / "node_modules" / CHANGING, ignore_errors=True)


def _install_pypi(bundle: Bundle, tree: Path) -> None:
    target = tree / "usr/lib/python3/dist-packages"
    target.mkdir(parents=True)
    run([_uv(), "pip", "install", "--quiet", "--target", str(target), *bundle.pypi])


def _uv() -> str:
    return run(["scripts/setup", "--uv"]).strip().splitlines()[-1]


def _fetch_changing(cache: Path, version: str) -> None:
    name = f"{CHANGING}-{version}"
    with replacing(cache, name) as (work, ready):
        tree = work / "tree" / "node_modules" / CHANGING
        tree.mkdir(parents=True)
        run(["npm", "pack", "--silent", f"{CHANGING}@{version}"], cwd=work)
        run(["tar", "-xzf", f"{name}.tgz", "-C", str(tree), "--strip-components=1"], cwd=work)
        _pack(work / "tree", ready / "tree.tar")


def _weigh(tree: Path) -> tuple[int, int]:
    files = size = 0
    for folder, _, names in os.walk(tree):
        for name in names:
            facts = os.lstat(os.path.join(folder, name))
            files += 1
            size += facts.st_size
    return files, size


def _pack(tree: Path, tar: Path) -> None:
    # GNU's format, because that is what busybox unpacks.
    names = sorted(path.name for path in tree.iterdir())
    run(
        [
            "tar",
            "--format=gnu",
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "-cf",
            str(tar),
            "-C",
            str(tree),
            *names,
        ]
    )


def fetch_registry() -> Path:
    """Fetch Debian's docker-registry if it is not there yet, and return its binary."""
    cache = cache_folder("bench")
    binary = cache / "docker-registry" / "usr/bin/docker-registry"
    if not binary.exists():
        with alone_in(cache, "engines"), replacing(cache, "docker-registry") as (work, ready):
            for deb in download(host_source(), SUITE, ("docker-registry",), work):
                run(["dpkg", "-x", str(deb), str(ready)])
    return binary


def fetch(projects: Iterable[Project]) -> Path:
    """Fetch what is not there yet, and return the folder of all tars.

    Raises:
        CannotFetchError: this host cannot; the message says why.
    """
    cache = cache_folder("bench")
    for version in VERSIONS:
        if not tar_of(cache, f"{CHANGING}-{version}").exists():
            with alone_in(cache, "engines"):
                _fetch_changing(cache, version)
    for bundle in [bundle for project in projects for bundle in project.bundles]:
        if not is_complete(cache, bundle):
            with alone_in(cache, "engines"):
                if not is_complete(cache, bundle):
                    fetch_bundle(cache, bundle)
    return cache


def main(arguments: Sequence[str]) -> int:
    """Fetch the projects that are named, or all."""
    try:
        projects = [PROJECTS[name] for name in arguments or PROJECTS]
        cache = fetch(projects)
    except (CannotFetchError, subprocess.SubprocessError, OSError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 3
    for project in projects:
        for bundle in project.bundles:
            facts = json.loads((cache / bundle.name / "facts.json").read_text())
            print(
                f"{project.name:16} {bundle.name:14} {facts['files']:7,} files"
                f" {facts['bytes'] / 1e6:7,.0f} MB"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
