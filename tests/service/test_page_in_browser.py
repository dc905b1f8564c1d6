"""The page in Chromium: what a person sees and does, with a mouse, a keyboard or a phone."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect
from tests.support.browser_fixtures import Beside
from tests.support.fake_jobs import NOW, Cached, FakeCache, FakeJobs, error_document
from tests.support.page_app import TOKEN, PageApp

from longshore.service.task import Line, Progress, Task

MB = 1_000_000
FLUSH_WEB = Task("flush", ("web",), {"scope": "pr:17", "yes": True})
LONG = "an-extraordinarily-long-name-of-a-service-that-has-no-end-in-sight-" * 2
LAYERS = (
    ("a" * 64, 118, "FROM debian:12-slim", ("api",)),
    ("b" * 64, 342, "RUN npm ci && " * 20, ()),
)
# The contrast of every text with what lies behind it, by WCAG's formula; the lowest ones.
CONTRASTS = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => channels(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if ((channels(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !one.checkVisibility()) continue;
    const pair = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    found.push([ratio, walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""


@dataclass
class Visit:
    """Somebody who looks at the page in a browser of their own."""

    beside: Beside
    browser: Browser
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    refused: int = 0
    """How often the browser may say that it was refused something."""

    @property
    def url(self) -> str:
        return self.beside.app.url

    @property
    def jobs(self) -> FakeJobs:
        assert isinstance(self.beside.app.jobs, FakeJobs)
        return self.beside.app.jobs

    def do(self, action: Any, *arguments: Any) -> Any:
        """Have the sidecar do something."""
        return self.beside.do(lambda: action(*arguments))

    def context(self, *, known: bool = True, **options: Any) -> BrowserContext:
        context = self.browser.new_context(**options)
        context.set_default_timeout(5000)
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", self._hear)
        context.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        if known:
            entered = context.request.post(
                f"{self.url}/login", form={"token": TOKEN}, headers={"Origin": self.url}
            )
            assert entered.ok
        return context

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type not in ("error", "warning"):
            return  # hints to developers
        if self.refused and "Failed to load resource" in said.text:
            self.refused -= 1
        else:
            self.complaints.append(said.text)

    def page(self, path: str = "/", **options: Any) -> Page:
        page = self.context(**options).new_page()
        page.goto(f"{self.url}{path}")
        return page


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """A sidecar with two warm services; in the end, no browser complained or asked elsewhere."""
    cache = FakeCache(
        [
            Cached("web", "pr:17", layers=LAYERS, tags=("acme/web:1",)),
            Cached("api", layers=LAYERS[:1], older=2),
        ],
        ["web=acme/web:1", "api=acme/api:1", "docs=acme/docs"],
    )
    with Beside(PageApp(FakeJobs(cache), lambda: NOW)) as beside:
        visit = Visit(beside, browser)
        yield visit
        for context in browser.contexts:
            context.close()
    outside = [url for url in visit.asked if not url.startswith((visit.url, "data:"))]
    assert (outside, visit.complaints) == ([], [])


def scrolls_sideways(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def test_signing_in_with_the_token_shows_the_page_and_signing_out_ends_it(visit: Visit) -> None:
    visit.refused = 3
    page = visit.page(known=False)
    page.get_by_label("The sidecar's token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not the sidecar's token.")

    page.get_by_label("The sidecar's token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", name="shop")).to_be_visible()
    assert page.url == f"{visit.url}/"
    assert page.evaluate("document.cookie") == ""
    assert TOKEN not in page.content()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("The sidecar's token")).to_be_focused()


def test_services_are_shown_with_what_a_build_finds_and_their_layers(visit: Visit) -> None:
    page = visit.page()

    web = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="web"))
    expect(web).to_contain_text("hit")
    expect(web).to_contain_text("from pr:17, 2 hours ago")
    expect(web.get_by_role("table")).to_be_hidden()
    web.get_by_text("2 layers, 1 shared with other services (118.0 MB)").click()
    expect(web.get_by_role("row").nth(1)).to_contain_text("FROM debian:12-slim")
    expect(page.get_by_text("from main (fallback), 2 hours ago")).to_be_visible()
    expect(page.get_by_text("not cached yet")).to_be_visible()
    bars = page.get_by_role("img", name="12.4 MB uploaded of 460.0 MB")
    expect(bars).to_be_visible()


def test_progress_moves_and_the_end_is_shown_without_a_reload(visit: Visit) -> None:
    job = visit.do(visit.jobs.run, Task("export", ("web",)), Line("web: first line"))
    page = visit.page()
    page.evaluate("window.same = true")
    bar = page.get_by_role("progressbar")

    visit.do(job.hear, Progress("saving", 30 * MB, 120 * MB, 1.0))
    expect(page.get_by_text("saving 30.0 MB of 120.0 MB")).to_be_visible()
    assert bar.get_attribute("value") == "25"
    visit.do(job.hear, Progress("saving", 60 * MB, 120 * MB, 2.0))
    expect(page.get_by_text("saving 60.0 MB of 120.0 MB")).to_be_visible()
    visit.do(job.hear, Line("layer <b>bold</b> is damaged", "warning"))
    expect(page.get_by_role("log")).to_have_text(
        re.compile("first line.*warning: layer <b>bold</b> is damaged", re.DOTALL)
    )
    document = {
        "services": [{"service": "web", "entry": "x"}],
        "image_bytes": 120 * MB,
        "uploaded_bytes": 4 * MB,
        "seconds": 3,
    }
    visit.do(visit.jobs.end, job, document)

    expect(page.get_by_text("4.0 MB uploaded of 120.0 MB")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Export web: succeeded")
    expect(bar).to_have_count(0)
    expect(page.get_by_role("img", name="4.0 MB uploaded of 120.0 MB")).to_be_visible()
    assert page.evaluate("window.same")


def test_a_job_that_somebody_else_starts_shows_up_and_what_was_open_stays(visit: Visit) -> None:
    page = visit.context().new_page()
    page.clock.install()
    page.goto(visit.url)
    page.get_by_text("2 layers, 1 shared").click()
    page.get_by_role("button", name="Export api").focus()

    visit.do(visit.jobs.run, Task("import"))
    page.clock.run_for(3100)

    expect(page.get_by_role("heading", name="Import all services")).to_be_visible()
    expect(page.get_by_role("table").first).to_be_visible()
    expect(page.get_by_role("button", name="Export api")).to_be_focused()


def test_a_flush_asks_first_and_cancelling_does_nothing(visit: Visit) -> None:
    page = visit.page()
    dialog = page.get_by_role("dialog")

    page.get_by_role("button", name="Flush web…").click()
    expect(dialog).to_contain_text("The next builds find nothing of it in scope pr:17")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Flush all services…").click()
    expect(dialog.get_by_role("heading")).to_have_text("Flush all services?")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert visit.jobs.tasks == []

    page.get_by_role("button", name="Flush web…").click()
    dialog.get_by_role("button", name="Flush web").click()

    expect(page.get_by_role("article", name="Flush web")).to_be_visible()
    assert visit.jobs.tasks == [FLUSH_WEB]


def test_a_flush_needs_no_mouse_and_the_focus_can_be_seen(visit: Visit) -> None:
    page = visit.page()
    focused = "document.activeElement.getAttribute('aria-label')"

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the services")).to_be_in_viewport()
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        shown = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert shown == "solid", page.evaluate("document.activeElement.outerHTML")
        if page.evaluate(focused) == "Flush web…":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Flush web…")).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.get_by_role("article", name="Flush web")).to_be_visible()
    assert visit.jobs.tasks == [FLUSH_WEB]


def test_without_scripts_everything_works_by_reloading(visit: Visit) -> None:
    page = visit.page(java_script_enabled=False)

    page.get_by_role("button", name="Export web").click()
    expect(page.get_by_role("article", name="Export web")).to_be_visible()
    (job,) = visit.jobs.all
    visit.do(visit.jobs.change, job, "running")
    visit.do(job.hear, Progress("saving", 30 * MB, 120 * MB, 1.0))
    page.get_by_role("link", name="Reload").click()
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "25.0")
    page.get_by_role("button", name="Cancel: Export web").click()
    expect(page.get_by_text("it was cancelled")).to_be_visible()

    page.get_by_role("button", name="Flush web…").click()
    page.get_by_role("link", name="Cancel").click()
    assert visit.jobs.tasks == [Task("export", ("web",))]
    page.get_by_role("button", name="Flush web…").click()
    page.get_by_role("button", name="Flush web").click()
    expect(page.get_by_role("article", name="Flush web")).to_be_visible()
    assert visit.jobs.tasks[1:] == [FLUSH_WEB]


def busy(visit: Visit) -> None:
    """Have everything on the page that can be there."""
    cache = visit.jobs.cache
    cache.entries.append(Cached(LONG, "pr:17", layers=LAYERS, tags=(LONG,), branch=LONG))
    cache.entries.append(Cached("gone", kind="flushed", age=timedelta(days=3)))
    cache.entries.append(Cached("", "main", platform="", kind=None, problem=f"s3://{LONG} refused"))
    cache.images.append(f"{LONG}=x")
    for state in ("failed", "cancelled", "superseded", "succeeded"):
        job = visit.do(visit.jobs.run, Task("export", (LONG,)), Line(LONG, "error"), Line(LONG))
        job.reason = f"it is like that with {LONG}"
        visit.do(visit.jobs.change, job, state)
    progress = Progress("saving", 30 * MB, 120 * MB, 1.0)
    visit.do(visit.jobs.run, Task("import", (LONG,)), Line(LONG, "warning"), progress)
    visit.do(visit.jobs.submit, Task("export"))


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")


def test_a_phone_needs_no_scrolling_sideways(visit: Visit) -> None:
    busy(visit)
    context = visit.context(viewport={"width": 360, "height": 740}, has_touch=True)
    page = context.new_page()
    for path in ("/", "/flush", f"/flush?service={LONG}", "/login"):
        page.goto(f"{visit.url}{path}")
        open_all(page)
        assert not scrolls_sideways(page), path
    page.goto(visit.url)
    page.get_by_role("button", name="Flush web…").click()
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def test_light_and_dark_are_followed_and_every_text_can_be_read(visit: Visit) -> None:
    busy(visit)
    page = visit.page(color_scheme="light")
    seen = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        open_all(page)
        lowest = page.evaluate(CONTRASTS)
        assert len(lowest) > 50
        assert lowest[0][0] >= 4.5, (scheme, lowest[:5])
        page.get_by_role("button", name="Flush web…").click()
        dialog = page.evaluate(CONTRASTS)
        assert dialog[0][0] >= 4.5, (scheme, dialog[:5])
        page.keyboard.press("Escape")
        seen.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert seen == ["rgb(245, 246, 247)", "rgb(20, 24, 27)"]


def test_every_control_has_a_name(visit: Visit) -> None:
    busy(visit)
    page = visit.page()

    names = page.evaluate(
        "[...document.querySelectorAll('button, a, summary, input:not([type=hidden]), progress')]"
        ".filter((one) => one.checkVisibility())"
        ".map((one) => one.getAttribute('aria-label') || one.innerText.trim())"
    )

    assert len(names) > 20
    assert all(names)
    assert page.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map((x) => x.id)).size"
    ) == (page.evaluate("document.querySelectorAll('[id]').length"))


def test_hostile_names_do_nothing_in_a_browser(visit: Visit) -> None:
    evil = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
    cache = visit.jobs.cache
    cache.entries = [Cached(evil, "pr:17", layers=((evil, 1, evil, (evil,)),), tags=(evil,))]
    cache.images = [f"{evil}=x"]
    job = visit.do(visit.jobs.run, Task("export", (evil,)), Line(evil))
    page = visit.page()
    visit.do(job.hear, Line(evil, "error"))
    expect(page.get_by_role("log")).to_contain_text(f"error: {evil}")

    page.get_by_role("button", name=re.compile(r"^Flush \">.*…$")).click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("^Flush")).click()

    expect(page.get_by_role("article")).to_have_count(2)
    assert visit.jobs.tasks[1].names == (evil,)


def test_an_error_and_an_empty_cache_are_said_in_words(visit: Visit) -> None:
    visit.jobs.cache.error = error_document("StoreUnavailable", "the store cannot be reached")
    page = visit.page()
    expect(page.get_by_role("alert")).to_have_text("the store cannot be reached")
    expect(page.get_by_role("button", name="Import all services")).to_be_enabled()

    visit.jobs.cache.error, visit.jobs.cache.entries = None, []
    visit.beside.app.clock.seconds += 6
    page.reload()
    expect(page.get_by_text("Nothing is cached yet.")).to_be_visible()


@contextmanager
def elsewhere(body: str) -> Iterator[str]:
    """Serve a page on another port of this machine, as whatever runs there could."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_page_of_another_port_can_neither_send_nor_read(visit: Visit) -> None:
    evil = f"""<!doctype html><link rel="icon" href="data:,">
        <form method="post" action="{visit.url}/jobs"><input name="command" value="export"></form>
        <iframe src="{visit.url}/"></iframe><img src="{visit.url}/static/icon.svg">"""
    with elsewhere(evil) as address:
        page = visit.context().new_page()
        page.goto(address)
        read = page.evaluate(
            """(url) => fetch(url, {credentials: "include"})
            .then((answer) => answer.text()).catch(() => "refused")""",
            visit.url,
        )
        image = page.evaluate("document.images[0].naturalWidth")
        framed = page.frames[1].content()
        with page.expect_response(f"{visit.url}/jobs") as sent:
            page.evaluate("document.forms[0].submit()")

    assert (read, image, sent.value.status) == ("refused", 0, 403)
    assert "shop" not in framed
    # To cookies it is the same site, so the browser did send the session along.
    assert "longshore-" in sent.value.request.all_headers()["cookie"]
    assert visit.jobs.tasks == []
    visit.complaints.clear()
    visit.refused = 2
    visit.asked.remove(address)


def test_a_name_that_was_made_to_resolve_here_is_refused(visit: Visit) -> None:
    page = visit.context().new_page()
    visit.refused = 2
    rebound = visit.url.replace("127.0.0.1", "evil.localhost")

    answer = page.goto(f"{rebound}/healthz")

    assert answer is not None
    assert answer.status == 421
    visit.asked[:] = [url for url in visit.asked if not url.startswith(rebound)]
