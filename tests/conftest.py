"""What holds for all tests: the plug-ins, nothing from the host, no network, reasons of skips."""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import re
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings
from tests.support.engines import (
    EngineFailed,
    EngineUnavailable,
    ThrowawayEngine,
    cache_folder,
    find_engine,
)

pytest_plugins = [
    "tests.engine_fixtures",
    "tests.support.browser_fixtures",
    "tests.support.ceph_fixtures",
    "tests.support.s3_fixtures",
]
# Ceph is an optional server: unless it is asked for, its tests are not there to be skipped.
collect_ignore_glob = [] if os.environ.get("LONGSHORE_TEST_CEPH") == "1" else ["**/test_ceph*.py"]

IS_CI = os.environ.get("CI", "") not in ("", "0", "false")
REQUIRES_ENGINES = os.environ.get("LONGSHORE_REQUIRE_ENGINES") == "1"
CANNOT_FETCH = os.environ.get("LONGSHORE_NO_ENGINES", "")

# Slow machines are no bug; in CI, the same examples in every run of one revision.
settings.register_profile("longshore", deadline=None, print_blob=True)
settings.register_profile("longshore-ci", settings.get_profile("longshore"), derandomize=True)
settings.load_profile("longshore-ci" if IS_CI else "longshore")

# What longshore, or a library of its, reads: from the user's account, the CI service, the shell.
FOREIGN = re.compile(
    r"""(?x)
    (AWS|BITBUCKET|BRANCH|BUILD|BUILDKIT|BUILDKITE|CHANGE|CI|CIRCLE|COMPOSE|DOCKER|DRONE|GIT|GITHUB
    |GITLAB|JENKINS|JOB|LONGSHORE|RUNNER|S3|SYSTEM|TEAMCITY|TRAVIS|WOODPECKER)_.*
    |(AGENT|Agent|Build|Release|System|ghprb|gitlab).*
    |CI|TF_BUILD|TAG_NAME|BOTO_CONFIG|NETRC
    |.*_(proxy|PROXY)
    |CLICOLOR.*|FORCE_COLOR|NO_COLOR|PY_COLORS|COLUMNS|LINES
    """
)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Hide the host from the tests: its variables, its git and Docker settings, its network."""
    config = session.config
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return  # this process only hands out tests, and who runs them is to know what it knows
    cache = cache_folder().parent
    for name in list(os.environ):
        if FOREIGN.fullmatch(name) and not name.startswith("LONGSHORE_TEST_"):
            del os.environ[name]
    os.environ["LONGSHORE_CACHE"] = str(cache)
    if REQUIRES_ENGINES:
        os.environ["LONGSHORE_REQUIRE_ENGINES"] = "1"
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["GIT_CONFIG_GLOBAL"] = os.environ["GIT_CONFIG_SYSTEM"] = os.devnull
    no_settings = tempfile.TemporaryDirectory(prefix="longshore-")
    session.config.add_cleanup(no_settings.cleanup)
    os.environ["DOCKER_CONFIG"] = no_settings.name
    sys.addaudithook(refuse_network)


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Behave as on a machine without network: nothing but loopback can be named or reached.

    That holds for this process; what it starts (servers, engines) is not watched.
    """
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            raise OSError(errno.ENETUNREACH, "Network is unreachable (tests use none)")
    elif event == "socket.getaddrinfo" and not _is_loopback(arguments[0]):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution (in tests)")


def _is_loopback(host: str | bytes | None) -> bool:
    name = host.decode() if isinstance(host, bytes) else host or "localhost"
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@functools.cache
def why_no_engine() -> str:
    """Say why no throw-away engine runs here, by starting one; empty if one does."""
    try:
        with ThrowawayEngine(find_engine("28.5")):
            return ""
    except EngineUnavailable as unavailable:
        return CANNOT_FETCH or unavailable.reason
    except (EngineFailed, OSError) as failed:
        lines = str(failed).splitlines()
        return " ".join(lines[:1] + lines[1:][-1:])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need an engine where none can run, before their fixtures try."""
    if item.get_closest_marker("engine") and (reason := why_no_engine()):
        if REQUIRES_ENGINES:
            pytest.fail(f"no Docker engine could be started ({reason})", pytrace=False)
        pytest.skip(f"no Docker engine could be started ({reason})")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    """Close with how many tests were skipped, and why."""
    yield
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[said.removeprefix("Skipped: ")] += 1
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}", yellow=True)
