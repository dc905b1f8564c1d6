"""Who may ask the sidecar for what.

On the unix socket the file's permissions decide. Over TCP it takes the token: in a header, or, for
a browser, in a cookie that scripts cannot read and that holds no part of it.

A browser also carries the requests of pages that it visits. So a request has to name this sidecar
in `Host`, which a page elsewhere cannot bring about by having its own name resolve to 127.0.0.1
(DNS rebinding); and what changes anything has to come from the sidecar's own page. Another port of
the same machine is another site here, though not to cookies, which know no ports.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from ipaddress import ip_address

from aiohttp import web
from msgspec import Struct

from longshore.service.forms import MAX_BYTES, Form

OPEN = ("/healthz", "/readyz", "/login")
ATTEMPTS = 10  # wrong ones within a period
PERIOD = timedelta(minutes=1)
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = ("GET", "HEAD")
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?"
)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: browsers would send `Origin: null` with the page's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Step = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Asked(Struct, frozen=True):
    """What decides about a request.

    Attributes:
        port: of the listener; `None` for the unix socket.
        path: as the route has it, so that no way of writing it is another path; empty if there is
            no such route.
        hosts: the `Host` headers; there should be one.
        origin: of the page that sent it, if a browser says so; `site` and `mode` are what it says
            in `Sec-Fetch-Site` and `Sec-Fetch-Mode`.
    """

    port: int | None
    method: str
    path: str
    hosts: tuple[str, ...]
    origin: str | None = None
    site: str | None = None
    mode: str | None = None
    authorization: str | None = None
    cookie: str | None = None


class Refusal(Struct, frozen=True):
    """Why a request is not served."""

    status: int
    message: str


class Access:
    """Lets requests in.

    Args:
        token: what those who come over TCP have to know; nobody does if there is none.
        key: random bytes of this start, at least 32.
        hosts: the names or addresses that the sidecar listens on, besides the loopback ones.
        static: paths of what everybody may have, besides `OPEN`.
        form: writes the page that asks for the token, with a message.
        clock: a clock of seconds that never goes back.
    """

    def __init__(
        self,
        token: str | None,
        *,
        key: bytes,
        hosts: Collection[str] = (),
        static: Collection[str] = (),
        form: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        self._key = key
        self._token = None if not token else self._seal("token", token)
        self._hosts = _LOCAL | {host.lower().strip("[]") for host in hosts}
        self._open = frozenset({*OPEN, *static})
        self._form = form
        self._clock = clock
        self._wrong: deque[float] = deque()
        self._session = 0
        """Counts up when somebody leaves, so that no cookie from before is good any more."""

    def add_to(self, app: web.Application) -> None:
        """Guard an application, before all else that it has."""
        app.middlewares.insert(0, self.guard)
        app.on_response_prepare.append(_harden)
        app.add_routes(
            [
                web.get("/login", self.ask),
                web.post("/login", self.enter),
                web.post("/logout", self.leave),
            ]
        )

    def decide(self, asked: Asked) -> Refusal | None:
        """Say why a request is not served; `None` if it is."""
        named = _HOST.fullmatch(asked.hosts[0]) if len(asked.hosts) == 1 else None
        if named is None or not self._is_own(named, asked.port):
            return Refusal(421, "the Host header names another server; use the address of --listen")
        origin = f"http://{asked.hosts[0]}".lower()
        if _is_foreign(asked, origin):
            return Refusal(403, "the request comes from another site's page")
        if asked.port is None:
            return None
        by_header = asked.authorization is not None
        proven = by_header or asked.origin is not None or asked.site is not None
        if asked.method not in _SAFE and not proven:
            return Refusal(
                403, "neither a bearer token nor an Origin header says who sends the request"
            )
        if asked.path in self._open:
            return None
        known = self._knows(asked.authorization) if by_header else self._let_in(asked.cookie)
        return None if known else Refusal(401, "the sidecar's token is needed; see `--token`")

    @web.middleware
    async def guard(self, request: web.Request, handler: Step) -> web.StreamResponse:
        """Serve a request, or refuse it."""
        refusal = self.decide(_asked(request))
        if refusal is None:
            return await handler(request)
        wants_page = "text/html" in request.headers.get("Accept", "")
        if refusal.status == 401 and wants_page and not request.path.startswith("/api/"):
            return self._page("", 401)
        headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
        document = {"schema": 1, "error": {"message": refusal.message}}
        return web.json_response(document, status=refusal.status, headers=headers)

    async def ask(self, _: web.Request) -> web.Response:
        """Show the form that asks for the token."""
        return self._page("", 200)

    async def enter(self, request: web.Request) -> web.Response:
        """Give a cookie to who knows the token."""
        port = _port(request)
        if port is not None:
            status, message = self.attempt(await _field(request, "token"))
            if status != 303:
                answer = self._page(message, status)
                if status == 429:
                    answer.headers["Retry-After"] = f"{PERIOD.total_seconds():.0f}"
                return answer
        answer = web.Response(status=303, headers={"Location": "/"})
        if port is not None:
            answer.set_cookie(
                cookie_name(port), self._pass(), path="/", httponly=True, samesite="Strict"
            )
        return answer

    async def leave(self, request: web.Request) -> web.Response:
        """Take all cookies back."""
        self._session += 1
        answer = web.Response(status=303, headers={"Location": "/"})
        if (port := _port(request)) is not None:
            answer.del_cookie(cookie_name(port), path="/", httponly=True, samesite="Strict")
        return answer

    def attempt(self, given: str) -> tuple[int, str]:
        """Judge a token that somebody typed: the status, and what to say."""
        now = self._clock()
        while self._wrong and now - self._wrong[0] > PERIOD.total_seconds():
            self._wrong.popleft()
        if len(self._wrong) >= ATTEMPTS:
            return 429, "There were too many wrong tokens. Try again in a minute."
        if self._is_token(given):
            return 303, ""
        self._wrong.append(now)
        return 403, "That is not the sidecar's token."

    def _is_own(self, named: re.Match[str], port: int | None) -> bool:
        host = (named["v6"] or named["name"]).lower()
        if port is None:
            # Nobody reaches the socket by a name, unless it is forwarded to a port, as `ssh -L`
            # can. Then a page elsewhere could have its name resolve to that, but not one without
            # a dot, which is nobody's.
            return host in self._hosts or "." not in host
        return _plain(host) in self._hosts and int(named["port"] or 80) == port

    def _knows(self, authorization: str | None) -> bool:
        kind, _, given = (authorization or "").partition(" ")
        return kind.lower() == "bearer" and self._is_token(given.strip())

    def _is_token(self, given: str) -> bool:
        if self._token is None:
            return False
        return hmac.compare_digest(self._seal("token", given), self._token)

    def _let_in(self, cookie: str | None) -> bool:
        if self._token is None or cookie is None:
            return False
        return hmac.compare_digest(cookie.encode(errors="replace"), self._pass().encode())

    def _pass(self) -> str:
        return self._seal("session", f"{self._session}").hex()

    def _seal(self, what: str, text: str) -> bytes:
        message = f"{what}\0{text}".encode(errors="surrogateescape")
        return hmac.digest(self._key, message, hashlib.sha256)

    def _page(self, message: str, status: int) -> web.Response:
        return web.Response(text=self._form(message), status=status, content_type="text/html")


def cookie_name(port: int) -> str:
    """Name the cookie: cookies know no ports, and there may be two sidecars on a machine."""
    return f"longshore-{port}"


def _is_foreign(asked: Asked, origin: str) -> bool:
    """Tell whether a browser says that a page of another site sent a request.

    What leads here from elsewhere, as a link does, is served: it shows a page and changes nothing.
    """
    if asked.origin is not None and asked.origin.lower() != origin:
        return True
    if asked.site in (None, "same-origin", "none"):
        return False
    return asked.method not in _SAFE or asked.mode != "navigate"


def _plain(host: str) -> str:
    """Write an address in one way only."""
    try:
        return str(ip_address(host))
    except ValueError:
        return host


def _asked(request: web.Request) -> Asked:
    resource = request.match_info.route.resource
    headers, port = request.headers, _port(request)
    return Asked(
        port=port,
        method=request.method,
        path=resource.canonical if resource else "",
        hosts=tuple(headers.getall("Host", ())),
        origin=headers.get("Origin"),
        site=headers.get("Sec-Fetch-Site"),
        mode=headers.get("Sec-Fetch-Mode"),
        authorization=headers.get("Authorization"),
        cookie=None if port is None else request.cookies.get(cookie_name(port)),
    )


def _port(request: web.Request) -> int | None:
    """Tell by which port a request came; `None` if it came over the unix socket, for certain."""
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport else None
    if connection is None:
        return -1  # it has gone, and nothing is for whoever it was
    if connection.family == socket.AF_UNIX:
        return None
    return int(connection.getsockname()[1])


async def _field(request: web.Request, name: str) -> str:
    if (request.content_length or 0) > MAX_BYTES:
        return ""
    try:
        return Form(await request.read()).one(name)
    except ValueError:
        return ""


async def _harden(_: web.Request, answer: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers["Server"] = "longshore"  # and not which Python it runs on
