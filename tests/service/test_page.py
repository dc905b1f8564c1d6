"""The page as it is sent, and what its forms do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests.cli.conftest import COMPOSE, STEPS, Shell
from tests.support.fake_jobs import NOW, Cached, FakeCache, FakeJobs, error_document
from tests.support.page_app import TOKEN, PageApp

from longshore.cli_task import perform_task
from longshore.core.ids import new_id
from longshore.service import page_data
from longshore.service.jobs import Jobs
from longshore.service.process import Forks
from longshore.service.task import Line, Outcome, Task

LAYERS = (("a" * 64, 100, "FROM debian", ()),)
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'onmouseover='alert(1)",
    "{{ 7 * 7 }}",
    "</textarea></dialog></main>",
    "javascript:alert(1)",
    "a\x00b\x1b[31m\u202e",
    "&lt;b&gt;",
    "\ud800",
]


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes)
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


class Visitor:
    """Whoever knows the token, without scripts."""

    def __init__(self, app: PageApp, client: TestClient[Any, Any]) -> None:
        self.app = app
        self._client = client
        self._known = {"Authorization": f"Bearer {TOKEN}"}

    @property
    def jobs(self) -> FakeJobs:
        assert isinstance(self.app.jobs, FakeJobs)
        return self.app.jobs

    async def get(self, path: str = "/", status: int = 200) -> str:
        answer = await self._client.get(path, headers=self._known)
        assert answer.status == status
        return await answer.text()

    async def post(self, path: str, **fields: Any) -> aiohttp.ClientResponse:
        return await self._client.post(
            path, data=fields, headers=self._known, allow_redirects=False
        )


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    cache = FakeCache([Cached("web", "pr:17", layers=LAYERS)], ["web=acme/web", "api=acme/api"])
    app = PageApp(FakeJobs(cache), lambda: NOW)
    async with TestClient(TestServer(app.build())) as client:
        yield Visitor(app, client)


async def test_the_page_names_project_scopes_services_and_jobs(visitor: Visitor) -> None:
    visitor.jobs.run(Task("export", ("web",)), Line("web: saving"))

    page = Elements(await visitor.get())

    for text in ("shop", "pr:17", "main", "web", "100.0 MB", "FROM debian", "Export web"):
        assert text in page.text
    assert "web: saving" in page.text
    assert {"data-events": "/api/v1/jobs/job1/events", "data-after": "1"}.items() <= next(
        article for article in page.all("article")
    ).items()


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_stay_texts(visitor: Visitor, name: str) -> None:
    plain = Elements(await visitor.get())
    cache = visitor.jobs.cache
    cache.entries = [
        Cached(
            name,
            name,
            platform=name,
            layers=((name, 1, name, (name,)),),
            tags=(name,),
            branch=name,
            revision=name,
            job_url=name,
        ),
        Cached("", name, platform="", kind=None, problem=name),
    ]
    cache.images, cache.project, cache.scope, cache.fallback = [f"{name}=x"], name, name, [name]
    job = visitor.jobs.run(Task("export", (name,)), Line(name, "warning"))
    job.reason = name
    visitor.jobs.change(job, "failed")
    visitor.jobs.run(Task("import", (name,)), Line(name))

    page = Elements(await visitor.get())

    known = {tag for tag, _ in plain.tags} | {"article", "progress", "ol", "time", "noscript"}
    assert {tag for tag, _ in page.tags} <= known | {"summary", "details", "table", "svg", "rect"}
    for _, attributes in page.tags:
        assert not [attribute for attribute in attributes if attribute.startswith("on")]
        assert not (attributes.get("href") or "").startswith("javascript")
    assert [image["src"] for image in page.all("img")] == ["/static/icon.svg"]
    assert [script["src"] for script in page.all("script")] == ["/static/page.js"]
    assert "49" not in page.text
    labels = "".join(f"{a.get('title')}{a.get('aria-label')}" for _, a in page.tags)
    assert not {"\x00", "\x1b", "\u202e"} & set(page.text + labels)


async def test_an_error_is_a_line_on_the_page_and_jobs_are_there_all_the_same(
    visitor: Visitor,
) -> None:
    visitor.jobs.cache.error = error_document("StoreUnavailable", "the store <is> away")
    visitor.jobs.run(Task("import"))

    text = await visitor.get()

    assert text.count("the store &lt;is&gt; away") == 1
    assert "Import all services" in text


async def test_a_command_that_crashes_or_hangs_is_a_line_on_the_page(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor.jobs.crashes = True
    assert "`longshore list` crashed; see the sidecar&#39;s log" in await visitor.get()

    async def hang(_: Task) -> Outcome | None:
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr(page_data, "ANSWER", timedelta(milliseconds=10))
    monkeypatch.setattr(visitor.jobs, "ask", hang)
    visitor.app.clock.seconds += 6
    assert "`longshore list` has come to no end within 0 s" in await visitor.get()


async def test_an_empty_cache_says_what_to_do(visitor: Visitor) -> None:
    visitor.jobs.cache.entries = []
    assert "Nothing is cached yet." in await visitor.get()

    visitor.jobs.cache.images = []
    visitor.app.clock.seconds += 6
    assert "No service is cached here." in await visitor.get()


async def test_reloads_ask_nothing_for_five_seconds_or_until_a_job_has_ended(
    visitor: Visitor,
) -> None:
    async def asked() -> list[str]:
        visitor.jobs.asked.clear()
        await asyncio.gather(*[visitor.get() for _ in range(4)])  # noqa: TID251
        return sorted(task.command for task in visitor.jobs.asked)

    assert await asked() == ["config", "list", "show"]
    assert await asked() == []
    visitor.app.clock.seconds += 6
    assert await asked() == ["config", "list"]  # and what `show` said still holds

    job = visitor.jobs.run(Task("export"))
    assert await asked() == []
    visitor.jobs.cache.entries[0].older += 1
    visitor.jobs.change(job, "succeeded")
    assert await asked() == ["config", "list", "show"]


async def test_what_failed_is_asked_again(visitor: Visitor) -> None:
    visitor.jobs.cache.show_errors["web"] = error_document("StoreUnavailable", "not now")
    assert "not now" in await visitor.get()

    visitor.jobs.cache.show_errors.clear()
    visitor.app.clock.seconds += 6
    assert "not now" not in await visitor.get()


async def test_the_sidecar_s_own_settings_go_with_each_task(visitor: Visitor) -> None:
    visitor.app.flags["store"] = "file:///x"

    await visitor.get()
    await visitor.post("/jobs", command="export", service="web")

    assert all(task.flags["store"] == "file:///x" for task in visitor.jobs.asked)
    assert visitor.jobs.tasks == [Task("export", ("web",), {"store": "file:///x"})]


async def test_a_button_starts_a_job_and_leads_to_it(visitor: Visitor) -> None:
    answer = await visitor.post("/jobs", command="import")

    assert (answer.status, answer.headers["Location"]) == (303, "/#job-job1")
    assert visitor.jobs.tasks == [Task("import")]


@pytest.mark.parametrize("command", ["flush", "prune", "list", "", "<b>"])
async def test_only_imports_and_exports_are_started(visitor: Visitor, command: str) -> None:
    answer = await visitor.post("/jobs", command=command)

    assert answer.status == 400
    assert visitor.jobs.tasks == []


async def test_a_job_is_cancelled(visitor: Visitor) -> None:
    job = visitor.jobs.run(Task("export"))

    assert (await visitor.post(f"/jobs/{job.id}/cancel")).status == 303
    assert job.state == "cancelled"
    assert (await visitor.post("/jobs/nobody/cancel")).status == 404


async def test_a_flush_is_asked_for_first_and_then_done_in_the_own_scope_only(
    visitor: Visitor,
) -> None:
    asking = Elements(await visitor.get("/flush?service=web"))
    fields = {
        str(given["name"]): given["value"]
        for given in asking.all("input")
        if given["type"] == "hidden"
    }
    assert "Flush web?" in asking.text
    assert visitor.jobs.tasks == []

    answer = await visitor.post("/flush", **fields)

    assert answer.status == 303
    assert visitor.jobs.tasks == [Task("flush", ("web",), {"scope": "pr:17", "yes": True})]


async def test_all_services_are_flushed_if_none_is_named(visitor: Visitor) -> None:
    await visitor.post("/flush", scope="pr:17", confirm="yes", service="")

    assert visitor.jobs.tasks == [Task("flush", (), {"scope": "pr:17", "yes": True})]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"scope": "pr:17"}, 400),
        ({"scope": "pr:17", "confirm": "no"}, 400),
        ({"scope": "main", "confirm": "yes"}, 409),
        ({"confirm": "yes"}, 409),
        ({"scope": "pr:17", "confirm": "yes", "service": "x" * 256}, 400),
    ],
)
async def test_a_flush_of_another_scope_or_without_a_word_is_refused(
    visitor: Visitor, fields: dict[str, str], status: int
) -> None:
    answer = await visitor.post("/flush", **fields)

    assert answer.status == status
    assert 'role="alert"' in await answer.text()
    assert visitor.jobs.tasks == []


async def test_without_a_known_scope_there_is_no_flush(visitor: Visitor) -> None:
    visitor.jobs.cache.scope = None

    assert "Flush" not in Elements(await visitor.get()).text
    await visitor.get("/flush", 409)
    assert (await visitor.post("/flush", scope="", confirm="yes")).status == 409


async def test_a_sidecar_that_ends_takes_no_work_and_shows_no_buttons(visitor: Visitor) -> None:
    visitor.jobs.closed = True

    page = Elements(await visitor.get())
    assert "takes no more work" in page.text
    assert page.all("button") == []
    assert (await visitor.post("/jobs", command="import")).status == 503


async def test_changes_tells_when_a_job_has_changed(visitor: Visitor) -> None:
    before = await visitor.get("/changes")
    assert before == await visitor.get("/changes")

    visitor.jobs.run(Task("import"))
    after = await visitor.get("/changes")

    assert after != before
    assert Elements(await visitor.get()).all("main")[0]["data-signature"] == after


@pytest.mark.parametrize("path", ["/static/style.css", "/static/page.js", "/static/icon.svg"])
async def test_assets_are_served_and_name_nothing_outside(visitor: Visitor, path: str) -> None:
    text = await visitor.get(path)

    assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
    assert "@import" not in text


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A project with two services of which one is cached; the flags that name it."""
    flags = {
        "store": f"file://{tmp_path}/store",
        "scope": "main",
        "services": str(tmp_path / "compose.yaml"),
        "project": "shop",
    }
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    shell = Shell(tmp_path, {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    shell.engine.build([*STEPS, ("COPY . .", {"app.js": b"one"})], "shop/web:1")
    given = [f"--{name}={value}" for name, value in flags.items()]
    assert shell("export", "web", *given) == 0, shell.err
    monkeypatch.chdir(tmp_path)
    return flags


async def test_the_page_shows_what_the_real_commands_tell_of_a_real_store(
    shop: dict[str, Any],
) -> None:
    forks = Forks(perform_task, preload=["longshore.cli_preloaded"])
    await asyncio.to_thread(forks.prepare)
    jobs = Jobs(
        forks,
        now=lambda: NOW,
        make_id=lambda: new_id(NOW, b"0123456789"),
    )
    app = PageApp(jobs, lambda: NOW, shop)

    async with TestClient(TestServer(app.build())) as client:
        visitor = Visitor(app, client)
        text = Elements(await visitor.get()).text
        for told in ("shop", "web", "hit", "RUN npm ci", "COPY . .", "not cached yet"):
            assert told in text

        await visitor.post("/flush", scope="main", confirm="yes", service="web")
        (job,) = jobs.all
        await job.wait()
        flushed = Elements(await visitor.get()).text

    assert job.state == "succeeded", job.reason
    assert "flushed; the next export fills it again" in flushed
    assert "1 service flushed" in flushed
