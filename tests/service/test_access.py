"""Who may ask the sidecar for what: each way in, and each way that is none."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.support.fake_jobs import NOW, FakeCache, FakeJobs
from tests.support.page_app import TOKEN, Clock, PageApp

from longshore.service.access import Access, Asked, cookie_name

PORT = 8080
OWN = f"127.0.0.1:{PORT}"
BEARER = f"Bearer {TOKEN}"


def access(token: str | None = TOKEN, **changes: Any) -> Access:
    given: dict[str, Any] = {"key": b"k" * 32, "form": str, "clock": Clock(), **changes}
    return Access(token, **given)


def status(guard: Access | None = None, **changes: Any) -> int:
    """Ask as the page in a browser would, but for what is changed; 200 if it is let in."""
    asked: dict[str, Any] = {
        "port": PORT,
        "method": "GET",
        "path": "/",
        "hosts": (OWN,),
        "authorization": BEARER,
        **changes,
    }
    refusal = (guard or access()).decide(Asked(**asked))
    return refusal.status if refusal else 200


@pytest.mark.parametrize("host", [OWN, f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_whoever_names_the_sidecar_and_knows_the_token_is_let_in(host: str) -> None:
    assert status(hosts=(host,)) == 200


@pytest.mark.parametrize(
    "hosts",
    [
        (f"evil.example:{PORT}",),  # a name that resolves to 127.0.0.1
        (f"127.0.0.1.nip.example:{PORT}",),
        (f"localhost.:{PORT}",),
        (f"localhost.evil.example:{PORT}",),
        ("localhost:8081",),  # another server of this machine
        ("localhost",),
        (f"192.0.2.7:{PORT}",),
        (f"0.0.0.0:{PORT}",),
        (f"evil.example@localhost:{PORT}",),
        (f"localhost:{PORT}/",),
        (f"localhost:{PORT},evil.example",),
        ("",),
        (),
        (OWN, f"evil.example:{PORT}"),
        ("localhost:٨٠٨٠",),
    ],
)
@pytest.mark.parametrize("path", ["/", "/healthz", "/login", "/api/v1/jobs"])
def test_a_request_that_names_another_host_is_refused_token_or_not(
    hosts: tuple[str, ...], path: str
) -> None:
    assert status(hosts=hosts, path=path) == 421


def test_a_host_that_was_given_to_listen_counts_however_it_is_written() -> None:
    guard = access(hosts=("::ffff:0:1", "build-7.example"))

    assert status(guard, hosts=(f"[::FFFF:0:1]:{PORT}",)) == 200
    assert status(guard, hosts=(f"build-7.example:{PORT}",)) == 200
    assert status(guard, hosts=("build-7.example:1",)) == 421


def test_port_80_need_not_be_named() -> None:
    assert status(port=80, hosts=("localhost",)) == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN} {TOKEN}",
        "Bearer ü\udcff",
    ],
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/openapi.json", "/api/v1/jobs", ""])
def test_without_the_token_nothing_is_told(authorization: str | None, path: str) -> None:
    assert status(authorization=authorization, path=path) == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/login"])
def test_health_and_the_form_are_for_everybody(path: str) -> None:
    assert status(authorization=None, path=path) == 200


def test_without_a_token_nobody_is_let_in_over_tcp() -> None:
    guard = access(token=None)

    assert status(guard, authorization="Bearer ") == 401
    assert status(guard, authorization=BEARER) == 401
    assert guard.attempt("")[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "said",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"https://{OWN}"},
        {"origin": "http://127.0.0.1:3000"},  # to cookies, the same site
        {"origin": f"http://localhost:{PORT}"},  # another name than the one it asks
        {"site": "cross-site", "mode": "navigate"},
        {"site": "same-site", "mode": "navigate"},
        {"site": "same-origin", "origin": "http://evil.example"},
        {"site": "cross-site", "origin": f"http://{OWN}"},
        {"site": "surprise"},
    ],
)
@pytest.mark.parametrize("path", ["/jobs", "/login", "/healthz"])
def test_what_another_page_sends_is_refused_token_or_not(
    method: str, said: dict[str, Any], path: str
) -> None:
    assert status(method=method, path=path, **said) == 403


@pytest.mark.parametrize("said", [{"site": "same-origin"}, {"origin": f"http://{OWN}"}, {}])
def test_the_own_page_and_programs_with_the_token_may_change_things(said: dict[str, Any]) -> None:
    assert status(method="POST", **said) == 200


def test_a_post_that_says_nothing_of_its_origin_takes_the_token_in_a_header() -> None:
    assert status(method="POST", authorization=None, cookie="whatever") == 403


def test_a_page_elsewhere_may_lead_here_but_not_fetch_from_here() -> None:
    assert status(site="cross-site", mode="navigate") == 200
    assert status(site="same-site", mode="no-cors") == 403
    assert status(site="cross-site", mode="cors", origin="http://evil.example") == 403
    assert status(origin="http://evil.example") == 403


def test_on_the_unix_socket_no_token_is_needed() -> None:
    for host in ("localhost", "longshore", f"localhost:{PORT}"):
        assert status(port=None, method="POST", hosts=(host,), authorization=None) == 200


def test_a_browser_behind_a_forwarded_unix_socket_gets_no_further_than_over_tcp() -> None:
    assert status(port=None, hosts=("evil.example:8080",), authorization=None) == 421
    assert status(port=None, method="POST", origin="http://evil.example") == 403


def test_ten_wrong_tokens_a_minute_and_then_not_even_the_right_one() -> None:
    clock = Clock()
    guard = access(clock=clock)

    assert [guard.attempt(f"wrong {n}")[0] for n in range(10)] == [403] * 10
    assert guard.attempt("wrong")[0] == guard.attempt(TOKEN)[0] == 429
    clock.seconds += 61
    assert guard.attempt(TOKEN)[0] == 303


# Over the wire.


@pytest.fixture
async def app() -> AsyncIterator[PageApp]:
    with tempfile.TemporaryDirectory(prefix="ls-") as folder:
        app = PageApp(FakeJobs(FakeCache()), lambda: NOW)
        async with app.served(unix=f"{folder}/s"):
            app.flags["socket"] = f"{folder}/s"
            yield app


@pytest.fixture
async def client(app: PageApp) -> AsyncIterator[aiohttp.ClientSession]:
    # Cookies of addresses instead of names are kept by browsers, too.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(app.url, cookie_jar=jar) as client:
        yield client


async def enter(client: aiohttp.ClientSession, app: PageApp, token: str) -> aiohttp.ClientResponse:
    return await client.post(
        "/login", data={"token": token}, headers={"Origin": app.url}, allow_redirects=False
    )


async def test_the_token_gives_a_cookie_that_opens_the_page(
    app: PageApp, client: aiohttp.ClientSession
) -> None:
    first = await client.get("/", headers={"Accept": "text/html"})
    entered = await enter(client, app, TOKEN)
    page = await client.get("/")

    assert (first.status, first.content_type) == (401, "text/html")
    assert 'name="token"' in await first.text()
    assert (entered.status, entered.headers["Location"]) == (303, "/")
    assert page.status == 200


async def test_the_cookie_is_kept_from_scripts_and_sites_and_holds_no_token(
    app: PageApp, client: aiohttp.ClientSession
) -> None:
    entered = await enter(client, app, TOKEN)

    cookie = entered.headers["Set-Cookie"]
    name, _, rest = cookie.partition("=")
    value, *attributes = rest.split("; ")
    assert name == f"longshore-{app.port}" == cookie_name(app.port)
    assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=Strict"}
    assert len(value) == 64
    assert TOKEN not in cookie


async def test_another_start_of_the_sidecar_takes_no_cookie_of_this_one(
    app: PageApp, client: aiohttp.ClientSession
) -> None:
    await enter(client, app, TOKEN)
    (cookie,) = client.cookie_jar
    said = {"cookie": cookie.value, "authorization": None}

    assert status(access(), **said) == 200
    assert status(access(key=b"l" * 32), **said) == 401
    assert status(access(token="another"), **said) == 200


async def test_who_leaves_takes_the_cookie_s_worth_along(
    app: PageApp, client: aiohttp.ClientSession
) -> None:
    await enter(client, app, TOKEN)
    (cookie,) = client.cookie_jar
    copied = {"Cookie": f"{cookie.key}={cookie.value}"}

    left = await client.post("/logout", headers={"Origin": app.url}, allow_redirects=False)

    assert left.status == 303
    assert not list(client.cookie_jar)
    assert (await client.get("/", headers=copied)).status == 401


async def test_a_wrong_token_shows_the_form_again_and_too_many_are_refused(
    app: PageApp, client: aiohttp.ClientSession
) -> None:
    answers = [await enter(client, app, f"wrong {n}") for n in range(11)]

    assert [answer.status for answer in answers] == [403] * 10 + [429]
    assert "not the sidecar's token" in (await answers[0].text()).replace("&#39;", "'")
    assert "Set-Cookie" not in answers[0].headers
    assert answers[-1].headers["Retry-After"] == "60"
    assert "Try again in a minute" in await answers[-1].text()


@pytest.mark.parametrize("body", [b"\xff\xfe=%ff", b"token=" + b"x" * 100_000, b"&" * 5000, b""])
async def test_a_form_that_is_none_is_a_wrong_token(
    app: PageApp, client: aiohttp.ClientSession, body: bytes
) -> None:
    answer = await client.post("/login", data=body, headers={"Origin": app.url})

    assert answer.status == 403


async def test_programs_are_refused_in_json(client: aiohttp.ClientSession) -> None:
    for path in ("/api/v1/jobs/x/events", "/metrics", "/nowhere"):
        answer = await client.get(path)

        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "token" in (await answer.json())["error"]["message"]


async def test_the_bearer_token_opens_everything(
    app: PageApp, client: aiohttp.ClientSession
) -> None:
    known = {"Authorization": BEARER}

    assert (await client.get("/", headers=known)).status == 200
    assert (await client.get("/metrics", headers=known)).status == 200
    assert (await client.get("/nowhere", headers=known)).status == 404
    sent = {"command": "import"}
    answer = await client.post("/jobs", data=sent, headers=known, allow_redirects=False)
    assert answer.status == 303
    assert (await client.get("/healthz")).status == 200


async def test_the_name_of_another_host_is_refused_on_the_wire(
    client: aiohttp.ClientSession,
) -> None:
    foreign = {"Host": "evil.example", "Authorization": BEARER}

    assert (await client.get("/", headers=foreign)).status == 421
    assert (await client.get("/healthz", headers=foreign)).status == 421


@pytest.mark.parametrize("path", ["/static/../api/v1/jobs/x/events", "/%2e/metrics", "//metrics"])
async def test_no_way_of_writing_a_path_gets_around_the_token(app: PageApp, path: str) -> None:
    from yarl import URL

    async with aiohttp.ClientSession() as client:
        answer = await client.get(URL(f"{app.url}{path}", encoded=True))

    assert answer.status == 401


async def test_every_answer_tells_browsers_to_be_careful(
    app: PageApp, client: aiohttp.ClientSession
) -> None:
    for path, cache in (
        ("/", "no-store"),
        ("/healthz", "no-store"),
        ("/nowhere", "no-store"),
        ("/login", "no-store"),
        ("/static/style.css", "no-cache"),
    ):
        answer = await client.get(path)

        assert answer.headers["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
            "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == cache
        assert answer.headers["Server"] == "longshore"
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_the_unix_socket_needs_no_token_and_has_the_page_as_well(app: PageApp) -> None:
    socket = app.flags["socket"]
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket)) as client:
        page = await client.get("http://localhost/")
        started = await client.post(
            "http://localhost/jobs", data={"command": "import"}, allow_redirects=False
        )

    assert page.status == 200
    assert "Sign out" not in await page.text()
    assert started.status == 303


async def test_the_token_is_in_no_page_log_or_address(
    app: PageApp, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "wrong-horse-battery-staple"

    answers = [await enter(client, app, wrong), await enter(client, app, TOKEN)]
    answers.append(await client.get("/", headers={"Authorization": BEARER}))
    answers.append(await client.get("/login"))

    for answer in answers:
        told = f"{answer.url}{dict(answer.headers)}{await answer.text()}{caplog.text}"
        assert TOKEN not in told
        assert wrong not in told
