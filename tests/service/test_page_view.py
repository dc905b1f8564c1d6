"""What the page makes of the commands' documents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.fake_jobs import NOW, Cached, FakeCache, FakeJobs, error_document

from longshore.service.page_data import Answer, Facts, Key
from longshore.service.page_jobs import export_views, jobs_view, progress_text
from longshore.service.page_view import (
    CacheView,
    ServiceView,
    cache_view,
    web_address,
    worth_showing,
)
from longshore.service.task import Line, Progress, Task

LAYERS = (
    ("a" * 64, 100, "FROM debian", ("api",)),
    ("b" * 64, 200, "RUN npm ci", ()),
)


def facts(cache: FakeCache, *, shown: bool = True) -> Facts:
    """Ask a cache as `Look` does."""

    def ask(task: Task) -> Answer:
        document = cache.answer(task)
        error = document["error"] or {"message": "", "error": ""}
        return Answer(document, error["message"], error["error"])

    listing = ask(Task("list"))
    keys = worth_showing(listing.document) if shown else ()
    return Facts(
        ask(Task("config")),
        listing,
        {key: ask(Task("show", (key.service,), {"platform": key.platform})) for key in keys},
    )


def seen(cache: FakeCache, **changes: Any) -> CacheView:
    return cache_view(facts(cache, **changes))


def only(view: CacheView) -> ServiceView:
    (service,) = view.services
    return service


def test_a_service_of_the_own_scope_is_a_hit_there() -> None:
    mine = Cached("web", "pr:17", layers=LAYERS, age=timedelta(minutes=5))
    view = seen(FakeCache([mine, Cached("web", "main", layers=LAYERS)], ["web=acme/web"]))

    service = only(view)
    assert (service.verdict, service.scope, service.fallback) == ("hit", "pr:17", False)
    assert (service.age, service.size, service.stored) == ("5 min ago", "300.0 MB", "100.0 MB")
    assert service.flushable
    assert view.hits == 1


def test_a_flushed_scope_lets_the_fallback_be_found() -> None:
    flushed = Cached("web", "pr:17", kind="flushed")
    view = seen(FakeCache([flushed, Cached("web", "main", layers=LAYERS)], ["web=acme/web"]))

    service = only(view)
    assert (service.verdict, service.scope, service.fallback) == ("hit", "main", True)
    assert not service.flushable  # there is nothing in the own scope to hide
    assert not view.flushable


def test_what_is_flushed_everywhere_is_a_miss() -> None:
    service = only(seen(FakeCache([Cached("web", "pr:17", kind="flushed")], ["web=acme/web"])))

    assert (service.verdict, service.why) == ("miss", "flushed; the next export fills it again")


def test_a_service_without_any_entry_is_a_miss_and_one_without_a_store_is_not_known() -> None:
    assert only(seen(FakeCache([], ["web=acme/web"]))).verdict == "miss"

    config = facts(FakeCache([], ["web=acme/web"])).config
    view = cache_view(Facts(config, Answer(problem="the store is away"), {}))
    assert only(view).verdict == "unknown"
    assert view.notices == ("the store is away",)
    assert not view.empty


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("CorruptData", "miss"), ("NotTrusted", "miss"), ("StoreUnavailable", "unknown")],
)
def test_what_import_would_pass_over_is_a_miss_and_a_failure_is_not_known(
    kind: str, verdict: str
) -> None:
    cache = FakeCache([Cached("web", layers=LAYERS)])
    cache.show_errors["web"] = error_document(kind, "it is like that")

    service = only(seen(cache))
    assert (service.verdict, service.why) == (verdict, "it is like that")


def test_an_entry_that_cannot_be_read_is_a_miss_for_the_reason_that_list_says() -> None:
    broken = Cached("web", "pr:17", kind=None, problem="s3://x/y is damaged")
    view = seen(FakeCache([broken, Cached("web", "main", layers=LAYERS)]), shown=False)

    assert (only(view).verdict, only(view).why) == ("miss", "s3://x/y is damaged")


def test_what_is_not_shown_yet_is_told_from_the_list() -> None:
    view = seen(FakeCache([Cached("web", layers=LAYERS)]), shown=False)

    assert (only(view).verdict, only(view).layers, only(view).summary) == ("hit", None, "2 layers")


def test_layers_name_their_step_and_who_shares_them() -> None:
    service = only(seen(FakeCache([Cached("web", layers=LAYERS)])))

    assert service.layers is not None
    assert [(la.command, la.size, la.shared_with, la.share) for la in service.layers] == [
        ("FROM debian", "100.0 MB", "api", 50.0),
        ("RUN npm ci", "200.0 MB", "", 100.0),
    ]
    assert service.summary == "2 layers, 1 shared with other services (100.0 MB)"


def test_declared_services_come_first_and_caches_and_platforms_stand_for_themselves() -> None:
    entries = [
        Cached("old", layers=LAYERS),
        Cached("web:buildkit-cache", kind="buildkit-cache", layers=LAYERS),
        Cached("web", platform="linux-arm64", layers=LAYERS),
        Cached("web", layers=LAYERS),
    ]
    view = seen(FakeCache(entries, ["web=acme/web", "web=acme/web-stage", "api=acme/api"]))

    assert [(s.title, s.name, s.platform, s.declared) for s in view.services] == [
        ("web", "web", "linux-amd64", True),
        ("web", "web", "linux-arm64", True),
        ("web · BuildKit cache", "web", "linux-amd64", True),
        ("old", "old", "linux-amd64", False),
        ("api", "api", "", True),
    ]
    assert len({service.anchor for service in view.services}) == 5


def test_scopes_that_cannot_be_listed_and_warnings_are_notices_once_each() -> None:
    refused = Cached("", "main", platform="", kind=None, problem="access denied")
    found = facts(FakeCache([refused]))
    warned = {**found.listing.document, "warnings": [{"message": "slow"}, {"message": "slow"}]}

    view = cache_view(Facts(found.config, Answer(warned), {}))
    assert view.notices == ("slow", "main: access denied")


def test_without_a_scope_nothing_can_be_flushed() -> None:
    view = seen(FakeCache([Cached("web", layers=LAYERS)], scope=None))

    assert view.scope == ""
    assert not view.flushable


def test_texts_that_would_turn_the_line_around_or_fill_the_page_are_shown_tamed() -> None:
    evil = Cached("web", layers=LAYERS, branch="x\u202egpj.exe", tags=("t" * 5000,))
    service = only(seen(FakeCache([evil])))

    assert "\u202e" not in service.origin
    assert len(service.tags[0]) == 200


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "data:text/html,x", "//evil.example", "http://", "http://[", None, "x"],
)
def test_only_addresses_of_the_web_become_links(address: str | None) -> None:
    assert web_address(address) == ""
    assert web_address("https://ci.example/1") == "https://ci.example/1"


def test_exports_are_told_once_by_their_job_or_by_what_they_wrote() -> None:
    jobs = FakeJobs(FakeCache())
    jobs.now = lambda: NOW - timedelta(minutes=1)
    job = jobs.run(Task("export"))
    web = Cached("web", layers=LAYERS, age=timedelta(minutes=1))
    api = Cached("api", layers=LAYERS[:1], age=timedelta(hours=3), uploaded_bytes=30_000_000)
    worker = Cached("worker", layers=LAYERS, age=timedelta(hours=3), uploaded_bytes=30_000_000)
    jobs.end(
        job,
        {
            "services": [{"service": "web", "entry": web.id}],
            "image_bytes": 600_000_000,
            "uploaded_bytes": 6_000_000,
            "seconds": 5,
        },
    )

    exports = export_views(jobs.all, facts(FakeCache([web, api, worker])), NOW)

    assert [(e.services, e.uploaded_size, e.image_size, e.share) for e in exports] == [
        ("web", "6.0 MB", "600.0 MB", "1.0 %"),
        ("api, worker", "30.0 MB", "300.0 MB", "10 %"),  # the layer they share counts once
    ]
    assert [(e.image, e.uploaded) for e in exports] == [(100.0, 1.0), (50.0, 5.0)]


def test_jobs_are_shown_in_the_order_of_their_turn_and_ended_ones_newest_first() -> None:
    jobs = FakeJobs(FakeCache())
    first, second = jobs.run(Task("import")), jobs.run(Task("export", ("web",)))
    jobs.submit(Task("flush", ("web", "api", "x", "y", "z", "zz")))
    jobs.end(first, {"services": [{"outcome": "hit"}, {"outcome": "miss"}], "downloaded_bytes": 9})
    second.hear(Line("disk full", "error"))
    before = jobs_view(jobs.all, jobs.queued, NOW)
    second.reason = "the disk is full"
    jobs.end(second, {}, "failed")

    after = jobs_view(jobs.all, jobs.queued, NOW)

    assert [job.title for job in before.active] == ["Export web", "Flush web, api, x, y and 2 more"]
    assert before.active[0].lines[0].word == "error"
    assert [(job.title, job.word, job.result) for job in after.ended] == [
        ("Export web", "failed", "the disk is full"),
        ("Import all services", "done", "1 hit, 1 miss, 9 B downloaded"),
    ]
    assert before.signature != after.signature


def test_progress_is_put_as_percent_and_words() -> None:
    assert progress_text(Progress("saving", 50, 200, 1.0)) == (25.0, "saving 50 B of 200 B")
    assert progress_text(Progress("saving", 300, 200, 1.0))[0] == 100.0
    assert progress_text(Progress("saving", 50, None, 1.0)) == (None, "saving 50 B")
    assert progress_text(Progress("saving", 50, 50, 1.0, ended=True)) == (None, "")


def test_a_key_is_asked_about_once() -> None:
    rows = [Cached("web", "pr:17").row, Cached("web").row, Cached("x", kind="flushed").row]

    assert worth_showing({"entries": rows}) == (Key("web", "linux-amd64"),)
