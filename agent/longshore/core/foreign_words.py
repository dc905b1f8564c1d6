"""Words of servers and libraries, made fit for a message: one line, and no secret in it.

Servers quote what they were sent. What was sent is known, so it is looked for; what looks like a
secret is left out besides.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import quote, urlsplit

_LONGEST = 300
_LEAST_SECRET = 6  # shorter ones would be found in the middle of words

_NAMES = (
    r"(?:aws)?-?access-?key-?id|(?:x-amz-)?credential|(?:x-amz-)?signature(?:-?provided)?"
    r"|[a-z_-]*token|[a-z_-]*secret[a-z_-]*|[a-z_-]*passw(?:or)?d|authorization"
    r"|x-amz-server-side-encryption-customer-key(?:-md5)?|sse-?customer-?key(?:-?md5)?"
)
_SECRETS = re.compile(
    r"-----BEGIN.*?(?:-----END[^-]*-----|$)"
    r"|\b(?:AKIA|ASIA|AROA)[A-Z0-9]{12,}\b"
    r"|\bAWS4-HMAC-SHA256\b.*?(?:Signature=[0-9a-fA-F]+|$)"
    r"|\beyJ[\w-]{5,}(?:\.[\w-]*){0,2}"  # a JSON web token
    # A name and its value: in a header, a query, JSON or XML. A scheme of two words is one value.
    rf"""|(?i:(?<![\w-])["']?(?:{_NAMES})["']?\s*(?:[=:]|>)\s*["']?(?:(?:Bearer|Basic)\s+)?[^\s"'<&,;]+)"""
    r"|[A-Za-z0-9/+=_%-]{40,}"  # long enough for a secret key, a signature or a session token
)
# What a request says that nobody else may know.
_SECRET_HEADERS = (
    "x-amz-security-token",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
)
_PARTS_OF_AUTHORIZATION = re.compile(r"(?:Credential|Signature)=([^/,\s]+)")


def one_line(text: str, sent: Collection[str] = ()) -> str:
    """Make one short line of foreign words, without anything that could be a secret.

    Args:
        sent: secrets that the request held, which an answer may quote.
    """
    line = " ".join(text.split())
    line = hide(line, sent)
    line = re.sub(r"https?://\S+", lambda url: without_secrets(url.group()), line)
    line = hide_what_looks_secret(line)
    line = "".join(character for character in line if character.isprintable())
    return line.rstrip(".")[:_LONGEST]


def hide_what_looks_secret(text: str) -> str:
    """Leave out what has the form of a secret, or is called one."""
    return _SECRETS.sub("…", text)


def hide(text: str, secrets: Collection[str]) -> str:
    """Leave out known secrets, also as URLs, HTML and XML write them; longer ones first."""
    if not secrets:
        return text
    from html import escape  # brings the names of all characters along

    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            for written in (secret, quote(secret, safe=""), quote(secret), escape(secret)):
                text = text.replace(written, "…")
    return text


def secrets_of(headers: Mapping[str, str | bytes]) -> set[str]:
    """Find the secrets in the headers of a request that is sent."""
    found: set[str] = set()
    for name, value in headers.items():
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        if name.lower() in _SECRET_HEADERS:
            found.add(text)
        elif name.lower() == "authorization":
            found |= {text, *_PARTS_OF_AUTHORIZATION.findall(text)}
    return found


def without_secrets(url: str) -> str:
    """Keep the server's name of a URL."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "…"


def endpoint_name(endpoint_url: str | None, otherwise: str = "Amazon S3") -> str:
    """Name an endpoint for people: without a password that its URL may hold."""
    return without_secrets(endpoint_url) if endpoint_url else otherwise
