"""What facts about clock, credentials and disk mean for the cache, and what to do about them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from longshore.errors import (
    AccessDenied,
    CorruptData,
    EngineError,
    EngineUnavailable,
    LongshoreError,
    NotBuilt,
    NotCached,
    StoreUnavailable,
    UnsupportedFormat,
    UsageError,
)

Verdict = Literal["ok", "warning", "problem"]

CLOCK_WARNING = timedelta(seconds=5)
CLOCK_PROBLEM = timedelta(minutes=5)  # S3 refuses signatures that are 15 minutes off
EXPIRES_SOON = timedelta(hours=1)
GIB = 1 << 30
DISK_WARNING_BYTES = 5 * GIB
DISK_PROBLEM_BYTES = 1 * GIB


class Finding(Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        advice: what to do; empty if nothing needs to be done.
    """

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""


def judge_clock(ahead: timedelta, uncertainty: timedelta) -> Finding:
    """Judge how far this machine's clock is from the store's.

    Args:
        ahead: how much later it is here; negative if it is earlier.
        uncertainty: by how much `ahead` may be wrong.
    """
    off = max(abs(ahead) - uncertainty, timedelta())
    side = "ahead of" if ahead > timedelta() else "behind"
    if off <= CLOCK_WARNING:
        return Finding("clock", "ok", "this machine and the store agree on the time")
    text = f"this machine's clock is {in_words(abs(ahead))} {side} the store's"
    if off <= CLOCK_PROBLEM:
        return Finding("clock", "warning", text, "let NTP set the clock")
    return Finding(
        "clock",
        "problem",
        f"{text}; S3 refuses requests from 15 minutes on",
        "let NTP set the clock",
    )


def judge_credentials(provider: str | None, expires_at: datetime | None, now: datetime) -> Finding:
    """Judge credentials by where they come from and when they end.

    Args:
        provider: who gave them, for people; `None` if nobody did.
        expires_at: `None` if they do not end, or do not say when.
    """
    if provider is None:
        return Finding(
            "credentials",
            "problem",
            "there are none",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine"
            " a role",
        )
    if expires_at is None:
        return Finding("credentials", "ok", f"from {provider}")
    left = expires_at - now
    if left <= timedelta():
        return Finding(
            "credentials",
            "problem",
            f"those from {provider} expired {in_words(-left)} ago",
            "get new ones",
        )
    text = f"from {provider}, for another {in_words(left)}"
    if left < EXPIRES_SOON:
        return Finding(
            "credentials", "warning", text, "get new ones before a long build, whose export is last"
        )
    return Finding("credentials", "ok", text)


def judge_disk(free_bytes: int) -> Finding:
    """Judge the room on the engine's disk; a load needs it twice: for the archive, and unpacked."""
    text = f"{free_bytes / GIB:.1f} GiB are free"
    if free_bytes >= DISK_WARNING_BYTES:
        return Finding("engine's disk", "ok", text)
    return Finding(
        "engine's disk",
        "warning" if free_bytes >= DISK_PROBLEM_BYTES else "problem",
        f"only {text}; loading takes twice what the images weigh",
        "free some with `docker system prune`, or give the engine a larger disk",
    )


def advice_for(error: LongshoreError) -> str:
    """Say what to do about an error, by its kind."""
    match error:
        case UsageError():
            return "correct the configuration or the services file"
        case UnsupportedFormat():
            return "update longshore"
        case NotBuilt():
            return "build the image"
        case NotCached():
            return "export after the next build"
        case CorruptData():
            return "export again: what is damaged is stored anew"
        case AccessDenied():
            return "check the credentials, and what their policy allows below this prefix"
        case StoreUnavailable():
            return "check the network and --endpoint-url, then try again"
        case EngineUnavailable():
            return "start Docker, or set DOCKER_HOST to where it listens"
        case EngineError():
            return "see the engine's log"
        case _:
            return "check --store and --endpoint-url"


def in_words(time: timedelta) -> str:
    """Write a duration in its largest unit that says enough: `90 s`, `3 h`, `12 days`."""
    seconds = round(time.total_seconds())
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
