"""Providers of AWS credentials on the loopback interface; what they hand out, tests tell them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

from tests.support.faults import LoopbackServer, http_answer, read_request
from tests.support.seaweedfs import Credentials

_PROCESS = """#!/bin/sh
n=$(($(cat "{folder}/count") + 1))
echo $n > "{folder}/count"
[ -f "{folder}/answer.$n" ] || n=last
cat "{folder}/answer.$n"
[ ! -f "{folder}/fails" ] || {{ cat "{folder}/fails" >&2; exit 7; }}
"""
_STS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{AccessKeyId}</AccessKeyId>
<SecretAccessKey>{SecretAccessKey}</SecretAccessKey><SessionToken>{Token}</SessionToken>
<Expiration>{Expiration}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


def handout(
    number: int, lifetime: timedelta, credentials: Credentials | None = None
) -> dict[str, str]:
    """Make the credentials that are handed out the so-manieth time."""
    found = credentials or Credentials(f"KEY{number:05}", f"secret-of-{number:05}-0123456789")
    answer = {
        "Code": "Success",
        "AccessKeyId": found.access_key,
        "SecretAccessKey": found.secret_key,
        "Expiration": (datetime.now(UTC) + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ"),  # noqa: TID251
    }
    return answer if credentials else {**answer, "Token": f"token-{number:05}"}


class Provider(LoopbackServer):
    """A container's endpoint, an instance's metadata and an STS, in one.

    Args:
        lifetimes: of the credentials that are handed out, one after the other; the last again and
            again.

    Attributes:
        asked: how often credentials were handed out.
        tokens: the web identity tokens that were shown to it.
        failure: what is answered instead, if anything.
        slow: nothing is answered before this is set.
    """

    def __init__(self, lifetimes: Sequence[timedelta]) -> None:
        super().__init__()
        self._lifetimes = lifetimes
        self.asked = 0
        self.tokens: list[str] = []
        self.failure: bytes | None = None
        self.slow = asyncio.Event()
        self.slow.set()
        self.waiting = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        self.waiting.set()
        await self.slow.wait()
        writer.write(self.failure or self._answer(request.method, request.path, request.body))
        await writer.drain()

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        as_json = {"Content-Type": "application/json"}
        if path == "/latest/api/token":
            return http_answer(
                200, b"a-token-for-metadata", {"X-aws-ec2-metadata-token-ttl": "600"}
            )
        if path.rstrip("/").endswith("security-credentials"):
            return http_answer(200, b"builder")
        self.asked += 1
        lifetime = self._lifetimes[min(self.asked, len(self._lifetimes)) - 1]
        given = handout(self.asked, lifetime)
        if method == "POST":
            self.tokens += parse_qs(body.decode())["WebIdentityToken"]
            return http_answer(200, _STS.format(**given).encode(), {"Content-Type": "text/xml"})
        return http_answer(200, json.dumps(given).encode(), as_json)


class Process:
    """A `credential_process`, and the configuration that names it."""

    def __init__(
        self,
        folder: Path,
        lifetimes: Sequence[timedelta],
        credentials: Credentials | None = None,
    ) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "count").write_text("0")
        for number, lifetime in enumerate(lifetimes, 1):
            answer = {"Version": 1, **handout(number, lifetime, credentials)}
            if "Token" in answer:
                answer["SessionToken"] = answer.pop("Token")
            for name in (number, "last"):
                (folder / f"answer.{name}").write_text(json.dumps(answer))
        command = folder / "command"
        command.write_text(_PROCESS.format(folder=folder))
        command.chmod(0o755)
        self.config = folder / "config"
        self.config.write_text(f"[default]\ncredential_process = {command}\n")

    @property
    def asked(self) -> int:
        """How often it was run."""
        return int((self._folder / "count").read_text())

    def fail(self, words: str) -> None:
        """Have it fail from now on, with these words on its standard error."""
        (self._folder / "fails").write_text(words)
