"""Metrics for Prometheus, beside KServe's own latencies: for each version and arm, and the server.

Prometheus' own counters are used without its registry, so that a server that ends leaves none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Literal

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from schemas.records import Arm
from serving.domains import DomainCheck
from serving.observer import ObserverQueue
from serving.slot import LiveArms, Slot

Result = Literal["answered", "refused", "failed"]
"""Of a request: it was answered, did not fit the model (HTTP 400), or the model raised."""
Cause = Literal["refused", "failed", "not_loaded"]
"""Why the champion answered for a challenger: the same of the challenger, or it is not there."""
_RESULTS: tuple[Result, ...] = ("answered", "refused", "failed")
_KEPT = 20  # versions and arms whose metrics are kept; every promotion brings one
_SECONDS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class ArmMetrics:
    """Counts requests by version and arm. Calls may come from several threads at once.

    Attributes:
        shadow_dropped: Requests that the shadow did not answer, as it had too many.
    """

    def __init__(self) -> None:
        labels = ("version", "arm")
        self._seconds = Histogram(
            "perennial_request_seconds",
            "From a request's arrival to its answer; of a shadow, its own computing.",
            labels,
            buckets=_SECONDS,
            registry=None,
        )
        self._requests = Counter(
            "perennial_requests",
            "Requests by how they ended: answered, refused (HTTP 400) or failed.",
            (*labels, "result"),
            registry=None,
        )
        self._fallbacks = Counter(
            "perennial_fallbacks",
            "Requests of the challenger that the champion answered, and why.",
            ("version", "cause"),
            registry=None,
        )
        self._used: dict[tuple[str, Arm], float] = {}
        self._lock = threading.Lock()
        self.shadow_dropped = 0

    def count(self, version: str, arm: Arm, result: Result, seconds: float) -> None:
        """Counts a request that an arm answered, refused or failed on."""
        with self._lock:
            new = (version, arm) not in self._used
            self._used[version, arm] = time.monotonic()
            if new and len(self._used) > _KEPT:
                self._forget_the_oldest()
        self._requests.labels(version, arm, result).inc()
        if result == "answered":
            self._seconds.labels(version, arm).observe(seconds)

    def count_fallback(self, version: str, cause: Cause) -> None:
        """Counts a request that the champion answered in place of a challenger's version."""
        self._fallbacks.labels(version, cause).inc()

    def count_dropped(self) -> None:
        """Counts a request that the shadow did not get."""
        with self._lock:
            self.shadow_dropped += 1

    def collect(self) -> Iterable[Metric]:
        """Gives the current values."""
        for metric in (self._seconds, self._requests, self._fallbacks):
            yield from metric.collect()
        yield CounterMetricFamily(
            "perennial_shadow_dropped",
            "Requests that the shadow did not answer, as too many waited for it.",
            value=self.shadow_dropped,
        )

    def _forget_the_oldest(self) -> None:
        oldest = min(self._used, key=lambda each: self._used[each])
        del self._used[oldest]
        version, arm = oldest
        self._seconds.remove(version, arm)
        for result in _RESULTS:
            self._requests.remove(version, arm, result)


class SlotCollector(Collector):
    """Reads the slot at each scrape, so just what answers is shown, however often it changes."""

    def __init__(
        self, slot: Slot, domains: DomainCheck, arms: ArmMetrics, observers: ObserverQueue
    ) -> None:
        self._slot, self._domains, self._arms, self._observers = slot, domains, arms, observers

    def collect(self) -> Iterable[Metric]:
        """Gives the current values."""
        live = self._slot.arms
        model = live.champion
        info = GaugeMetricFamily(
            "perennial_model_info", "The model that serves.", labels=["name", "version", "digest"]
        )
        info.add_metric([model.name, model.version, model.digest], 1)
        yield info
        yield _shares(live)
        yield GaugeMetricFamily(
            "perennial_ledger_readable",
            "1: the newest read of the ledger succeeded; 0: it failed, and what served goes on.",
            value=self._slot.ledger_readable,
        )
        counters = {
            "perennial_failed_loads": (
                "Attempts to load a version that failed.",
                self._slot.failed_loads,
            ),
            "perennial_failed_ledger_reads": (
                "Reads of the ledger that failed.",
                self._slot.failed_reads,
            ),
            "perennial_unlogged_answers": (
                "Answers that the log did not take, as too many waited for it or it failed.",
                self._observers.dropped + self._observers.failed,
            ),
        }
        for name, (description, value) in counters.items():
            yield CounterMetricFamily(name, description, value=value)
        outside = CounterMetricFamily(
            "perennial_values_outside_domain",
            "Values of requests outside their feature's domain in the schema.",
            labels=["feature"],
        )
        for feature, count in sorted(self._domains.counts.copy().items()):
            outside.add_metric([feature], count)
        yield outside
        yield from self._arms.collect()


def _shares(live: LiveArms) -> Metric:
    """Gives each arm's part of the answers, as far as its version is loaded."""
    shares = GaugeMetricFamily(
        "perennial_arm_share",
        "The part of the traffic that each arm answers; a shadow answers none.",
        labels=["arm", "version"],
    )
    taken = 0.0
    if live.test is not None and live.test.model is not None:
        challenger = live.test.challenger
        taken = challenger.share
        shares.add_metric([challenger.arm, challenger.version], taken)
    shares.add_metric(["champion", live.champion.version], 1 - taken)
    return shares
