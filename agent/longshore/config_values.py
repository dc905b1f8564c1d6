"""How the values of options are written: sizes, durations, stores, lists."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from longshore.core.compression_level import Level
from longshore.core.keys import check_root, is_bucket
from longshore.errors import UsageError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.IGNORECASE)
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?\s*[a-z]*\s*)+", re.IGNORECASE)
_PERIOD = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.IGNORECASE)

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", re.ASCII)

_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,200}", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
MAX_PORT = 65535

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    # As `docker run --memory 512m` takes them.
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
    "t": 1 << 40,
}
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}

LEVELS = range(1, 20)  # beyond 19 zstd takes far more memory; below 1 it saves hardly any time
MAX_DURATION = timedelta(days=7)
MAX_PERIOD = timedelta(days=3650)
CUSTOMER_KEY_BYTES = 32


class BucketLocation(NamedTuple):
    """A place in an S3 bucket."""

    bucket: str
    prefix: str


class FolderLocation(NamedTuple):
    """A place in a file system."""

    path: Path


Location = BucketLocation | FolderLocation


class Listen(NamedTuple):
    """An address to listen on; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_size(text: str) -> int:
    """Read a size such as `256MiB` or `1GB`, in bytes.

    Raises:
        UsageError: it is none.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = _SIZE_UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise UsageError(f"{text[:80]!r} is not a size; write it like 256MiB or 1GB")
    return int(Decimal(found[1]) * unit)


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `90s`, `15m` or `1h30m`; a bare number counts seconds.

    Raises:
        UsageError: it is none, is zero, or is longer than a week: no wait may be without an end.
    """
    duration = _duration(text, "90s, 15m or 1h30m")
    if not timedelta() < duration <= MAX_DURATION:
        raise UsageError(f"{text[:80]!r} is out of range; a duration is more than 0, at most 7d")
    return duration


def parse_level(text: str) -> Level:
    """Read a level of compression: `auto` or a number.

    Raises:
        UsageError: it is neither.
    """
    if text == "auto":
        return "auto"
    level = int(text[:9]) if text.isascii() and text.isdecimal() else 0
    if level not in LEVELS:
        raise UsageError(
            f"expected auto, or a whole number from {LEVELS[0]} to {LEVELS[-1]};"
            f" found {text[:80]!r}"
        )
    return level


def parse_period(text: str) -> timedelta:
    """Read how long something is kept, such as `24h`, `30d` or `2w`.

    A bare number is refused: whoever writes 30 means days, and would get seconds.

    Raises:
        UsageError: it is none, is zero, or longer than ten years.
    """
    duration = _duration(text, "24h, 30d or 2w")
    if re.fullmatch(r"[0-9.\s]+", text):
        raise UsageError(f"{text[:80]!r} has no unit; write it like 24h, 30d or 2w")
    if not timedelta() < duration <= MAX_PERIOD:
        raise UsageError(f"{text[:80]!r} is out of range; it is more than 0, at most 3650d")
    return duration


def parse_grace(text: str) -> timedelta:
    """Read a grace period: as any period, or nothing at all.

    Raises:
        UsageError: it is none.
    """
    return parse_period(text) if _duration(text, "24h, 30d or 2w") else timedelta()


def parse_share(text: str) -> float:
    """Read a share such as `50%`; `0` is one, too.

    Raises:
        UsageError: it is none, or more than all.
    """
    found = re.fullmatch(r"\s*([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%\s*", text, re.ASCII)
    if found is None and text.strip() != "0":
        raise UsageError(f"{text[:80]!r} is not a share; write it like 50%, or 0")
    share = float(found[1]) / 100 if found else 0.0
    if share > 1:
        raise UsageError(f"{text[:80]!r} is more than all; a share is at most 100%")
    return share


def parse_read_share(text: str) -> float:
    """Read a share of what is stored: `10%`, or `all`.

    Raises:
        UsageError: it is neither.
    """
    return 1.0 if text.strip().lower() == "all" else parse_share(text)


def _duration(text: str, examples: str) -> timedelta:
    text = text.strip()
    seconds = Decimal(0)
    wrong = f"{text[:80]!r} is not a duration; write it like {examples}"
    if not _DURATION.fullmatch(text):
        raise UsageError(wrong)
    for number, unit in _PERIOD.findall(text):
        if unit.lower() not in _SECONDS:
            raise UsageError(wrong)
        seconds += Decimal(number) * _SECONDS[unit.lower()]
    try:
        return timedelta(seconds=float(seconds))
    except OverflowError:
        return timedelta.max


def parse_boolean(text: str) -> bool:
    """Read a switch.

    Raises:
        UsageError: it is neither on nor off.
    """
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"{text[:80]!r} is neither true nor false")


def parse_store(url: str) -> Location:
    """Read `s3://bucket/prefix` or `file:///dir`.

    Raises:
        UsageError: it is neither.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise UsageError(
            f"{_quoted(url)} is not a store; write s3://bucket/prefix,"
            " or file:///dir for a folder (with its full path)"
        )
    if scheme.lower() == "s3":
        return _parse_bucket(rest)
    if scheme.lower() == "file":
        return _parse_folder(url)
    raise UsageError(
        f"{scheme[:40]!r} is not a kind of store that longshore knows;"
        " write s3://bucket/prefix or file:///dir"
    )


def _quoted(url: str) -> str:
    """Quote what was given, unless a password may stand in it."""
    return "it" if "@" in url else repr(url[:200])


def _parse_bucket(rest: str) -> BucketLocation:
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        # Not quoted: what stands there is a secret.
        raise UsageError(
            "the store's URL holds credentials; give them in AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, or by a profile"
        )
    if not is_bucket(bucket):
        raise UsageError(f"{bucket[:200]!r} is not a bucket's name; write s3://bucket/prefix")
    if not prefix.isprintable():
        raise UsageError("the store's prefix holds control characters")
    return BucketLocation(bucket, check_root(prefix))


def _parse_folder(url: str) -> FolderLocation:
    # No folder's name is cut at `?` or `#`: they are written %3F and %23.
    host, slash, path = url.partition("://")[2].partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(f"{_quoted(url)} does not hold a full path; write file:///dir")
    plain = unquote(path)
    if "\0" in plain:
        raise UsageError("the store's folder holds a NUL byte")
    return FolderLocation(Path("/" + plain))


def check_endpoint(url: str) -> str:
    """Accept the URL of an S3 server.

    Raises:
        UsageError: it is no such URL, or holds credentials.
    """
    advice = "write it like https://s3.example.com"
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UsageError(f"it is not a URL of a server; {advice}") from None
    if "@" in parts.netloc:
        raise UsageError("the endpoint's URL holds credentials; give them in AWS_ACCESS_KEY_ID")
    if not known or parts.query or parts.fragment:
        raise UsageError(f"{url[:200]!r} is not a URL of a server; {advice}")
    return url


def check_region(name: str) -> str:
    """Accept the name of a region.

    Raises:
        UsageError: no region can have it.
    """
    if not _REGION.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is not a region; write it like eu-west-1")
    return name


def check_kms_key(text: str) -> str:
    """Accept the name of a KMS key, whose form is the server's business.

    Raises:
        UsageError: no header can hold it.
    """
    if not re.fullmatch(r"[!-~]{1,2048}", text):
        raise UsageError("it is no name of a KMS key; give its ARN, its id, or alias/…")
    return text


def customer_key(data: bytes) -> bytes | None:
    """Read a key of 32 bytes, as they are or in base64; `None` if it is none."""
    if len(data) == CUSTOMER_KEY_BYTES:
        return data
    try:
        key = base64.b64decode(data.strip(), validate=True)
    except ValueError:
        return None
    return key if len(key) == CUSTOMER_KEY_BYTES else None


def is_customer_key(text: str) -> bool:
    """Tell the text of a key from the name of its file."""
    return len(text) > CUSTOMER_KEY_BYTES and customer_key(text.encode()) is not None


def is_pem(text: str) -> bool:
    """Tell the text of a key from the name of its file."""
    return text.lstrip().startswith("-----BEGIN")


def is_token(text: str) -> bool:
    """Tell a token from the name of its file."""
    return _TOKEN.fullmatch(text.strip()) is not None


def parse_listen(text: str) -> Listen:
    """Read a loopback address with a port, such as `127.0.0.1:8080` or `[::1]:8080`.

    Raises:
        UsageError: it is none, or others than this machine can reach it.
    """
    host, colon, port = text.strip().rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        import ipaddress  # not before somebody wants to listen

        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if not colon or address is None or not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        raise UsageError(f"{text[:80]!r} is no address; write it like 127.0.0.1:8080")
    if not address.is_loopback:
        raise UsageError(
            f"{text[:80]!r} can be reached from outside; listen on 127.0.0.1, and let a reverse"
            " proxy with TLS pass on what others may see"
        )
    return Listen(str(address), int(port))


def public_key_or_file(text: str) -> str:
    """Accept a public key in short form, or the name of its file.

    Raises:
        UsageError: it is the text of a file.
    """
    if not text.strip() or "-----" in text or "PRIVATE KEY" in text:
        raise UsageError("it is no public key: write it like ed25519:…, or name its file")
    return text
