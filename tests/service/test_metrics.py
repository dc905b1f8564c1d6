"""What `/metrics` says is what happened: figures of real documents, in Prometheus's own format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.cli.conftest import COMPOSE, STEPS, Shell
from tests.support.done_jobs import BEGAN, came_to, do, end, waiting
from tests.support.fake_engine import FakeEngine

from longshore import errors
from longshore.service.jobs import Job
from longshore.service.metrics import MOST_SERVICES, OTHERS, Metrics
from longshore.service.task import Outcome, Progress, Task

# Of promtool's linter: what a metric's name must not have, as it is another's or an abbreviation.
FORBIDDEN = re.compile(
    r"milli|micro|_(?:ms|min|minutes|hours|days|kb|mb|percent|secs?|info_total|total_total)(?:_|$)"
    r"|(?:^|_)(?:counter|gauge|histogram|summary|metric)(?:_|$)|[A-Z]|__"
)


def make(*jobs: Job) -> Metrics:
    return Metrics(lambda: jobs, version="1.2.3")


def samples(metrics: Metrics) -> Iterator[Sample]:
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        yield from family.samples


def value(metrics: Metrics, name: str, **labels: str) -> float:
    (found,) = (s.value for s in samples(metrics) if (s.name, s.labels) == (name, labels))
    return float(found)


def missing(metrics: Metrics, name: str) -> bool:
    return not any(sample.name == name for sample in samples(metrics))


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Metrics, dict[str, Job]]:
    """Two exports, an import of both services by another machine, and one of a service too many."""
    folder = tmp_path_factory.mktemp("metrics")
    shell = Shell(folder, {"LONGSHORE_STORE": f"file://{folder}/store", "LONGSHORE_SCOPE": "main"})
    shell.write("compose.yaml", COMPOSE)
    for name in ("web", "api"):
        shell.engine.build([*STEPS, ("COPY . .", {"app.js": name.encode()})], f"shop/{name}:1")
    metrics = make()
    jobs = {
        "missed": do(shell, Task("import", ("web",)), metrics.heard, seconds=0.2),
        "first": do(shell, Task("export", ("web",)), metrics.heard, seconds=4),
        "second": do(shell, Task("export"), metrics.heard, seconds=1),
    }
    shell.engine = FakeEngine()
    jobs["import"] = do(shell, Task("import", ("web", "api", "none")), metrics.heard, seconds=3)
    jobs["flush"] = do(shell, Task("flush", ("web",), {"yes": True}), metrics.heard)
    assert {job.state for job in jobs.values()} == {"succeeded"}
    return metrics, jobs


Worked = tuple[Metrics, dict[str, Job]]


def test_hits_and_misses_are_those_of_the_documents(worked: Worked) -> None:
    metrics, _ = worked

    def imports(service: str, outcome: str) -> float:
        labels = {"service": service, "kind": "image", "outcome": outcome}
        return value(metrics, "longshore_imports_total", **labels)

    assert imports("web", "miss") == 1
    assert imports("web", "hit") == 1
    assert imports("api", "hit") == 1


def test_bytes_are_those_of_the_documents(worked: Worked) -> None:
    metrics, jobs = worked
    documents = {name: came_to(job).document for name, job in jobs.items()}
    exports = (documents["first"], documents["second"])

    uploaded = value(metrics, "longshore_uploaded_bytes_total")
    assert uploaded == sum(document["uploaded_bytes"] for document in exports) > 0
    weight = value(metrics, "longshore_exported_bytes_total", kind="image")
    assert weight == sum(document["image_bytes"] for document in exports)
    assert uploaded < weight
    assert value(metrics, "longshore_exported_bytes_total", kind="buildkit-cache") == 0
    downloaded = value(metrics, "longshore_downloaded_bytes_total")
    assert downloaded == documents["import"]["downloaded_bytes"] > 0


def test_requests_and_traffic_are_those_of_the_documents(worked: Worked) -> None:
    metrics, jobs = worked
    names = {
        "longshore_store_requests_total": "requests",
        "longshore_store_retries_total": "retries",
        "longshore_store_received_bytes_total": "bytes_in",
        "longshore_store_sent_bytes_total": "bytes_out",
    }
    for name, field in names.items():
        for command in ("import", "export"):
            done = [job for job in jobs.values() if job.task.command == command]
            expected = sum(came_to(job).document["traffic"][field] for job in done)
            assert value(metrics, name, command=command) == expected, (name, command)


def test_exports_are_changed_or_not(worked: Worked) -> None:
    metrics, _ = worked
    found = {
        (s.labels["service"], s.labels["outcome"]): s.value
        for s in samples(metrics)
        if s.name == "longshore_exports_total"
    }

    assert found == {("web", "changed"): 1, ("web", "unchanged"): 1, ("api", "changed"): 1}


def test_jobs_their_time_and_their_memory_are_counted(worked: Worked) -> None:
    metrics, jobs = worked

    counted = {
        (s.labels["command"], s.labels["outcome"]): s.value
        for s in samples(metrics)
        if s.name == "longshore_jobs_total"
    }
    assert {key: n for key, n in counted.items() if n} == {
        ("import", "succeeded"): 2,
        ("export", "succeeded"): 2,
        ("flush", "succeeded"): 1,
    }
    assert len(counted) == 3 * 4
    name = "longshore_job_duration_seconds"
    assert value(metrics, f"{name}_sum", command="export") == 5
    assert value(metrics, f"{name}_bucket", command="export", le="1.0") == 1
    assert value(metrics, f"{name}_bucket", command="export", le="5.0") == 2
    assert value(metrics, f"{name}_count", command="import") == 2
    peak = value(metrics, "longshore_job_memory_peak_bytes", command="import")
    assert peak == came_to(jobs["import"]).memory_bytes > 10 << 20
    last = value(metrics, "longshore_last_success_timestamp_seconds", command="import")
    assert last == BEGAN.timestamp() + 3


def test_phases_have_their_time_and_their_bytes(worked: Worked) -> None:
    metrics, jobs = worked
    count = "longshore_phase_duration_seconds_count"

    assert value(metrics, count, phase="saving") >= 1
    assert value(metrics, count, phase="downloading") == 1
    downloaded = came_to(jobs["import"]).document["downloaded_bytes"]
    assert value(metrics, "longshore_phase_bytes_total", phase="downloading") == downloaded


def test_a_phase_is_counted_once_when_it_ends_and_unknown_ones_are_taken_together() -> None:
    metrics, job = make(), waiting(Task("import"))
    for event in (
        Progress("unpacking", 1, None, 0.1),
        Progress("unpacking", 7, None, 2.5, ended=True),
        Progress("x" * 1000, 3, None, 1.0, ended=True),
        Progress("y", 3, None, 1.0, ended=True),
    ):
        metrics.heard(job, event)

    assert value(metrics, "longshore_phase_bytes_total", phase="unpacking") == 7
    assert value(metrics, "longshore_phase_duration_seconds_sum", phase="unpacking") == 2.5
    assert value(metrics, "longshore_phase_bytes_total", phase=OTHERS) == 6


def test_errors_are_counted_by_kind_and_a_plain_miss_is_none(worked: Worked) -> None:
    metrics, jobs = worked
    warned = [w["error"] for job in jobs.values() for w in came_to(job).document["warnings"]]
    assert sorted(set(warned)) == ["NotBuilt", "NotCached"]

    found = {s.labels["kind"]: s.value for s in samples(metrics) if "errors_total" in s.name}
    assert {kind: number for kind, number in found.items() if number} == {"NotBuilt": 1}
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.LongshoreError)
    }
    assert found.keys() == (kinds - {"LongshoreError", "NotCached"}) | {"Crash"}


def test_what_ends_a_job_is_an_error(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"LONGSHORE_STORE": f"file://{tmp_path}/store"})
    metrics = make()

    job = do(shell, Task("import"), metrics.heard)

    assert job.state == "failed"
    assert value(metrics, "longshore_errors_total", kind="UsageError") == 1
    assert value(metrics, "longshore_jobs_total", command="import", outcome="failed") == 1
    assert missing(metrics, "longshore_last_success_timestamp_seconds")


def test_a_process_that_crashed_is_an_error_and_a_cancelled_one_is_none() -> None:
    metrics = make()
    for state in ("failed", "cancelled", "superseded"):
        end(waiting(Task("export")), state, metrics.heard)

    assert value(metrics, "longshore_errors_total", kind="Crash") == 1
    for outcome in ("failed", "cancelled", "superseded"):
        assert value(metrics, "longshore_jobs_total", command="export", outcome=outcome) == 1
    assert value(metrics, "longshore_job_duration_seconds_count", command="export") == 0


def test_what_waits_and_runs_is_told_as_it_is_now() -> None:
    jobs = [waiting(Task("import")), waiting(Task("export")), waiting(Task("export"))]
    metrics = Metrics(lambda: jobs, version="1.2.3")
    jobs[0].state = "running"

    assert value(metrics, "longshore_queue_jobs", state="running", command="import") == 1
    assert value(metrics, "longshore_queue_jobs", state="queued", command="export") == 2
    assert value(metrics, "longshore_queue_jobs", state="queued", command="flush") == 0
    jobs[0].state = "succeeded"
    assert value(metrics, "longshore_queue_jobs", state="running", command="import") == 0


def test_readiness_versions_and_the_process_are_told_as_they_are_now() -> None:
    metrics = make()
    assert value(metrics, "longshore_ready") == 0
    metrics.ready, metrics.engine_version = True, "28.5.2"

    assert value(metrics, "longshore_ready") == 1
    assert value(metrics, "longshore_build_info", version="1.2.3", engine_version="28.5.2") == 1
    assert value(metrics, "process_resident_memory_bytes") > 10 << 20
    assert value(metrics, "process_start_time_seconds") > 1e9


def exported(name: str) -> Job:
    """An export of a service with such a name."""
    job = waiting(Task("export"))
    document = {
        "services": [{"service": name, "unchanged": True}],
        "caches": [{"service": name, "unchanged": False, "size_bytes": 5}],
    }
    job.outcome = Outcome(0, "", document)
    return job


def test_services_beyond_a_number_are_taken_together() -> None:
    metrics = make()
    for number in range(MOST_SERVICES + 50):
        end(exported(f"service-{number}"), "succeeded", metrics.heard)

    names = {s.labels["service"] for s in samples(metrics) if "exports_total" in s.name}
    assert len(names) == MOST_SERVICES + 1
    labels = {"service": OTHERS, "kind": "image", "outcome": "unchanged"}
    assert value(metrics, "longshore_exports_total", **labels) == 50
    assert value(metrics, "longshore_exported_bytes_total", kind="buildkit-cache") == 150 * 5


@settings(max_examples=30)
@given(name=st.text(st.characters(), max_size=300))
def test_no_name_of_a_service_breaks_the_format(name: str) -> None:
    metrics = make()
    end(exported(f"\ud800{name}"), "succeeded", metrics.heard)
    end(exported('a"} 1\n# \\'), "succeeded", metrics.heard)

    for accept, parse in (
        ("", text_string_to_metric_families),
        ("application/openmetrics-text", parse_openmetrics),
    ):
        lines = metrics.render(accept)[0].decode().split("\n")
        kept = [line for line in lines if "longshore_exports" in line or line in ("# EOF", "")]
        (exports,) = parse("\n".join(kept))
        assert len({sample.labels["service"] for sample in exports.samples}) == 2


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=abc", "application/openmetrics-text; version="),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=",
        ),
    ],
)
def test_who_names_openmetrics_gets_it_and_all_others_text(accept: str, kind: str) -> None:
    body, content_type = make().render(accept)

    assert content_type.startswith(kind)
    assert body.endswith(b"# EOF\n") == ("openmetrics" in kind)


def test_names_help_and_units_are_such_as_promtool_wants(worked: Worked) -> None:
    metrics, _ = worked
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        name = family.name
        assert name.startswith(("longshore_", "process_"))
        assert FORBIDDEN.search(name) is None
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert not (family.type != "histogram" and re.search("_(count|sum|bucket)$", name))
            assert not sample.labels.keys() & {"job", "instance", family.type}
        for unit in ("seconds", "bytes"):
            if unit in name:
                assert name.endswith(unit)


def test_two_sidecars_in_a_process_share_nothing_and_leave_the_librarys_own_alone() -> None:
    before = {family.name for family in REGISTRY.collect()}
    one, other = make(), make()
    end(waiting(Task("flush")), "cancelled", one.heard)

    labels = {"command": "flush", "outcome": "cancelled"}
    assert value(one, "longshore_jobs_total", **labels) == 1
    assert value(other, "longshore_jobs_total", **labels) == 0
    assert {family.name for family in REGISTRY.collect()} == before
