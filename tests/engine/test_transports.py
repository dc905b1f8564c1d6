"""The engine is found over TCP, with and without TLS, as the Docker SDK resolves it."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.engine_fixtures import FreshEngine
from tests.support.cache import export, import_, service
from tests.support.images import import_busybox
from tests.support.loop_thread import all_accepted

from longshore.engine.docker import DockerEngine
from longshore.store.directory import DirectoryStore

WEB = service("web", "web:1")


@asynccontextmanager
async def forwarded(socket: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Forward a port of loopback to an engine's socket."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(socket)
            async with asyncio.TaskGroup() as group:
                up = group.create_task(pump(reader, back))
                await pump(there, writer)
                up.cancel()
        except* OSError:
            pass
        finally:
            back.close()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await all_accepted()


def make_certificates(folder: Path) -> ssl.SSLContext:
    """Write what DOCKER_CERT_PATH holds; one self-signed certificate serves both sides."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    for file in ("ca.pem", "cert.pem"):
        (folder / file).write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_images_are_moved_and_events_followed_over_tcp(
    secure: bool, fresh_engine: FreshEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = fresh_engine(), fresh_engine()
    import_busybox(before.api, "web:1")
    store = DirectoryStore(tmp_path / "store")
    tls = make_certificates(tmp_path) if secure else None
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # to requests they go before the SDK's
        monkeypatch.delenv(name, raising=False)
    if secure:
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))

    async with (
        forwarded(before.host.removeprefix("unix://"), tls) as old,
        forwarded(after.host.removeprefix("unix://"), tls) as new,
    ):
        for port, move in ((old, export), (new, import_)):
            monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
            engine = DockerEngine()
            await move(engine, store, [WEB])
            await engine.close()
        engine = DockerEngine()
        async with aclosing(engine.events()) as events:
            assert await anext(events) is None
            after.api.images.get("web:1").tag("web", "2")
            event = await anext(events)
            assert event is not None
            assert event.name == "web:2"
            before_cancel = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(events)
            assert time.monotonic() - before_cancel < 1
        await engine.close()

    assert after.api.images.get("web:1").id == before.api.images.get("web:1").id
