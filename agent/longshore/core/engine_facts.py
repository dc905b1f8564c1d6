"""What an engine, by its version and image store, does with images, and what follows for builds.

`docs/architecture.md`, "What engines do", names the sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from longshore.core.diagnosis import Finding

Version = tuple[int, int, int]

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_OLDEST: Version = (20, 10, 0)
_OLDEST_CONTAINERD: Version = (26, 1, 0)
# The fix of CVE-2024-24557: from then on the classic builder uses a loaded image only if
# `--cache-from` names it. Older lines got none.
_FIXED = {23: (23, 0, 10), 24: (24, 0, 9), 25: (25, 0, 2)}
# moby/buildkit#5242: inline cache of local images is not found.
NO_INLINE_CACHE: tuple[Version, Version] = ((27, 0, 0), (27, 2, 0))
# A save takes a reference to each layer that it has saved already, and never gives it back.
_KEEPS_LAYERS: tuple[Version, Version] = ((25, 0, 0), (30, 0, 0))
_UNTRIED: Version = (29, 0, 0)  # there was none to try

_CACHE_FROM = "build with what `longshore cache-from` prints"


def parse_version(text: str) -> Version | None:
    """Read an engine's version, such as `20.10.24+dfsg1`; `None` if it has none."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def judge_engine(
    version: str,
    image_store: str,
    storage_driver: str,
    *,
    without_buildkit_cache: Sequence[str] = (),
) -> Iterator[Finding]:
    """Say what an engine does with images that are saved and loaded.

    Args:
        without_buildkit_cache: names of services that keep no cache of BuildKit's own.
    """
    containerd = image_store == "containerd"
    kept = "their ids, but no parents" if containerd else "their ids and parents"
    yield Finding(
        "image store", "ok", f"{image_store} ({storage_driver}): loaded images keep {kept}"
    )
    numbers = parse_version(version)
    if numbers is None:
        yield Finding(
            "build cache",
            "warning",
            f"the engine's version {version!r} does not say how it uses loaded images",
            _CACHE_FROM,
        )
    elif containerd:
        yield _judge_builder_of_containerd(version, numbers)
    else:
        yield _judge_builder(version, numbers)
    if containerd:
        yield _judge_buildkit_of_containerd(without_buildkit_cache)
    elif numbers is not None:
        yield _judge_buildkit(version, numbers)
        if _KEEPS_LAYERS[0] <= numbers < _KEEPS_LAYERS[1]:
            yield Finding(
                "saving",
                "ok",
                f"Docker {version} does not free layers that one export saved for several images",
                "on an engine that lives longer than a build, export services one by one with"
                " --no-parents, or restart it before images are removed",
            )


def _judge_builder(version: str, numbers: Version) -> Finding:
    """Judge the classic builder, where a load brings parents."""
    if numbers < _OLDEST:
        return Finding(
            "build cache",
            "warning",
            f"longshore was never tried with Docker {version}; 20.10 is the oldest",
            "update Docker",
        )
    if not _is_fixed(numbers):
        return Finding(
            "build cache",
            "warning",
            f"Docker {version} lacks the fix of CVE-2024-24557: the classic builder takes any"
            " loaded image for its cache, named or not",
            "load images that you trust only, or update to 23.0.10, 24.0.9, 25.0.2 or later, and"
            f" {_CACHE_FROM}",
        )
    return Finding(
        "build cache",
        "ok",
        f"Docker {version}: the classic builder uses loaded images that --cache-from names",
        _CACHE_FROM,
    )


def _judge_builder_of_containerd(version: str, numbers: Version) -> Finding:
    """Judge the classic builder, where a load brings no parents."""
    if numbers < _OLDEST_CONTAINERD:
        return Finding(
            "build cache",
            "warning",
            f"longshore was never tried with images in containerd of Docker {version}; 26.1 is the"
            " oldest",
            "update Docker, or put"
            ' {"features": {"containerd-snapshotter": false}} into its daemon.json',
        )
    fails = "fails" if numbers < _UNTRIED else "may fail"
    return Finding(
        "build cache",
        "ok",
        f"Docker {version}: the classic builder uses loaded images that --cache-from names, but"
        f" {fails} if a step before the last one made no layer",
        f"{_CACHE_FROM}: it leaves such images out",
    )


def _judge_buildkit(version: str, numbers: Version) -> Finding:
    """Judge BuildKit, where it looks at loaded images."""
    if NO_INLINE_CACHE[0] <= numbers < NO_INLINE_CACHE[1]:
        return Finding(
            "BuildKit",
            "warning",
            f"BuildKit of Docker {version} does not find the cache in loaded images"
            " (moby/buildkit#5242)",
            "update to 27.2.0 or later, or build with DOCKER_BUILDKIT=0",
        )
    return Finding(
        "BuildKit",
        "ok",
        "BuildKit uses loaded images that --cache-from names by tag, if they were built with inline"
        " cache",
        "build with --build-arg BUILDKIT_INLINE_CACHE=1, or with DOCKER_BUILDKIT=0",
    )


def _judge_buildkit_of_containerd(without_cache: Sequence[str]) -> Finding:
    """Judge BuildKit, where it looks at registries and caches of its own only."""
    if not without_cache:
        return Finding(
            "BuildKit",
            "ok",
            "BuildKit ignores loaded images here; the services keep BuildKit caches",
            f"{_CACHE_FROM}, or with `longshore build`",
        )
    first = without_cache[0]
    return Finding(
        "BuildKit",
        "warning",
        f"BuildKit ignores loaded images here, so it starts cold with {', '.join(without_cache)}",
        f"give {first} `x-longshore: {{buildkit_cache: .cache/{first}}}`, and {_CACHE_FROM}, or"
        " with `longshore build`",
    )


def _is_fixed(version: Version) -> bool:
    first_fixed = _FIXED.get(version[0])
    return version >= first_fixed if first_fixed else version > max(_FIXED.values())
