"""A server's metrics, for Prometheus to fetch.

Labels come from short lists: surfaces that are served or have a mode (callers cannot make up names), sides, modes,
statuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from meshfold.model.errors import InvalidConfig
from meshfold.service.collector import PAUSE_BUCKETS_S, pauses
from meshfold.service.front import Distribution
from meshfold.service.http_port import HttpPort, Page, PageAnswer, PageRequest

if TYPE_CHECKING:
    from meshfold.service.front import Answered, Outcome, Sample

# Upper bounds of latency buckets in seconds, from a proxied call on one machine to a mesh in trouble.
_BUCKETS = (
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
)

Samples = Callable[[], Iterable["Sample | Distribution"]]
# A metric family of prometheus_client; the kinds differ in the arguments of add_metric.
_Family = Any


class Metrics:
    """Counts calls as they end, and collects all other metrics at each fetch."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._encode = make_wsgi_app(self._registry)
        # Further pages, by path.
        self._pages: Mapping[str, Page] = {}
        self._answers = Counter(
            "meshfold_answers",
            "Calls of the orchestrator, by the side that the caller's answer or status is from.",
            ("surface", "side", "code"),
            registry=self._registry,
        )
        self._answer_s = Histogram(
            "meshfold_answer_seconds",
            "Seconds from a call's arrival to its answer, with both sides where the first failed.",
            ("surface", "side"),
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._fallbacks = Counter(
            "meshfold_fallbacks",
            "Calls answered by the other side after the first side failed, by the first side's status.",
            ("surface", "side", "reason"),
            registry=self._registry,
        )
        self._shadows = Counter(
            "meshfold_shadows",
            "Shadow calls, by the side that they went to.",
            ("surface", "side", "code"),
            registry=self._registry,
        )
        self._shadow_s = Histogram(
            "meshfold_shadow_seconds",
            "Seconds of a shadow call.",
            ("surface", "side"),
            registry=self._registry,
            buckets=_BUCKETS,
        )

        self._registry.register(_Pauses())

    def answered(self, answered: Answered) -> None:
        side = answered.outcome.side.value
        self._answers.labels(answered.surface, side, answered.outcome.code.name).inc()
        self._answer_s.labels(answered.surface, side).observe(answered.took_s)
        if answered.fallback:
            self._fallbacks.labels(answered.surface, side, answered.fallback).inc()

    def shadowed(self, answered: Answered, shadow: Outcome) -> None:
        side = shadow.side.value
        self._shadows.labels(answered.surface, side, shadow.code.name).inc()
        self._shadow_s.labels(answered.surface, side).observe(shadow.took_s)

    def ask(self, samples: Samples) -> None:
        """Adds a source of samples, which is called at each fetch."""
        self._registry.register(_Samples(samples))

    def show(self, pages: Mapping[str, Page]) -> None:
        """Adds web pages by path, such as "/shadow"; the page "/" links to them."""
        self._pages = pages

    def listen(self, address: str) -> str:
        """Answers GET /metrics and the pages of show() until stop(); returns the address with the bound port.

        Raises InvalidConfig where the address cannot be bound.
        """
        host, _, port = address.rpartition(":")
        try:
            self._http = HttpPort(host.strip("[]"), int(port), self._answer)
        except (OSError, OverflowError) as error:
            raise InvalidConfig(
                f"cannot listen on {address} for metrics: {error}; choose another with --metrics-address"
            ) from None
        return f"{host}:{self._http.port}"

    def stop(self) -> None:
        """Ends what listen() began."""
        self._http.stop()

    def _answer(self, request: PageRequest) -> PageAnswer:
        """The page of a path; the metrics for every other path, as Prometheus's own client library answers."""
        pages = self._pages
        if (page := pages.get(request.path)) is not None:
            return page(request)
        if request.path == "/" and pages:
            return _index(path for path in pages if path.count("/") == 1)
        return self._metrics(request)

    def _metrics(self, request: PageRequest) -> PageAnswer:
        status, content_type, headers = 500, "text/plain", {}

        def start(line: str, given: list[tuple[str, str]], _: object = None) -> None:
            nonlocal status, content_type, headers
            status, headers = int(line.split()[0]), dict(given)
            content_type = headers.pop("Content-Type", content_type)

        environment = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_text,
            "HTTP_ACCEPT": request.headers.get("accept", ""),
            "HTTP_ACCEPT_ENCODING": request.headers.get("accept-encoding", ""),
        }
        body = b"".join(self._encode(environment, start))
        return PageAnswer(body, content_type, status, headers)


def _index(paths: Iterable[str]) -> PageAnswer:
    links = "".join(f'<li><a href="{escape(path)}">{escape(path)}</a></li>' for path in ("/metrics", *paths))
    return PageAnswer(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>meshfold</title>'
        f'<link rel="icon" href="data:,"><h1>meshfold</h1><ul>{links}</ul></html>\n'.encode()
    )


class _Samples(Collector):
    """Collects samples and groups them by name into Prometheus's metric families."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        families: dict[str, _Family] = {}
        for sample in self._samples():
            if sample.name not in families:
                families[sample.name] = _family(sample)
            labels = tuple(sample.labels.values())
            if isinstance(sample, Distribution):
                bounds = [*map(str, sample.bounds), "+Inf"]
                buckets = list(zip(bounds, accumulate(sample.counts), strict=True))
                families[sample.name].add_metric(labels, buckets, sample.total)
            else:
                families[sample.name].add_metric(labels, sample.value)
        yield from families.values()


def _family(sample: Sample | Distribution) -> _Family:
    """The empty metric family of a sample."""
    labels = tuple(sample.labels)
    if isinstance(sample, Distribution):
        return HistogramMetricFamily(sample.name, sample.meaning, labels=labels)
    kind = CounterMetricFamily if sample.counts else GaugeMetricFamily
    return kind(sample.name, sample.meaning, labels=labels)


class _Pauses(Collector):
    """Collects the pauses of Python's garbage collector."""

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "meshfold_gc_pause_seconds",
            "How long collections stopped every thread, by generation; 2 is a full one.",
            labels=("generation",),
        )
        bounds = [*map(str, PAUSE_BUCKETS_S), "+Inf"]
        for generation, counts, total_s in pauses:
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric((str(generation),), buckets, total_s)
        yield family
