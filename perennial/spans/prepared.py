"""Prepared spans: which were ingested, checked and measured, and where that lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Self

from perennial.errors import StoreError
from perennial.results.store import Results, key_of
from perennial.step_inputs import PREPARATION
from schemas.records import PreparedSpan, Reference, Selection, Span

if TYPE_CHECKING:
    from perennial.project import Project

STEP = "prepare_span"


class PreparedSpans:
    """Finds what spans became; each lies in the root by what it was made of.

    Args:
        results: The results in the root.
        digests: What ingestion, checks and statistics read of the project, each as a digest.
    """

    def __init__(self, results: Results, digests: Sequence[str]) -> None:
        self._results, self._digests = results, list(digests)

    @classmethod
    def of_run(cls, results: Results, selection: Selection) -> Self:
        """Finds those of a run, by the project as it was when the run began."""
        digests = selection.data_digest, selection.rules_digest, selection.statistics_digest
        return cls(results, digests)

    @classmethod
    def of_project(cls, results: Results, project: Project) -> Self:
        """Finds those that a run would begin with now."""
        return cls(results, [project.digest_of(step) for step in PREPARATION])

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

    def results_of(self, spans: Iterable[Span]) -> Iterator[tuple[str, str]]:
        """Gives step and key of each result that these spans have in the root."""
        for span, prepared in self._find_all(spans):
            yield STEP, self._key(span)
            yield key_of_ingestion(self._digests[0], span)
            for made in (prepared.checked, prepared.statistics) if prepared else ():
                yield made.step, made.key

    def keys(self, spans: Iterable[Span]) -> list[str]:
        """Gives the key of each span's record among the results of `STEP`."""
        return [self._key(span) for span in spans]

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
        return list(zip(landed, self._results.in_parallel(self._find, landed), strict=True))

    def _find(self, span: Span) -> PreparedSpan | None:
        result = self._results.find(STEP, self._key(span))
        if result is None:
            return None
        prepared = PreparedSpan.model_validate(result.value)
        made = (prepared.checked, prepared.statistics)
        # One that was found lost since is forgotten: then the span is to be prepared again.
        whole = all(self._results.find(one.step, one.key) is not None for one in made)
        return prepared if whole else None

    def _key(self, span: Span) -> str:
        return key_of(STEP, "", [*self._digests, span.model_dump(mode="json")])


def key_of_ingestion(digest: str, span: Span) -> tuple[str, str]:
    """Gives step and key of what a span was ingested into."""
    return PREPARATION[0], key_of(PREPARATION[0], digest, [span.model_dump(mode="json")])
