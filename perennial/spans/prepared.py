"""Which spans of a selection were ingested, checked and measured, and where that lies."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from perennial.errors import StoreError
from perennial.storage.results import Results, key_of
from schemas.records import PreparedSpan, Reference, Selection, Span

STEP = "prepare_span"
_AT_ONCE = 8  # looked up at the same time


class PreparedSpans:
    """Finds what a run's spans became; each lies in the root by what it was made of.

    Args:
        results: The results in the root.
        selection: Holds the keys of ingestion, checks and statistics.
    """

    def __init__(self, results: Results, selection: Selection) -> None:
        self._results = results
        self._digests = [
            selection.data_digest,
            selection.rules_digest,
            selection.statistics_digest,
        ]

    def pending(self, spans: Iterable[Span]) -> list[Span]:
        """Lists those that still have to be prepared.

        Raises:
            StoreError: The root cannot be read.
        """
        return [span for span, prepared in self._find_all(spans) if prepared is None]

    def read(self, spans: Iterable[Span]) -> list[PreparedSpan]:
        """Gives what each span became.

        Raises:
            StoreError: One was not prepared, or what was made of it was removed.
        """
        all_prepared = []
        for span, prepared in self._find_all(spans):
            if prepared is None:
                raise StoreError(
                    f"root {self._results.objects.location}",
                    f"must hold what {STEP} made of span {span.name}",
                    "nothing",
                    "It was removed: run again, which makes it anew.",
                )
            all_prepared.append(prepared)
        return all_prepared

    def record(self, span: Span, checked: Reference, statistics: Reference) -> None:
        """Records what a span became.

        Raises:
            StoreError: The root cannot be written.
        """
        prepared = PreparedSpan(checked=checked, statistics=statistics)
        value = prepared.model_dump(mode="json")
        self._results.publish(STEP, self._key(span), {}, {}, value)

    def _find_all(self, spans: Iterable[Span]) -> list[tuple[Span, PreparedSpan | None]]:
        landed = list(spans)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(zip(landed, pool.map(self._find, landed), strict=True))

    def _find(self, span: Span) -> PreparedSpan | None:
        result = self._results.find(STEP, self._key(span))
        return PreparedSpan.model_validate(result.value) if result is not None else None

    def _key(self, span: Span) -> str:
        return key_of(STEP, "", [*self._digests, span.model_dump(mode="json")])
