"""The dashboard, the alerts and the table of metrics speak of metrics that there are."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.support.done_jobs import end, waiting

from longshore.service.job_log import JobLog
from longshore.service.log import Log
from longshore.service.metrics import Metrics
from longshore.service.task import Line, Outcome, Task

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "sidecar.md").read_text()
SECTION = PAGE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
DASHBOARD = json.loads((DOCS / "operations/grafana-dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
RULES: list[dict[str, Any]] = yaml.safe_load((DOCS / "operations/alerts.yml").read_text())[
    "groups"
][0]["rules"]
OF_SCRAPES = {"job", "instance"}
VARIABLES = {"$__rate_interval": "5m", "$__range": "1d", "$job": ".*", "$instance": ".*"}
TARGETS = [
    (f"{panel['title']} {target['refId']}", target["expr"], target["legendFormat"])
    for panel in PANELS
    for target in panel["targets"]
]
EXAMPLES = re.findall(r"```promql\n(.*?)```", SECTION, re.DOTALL)
QUERIES = [
    *((title, query) for title, query, _ in TARGETS),
    *((rule["alert"], rule["expr"]) for rule in RULES),
    *((f"example {n}", query) for n, query in enumerate(EXAMPLES[0].strip().split("\n\n"))),
]


def known() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of each metric, after jobs of every kind."""
    metrics = Metrics(lambda: (), version="1.2.3")
    documents: dict[str, dict[str, Any]] = {
        "import": {"services": [{"service": "web", "outcome": "hit"}]},
        "export": {"services": [{"service": "web", "unchanged": False}]},
    }
    for command, document in documents.items():
        job = waiting(Task(command))  # type: ignore[arg-type]
        job.outcome = Outcome(0, "", document, memory_bytes=1)
        end(job, "succeeded", metrics.heard)
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: (
            family.type,
            frozenset(label for s in family.samples for label in s.labels) - {"le"},
        )
        for family in text_string_to_metric_families(metrics.render()[0].decode())
    }


KNOWN = known()


def selectors(query: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Names and labels that a query selects by."""
    found: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        return True

    promql.walk(parsed(query), visit)
    for one in found:
        yield one.name, frozenset(matcher.name for matcher in one.matchers.matchers)


def parsed(query: str) -> Any:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query
    return promql.parse(query)


def meant(name: str) -> tuple[str, frozenset[str]]:
    """The type and the labels of what a query names."""
    kind, labels = KNOWN.get(name) or KNOWN[re.sub("_(?:bucket|sum|count)$", "", name)]
    assert (kind == "histogram") == (name not in KNOWN)
    return kind, labels | ({"le"} if name.endswith("_bucket") else set())


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_a_query_names_metrics_and_labels_that_there_are(title: str, query: str) -> None:
    named = list(selectors(query))
    assert named
    everywhere = [meant(name)[1] for name, _ in named]
    for (_, labels), there in zip(named, everywhere, strict=True):
        assert labels <= there | OF_SCRAPES
    grouped = {
        label.strip() for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(",")
    }
    assert all(grouped <= there | OF_SCRAPES for there in everywhere)


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_only_counters_and_histograms_have_a_rate(title: str, query: str) -> None:
    for name in re.findall(r"(?:rate|increase)\((\w+)", query):
        assert meant(name)[0] in ("counter", "histogram")


@pytest.mark.parametrize(
    "query", ["sum by (x) (longshore_ready", "rate(longshore_jobs_total)", "rate(1[5m]))"]
)
def test_a_query_with_a_mistake_would_be_found(query: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(query)


@pytest.mark.parametrize(("title", "query", "legend"), TARGETS, ids=[t for t, *_ in TARGETS])
def test_a_legend_names_labels_that_its_query_keeps(title: str, query: str, legend: str) -> None:
    named = set(re.findall(r"{{(\w+)}}", legend))
    grouped = re.search(r"by \(([^)]*)\)", query)

    assert named <= (set(grouped[1].split(", ")) if grouped else set())


def test_each_panel_can_be_narrowed_down() -> None:
    for _, query, _ in TARGETS:
        for _, labels in selectors(query):
            assert labels >= OF_SCRAPES


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["title"]
    assert 0 < len(DASHBOARD["uid"]) <= 40
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    sources = [
        x["datasource"]["uid"] for x in (*PANELS, *(t for p in PANELS for t in p["targets"]))
    ]
    assert set(sources) == {"${datasource}"}
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    assert variables.keys() == {"datasource", "job", "instance"}
    for one in ("job", "instance"):
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variables[one]["definition"])
        assert asked is not None
        assert asked[2] == one
        (metric,) = selectors(asked[1])
        assert metric[0] in KNOWN


def test_panels_lie_side_by_side_within_the_grid() -> None:
    for panel in PANELS:
        at = panel["gridPos"]
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24
        assert at["h"] > 0
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_the_dashboard_shows_every_metric_of_ours_but_two() -> None:
    shown = {
        re.sub("_(?:bucket|sum|count)$", "", n) for _, q, _ in TARGETS for n, _ in selectors(q)
    }

    ours = {name for name in KNOWN if name.startswith("longshore_")}
    assert ours - shown == {
        "longshore_build_info",  # what the variables ask for
        "longshore_exports_total",
        "longshore_downloaded_bytes_total",  # bytes of the phase
    }


def test_alerts_are_rules_to_prometheus() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) == 7
    for rule in RULES:
        assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert "for" not in rule or promql.parse_duration(rule["for"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        kept = re.search(r"by \(([^)]*)\)", rule["expr"])
        named = set(re.findall(r"{{ \$labels\.(\w+) }}", rule["annotations"]["summary"]))
        assert named <= ({kept[1]} if kept else OF_SCRAPES)


def test_errors_that_alerts_name_are_kinds_of_errors() -> None:
    metrics = Metrics(lambda: (), version="1")
    text = metrics.render()[0].decode()
    named = [k for rule in RULES for k in re.findall(r'kind=~?"([^"]*)"', rule["expr"])]
    kinds = {kind for one in named for kind in one.split("|")} - {"image"}

    assert len(kinds) == 7
    for kind in kinds:
        assert f'longshore_errors_total{{kind="{kind}"}} 0.0' in text


def test_the_page_shows_the_alerts_as_they_are() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)

    assert shown == (DOCS / "operations/alerts.yml").read_text()


def test_the_table_names_every_metric_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*?)\| [^|]+ \|$", SECTION, re.MULTILINE)

    told = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == KNOWN


def test_the_table_of_the_log_names_every_field() -> None:
    section = PAGE.partition("\n## Logs\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    example = json.loads(re.findall(r"```json\n(.*?)```", section, re.DOTALL)[0])

    assert example.keys() <= told
    assert told >= fields_of_a_job()


def fields_of_a_job() -> set[str]:
    stream = io.StringIO()
    heard = JobLog(Log(stream, form="json", now=lambda: datetime(2026, 1, 1, tzinfo=UTC))).heard
    job = waiting(Task("export", ("web",)))
    job.state, job.reason = "running", "no"
    heard(job, None)
    heard(job, Line("x", "error", "trace"))
    job.outcome = Outcome(0, "", {"uploaded_bytes": 1, "traffic": {"requests": 1, "retries": 0}})
    end(job, "failed", heard)
    return {name for line in stream.getvalue().splitlines() for name in json.loads(line)}
