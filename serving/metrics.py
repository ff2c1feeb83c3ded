"""Metrics for Prometheus, beside KServe's own latencies."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.domains import DomainCheck
from serving.follower import Slot


class SlotCollector(Collector):
    """Reads the slot at each scrape, so exactly one model is shown however often it is replaced."""

    def __init__(self, slot: Slot, domains: DomainCheck) -> None:
        self._slot = slot
        self._domains = domains

    def collect(self) -> Iterable[Metric]:
        """Gives the current values."""
        model = self._slot.model
        info = GaugeMetricFamily(
            "perennial_model_info", "The model that serves.", labels=["name", "version", "digest"]
        )
        info.add_metric([model.name, model.version, model.digest], 1)
        yield info
        loads, reads = self._slot.failed_loads, self._slot.failed_reads
        yield CounterMetricFamily(
            "perennial_failed_loads", "Attempts to load a deployment that failed.", value=loads
        )
        yield CounterMetricFamily(
            "perennial_failed_ledger_reads", "Reads of the ledger that failed.", value=reads
        )
        outside = CounterMetricFamily(
            "perennial_values_outside_domain",
            "Values of requests outside their feature's domain in the schema.",
            labels=["feature"],
        )
        for feature, count in sorted(self._domains.counts.copy().items()):
            outside.add_metric([feature], count)
        yield outside
