"""Metrics for Prometheus: what the jobs came to, and how the sidecar is.

A job is counted when it has ended, by the document that it answers with. A scrape reads figures
that are in memory, and `/proc`; it asks nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import prometheus_client as prometheus
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from longshore import errors
from longshore.service.jobs import ENDED, Job
from longshore.service.task import Event, Progress
from longshore.wording import clean

COMMANDS = ("import", "export", "flush")
PHASES = ("downloading", "unpacking", "saving")
KINDS = ("image", "buildkit-cache")
OUTCOMES = ("hit", "miss", "failed")
CRASH = "Crash"
OTHERS = "(others)"
"""What all names are called that are too many: a service cannot have this one."""
MOST_SERVICES = 100
_LONGEST_NAME = 100
# What is no error: that nothing is cached yet is counted as a miss.
_EXPECTED = errors.NotCached.__name__
_ERRORS = tuple(
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.LongshoreError)
)
_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """What is counted, and its text for Prometheus.

    Args:
        jobs: tells which jobs are known; asked at each scrape.
        version: of longshore.

    Attributes:
        ready: whether the import at the start has ended.
        engine_version: of the engine, when it is known.
    """

    def __init__(self, jobs: Callable[[], Iterable[Job]], *, version: str) -> None:
        self.ready = False
        self.engine_version = ""
        self._version = version
        self._all_jobs = jobs
        self._services: set[str] = set()
        self._registry = _Registry()
        self._registry.register(_State(self))
        prometheus.ProcessCollector(registry=self._registry)
        self._define_jobs()
        self._define_cache()
        self._begin_with_zero()

    def heard(self, job: Job, event: Event | None) -> None:
        """Count a step or a job that has ended: a listener of `Jobs`."""
        if isinstance(event, Progress):
            if event.ended:
                phase = event.what if event.what in PHASES else OTHERS
                self._phase_seconds.labels(phase).observe(event.seconds)
                self._phase_bytes.labels(phase).inc(event.done_bytes)
        elif event is None and job.has_ended:
            self._count(job)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Write all metrics: the body, and its content type.

        Args:
            accept: the header of that name. Who names OpenMetrics gets it.
        """
        kinds = (part.partition(";")[0].strip() for part in accept.split(","))
        if "application/openmetrics-text" in kinds:
            body: bytes = generate_openmetrics(self._registry)  # type: ignore[no-untyped-call]
            return body, OPENMETRICS
        return prometheus.generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def state(self) -> Iterable[Metric]:
        """Describe what is so at this moment."""
        versions = {"version": self._version, "engine_version": clean(self.engine_version)}
        yield InfoMetricFamily("longshore_build", "The versions at work.", value=versions)
        ready = float(self.ready)
        yield GaugeMetricFamily("longshore_ready", "1 if builds may begin, else 0.", value=ready)
        found: Counter[tuple[str, str]] = Counter(
            (job.state, job.task.command) for job in self._all_jobs()
        )
        depth = GaugeMetricFamily(
            "longshore_queue_jobs", "Jobs that wait or run.", labels=["state", "command"]
        )
        for state in ("queued", "running"):
            for command in COMMANDS:
                depth.add_metric([state, command], found[state, command])
        yield depth

    def _define_jobs(self) -> None:
        self._jobs = self._counter("jobs", "Jobs that ended.", "command", "outcome")
        self._job_seconds = prometheus.Histogram(
            "longshore_job_duration_seconds",
            "How long jobs ran; what they waited before is not counted.",
            ["command"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._phase_seconds = prometheus.Histogram(
            "longshore_phase_duration_seconds",
            "How long the phases of jobs took.",
            ["phase"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._phase_bytes = self._counter("phase_bytes", "Bytes that phases worked on.", "phase")
        self._last_success = prometheus.Gauge(
            "longshore_last_success_timestamp_seconds",
            "When a job last succeeded.",
            ["command"],
            registry=self._registry,
        )
        self._memory = prometheus.Gauge(
            "longshore_job_memory_peak_bytes",
            "The most memory that the process of the last job held.",
            ["command"],
            registry=self._registry,
        )
        self._errors = self._counter(
            "errors", "What went wrong, whether it ended a job or not.", "kind"
        )

    def _define_cache(self) -> None:
        self._imports = self._counter(
            "imports", "Images and caches that were looked for.", "service", "kind", "outcome"
        )
        self._exports = self._counter(
            "exports", "Images and caches that were stored.", "service", "kind", "outcome"
        )
        self._exported = self._counter("exported_bytes", "What was exported weighs.", "kind")
        self._uploaded = self._counter("uploaded_bytes", "What exports uploaded for it.")
        self._downloaded = self._counter("downloaded_bytes", "What imports read from packs.")
        self._requests = self._counter("store_requests", "Operations on the store.", "command")
        self._retries = self._counter("store_retries", "Operations repeated.", "command")
        self._received = self._counter("store_received_bytes", "Bytes from the store.", "command")
        self._sent = self._counter("store_sent_bytes", "Bytes to the store.", "command")

    def _counter(self, name: str, text: str, *labels: str) -> prometheus.Counter:
        return prometheus.Counter(f"longshore_{name}", text, labels, registry=self._registry)

    def _begin_with_zero(self) -> None:
        """Let series be there before the first of their events, so that its increase is seen."""
        for command in COMMANDS:
            self._job_seconds.labels(command)
            for outcome in ENDED:
                self._jobs.labels(command, outcome)
        for command in ("import", "export"):
            for counter in (self._requests, self._retries, self._received, self._sent):
                counter.labels(command)
        for phase in PHASES:
            self._phase_seconds.labels(phase)
            self._phase_bytes.labels(phase)
        for kind in KINDS:
            self._exported.labels(kind)
        for error in (*_ERRORS, CRASH):
            if error not in (_EXPECTED, errors.LongshoreError.__name__):
                self._errors.labels(error)

    def _count(self, job: Job) -> None:
        command = job.task.command
        self._jobs.labels(command, job.state).inc()
        if job.started is not None and job.ended is not None:
            seconds = (job.ended - job.started).total_seconds()
            self._job_seconds.labels(command).observe(max(0.0, seconds))
        if job.state == "succeeded" and job.ended is not None:
            self._last_success.labels(command).set(job.ended.timestamp())
        if job.outcome is None:
            if job.state == "failed":
                self._errors.labels(CRASH).inc()
            return
        if job.outcome.memory_bytes:
            self._memory.labels(command).set(job.outcome.memory_bytes)
        self._count_document(command, job.outcome.document)

    def _count_document(self, command: str, document: Mapping[str, Any]) -> None:
        for problem in (document.get("error"), *document.get("warnings", ())):
            if problem and problem["error"] != _EXPECTED:
                self._errors.labels(problem["error"]).inc()
        if traffic := document.get("traffic"):
            self._requests.labels(command).inc(traffic["requests"])
            self._retries.labels(command).inc(traffic["retries"])
            self._received.labels(command).inc(traffic["bytes_in"])
            self._sent.labels(command).inc(traffic["bytes_out"])
        if command == "import":
            self._downloaded.inc(document.get("downloaded_bytes", 0))
            for kind, one in _parts(document):
                service = self._service(one)
                for outcome in OUTCOMES:  # all of them, so that a share can be told
                    self._imports.labels(service, kind, outcome)
                self._imports.labels(service, kind, one["outcome"]).inc()
        elif command == "export":
            self._uploaded.inc(document.get("uploaded_bytes", 0))
            self._exported.labels("image").inc(document.get("image_bytes", 0))
            for kind, one in _parts(document):
                outcome = "unchanged" if one["unchanged"] else "changed"
                self._exports.labels(self._service(one), kind, outcome).inc()
                if kind == "buildkit-cache":
                    self._exported.labels(kind).inc(one["size_bytes"])

    def _service(self, one: Mapping[str, Any]) -> str:
        """Choose the label for a service; there cannot be more than so many."""
        name = clean(one["service"])[:_LONGEST_NAME]
        if name not in self._services:
            if len(self._services) >= MOST_SERVICES:
                return OTHERS
            self._services.add(name)
        return name


def _parts(document: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Tell what an import or export was about: kinds, and what became of each."""
    for kind, field in zip(KINDS, ("services", "caches"), strict=True):
        for one in document.get(field, ()):
            yield kind, one


class _State(Collector):
    """What is found out only when it is asked for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.state()


class _Registry(prometheus.CollectorRegistry):
    """Metrics without the times at which their series were made.

    Those would double the number of series, and the library leaves them out for a whole process
    only.
    """

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric
