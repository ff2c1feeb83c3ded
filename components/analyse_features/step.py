"""Analyses the window for the user's `preprocessing_fn`, reading new spans only."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.analyse_features.cache import AnalyzerCache, read_entries, write_entries
from components.analyse_features.fingerprint import fingerprint
from perennial.data.beam import make_pipeline
from perennial.data.examples import split_sources
from perennial.data.preprocessing import (
    Preprocessing,
    load_preprocessing,
    naming_user_line,
    raw_examples,
    read_batches,
)
from perennial.data.worker_files import Source, Workers
from perennial.errors import ProjectError
from perennial.project import Project
from perennial.results.store import Results
from perennial.training.transformed_features import TRANSFORM_GRAPH
from schemas.project import BeamSettings
from schemas.records import CheckedSpan

if TYPE_CHECKING:
    from tensorflow_transform.beam.analyzer_cache import DatasetCache, DatasetKey

_KEPT = "kept"


@dataclass(frozen=True)
class SpanExamples:
    """The train split of one span of the window; `content` identifies its examples."""

    name: str
    content: str
    files: tuple[Source, ...]


@dataclass(frozen=True)
class FeatureAnalysis:
    """Names of the spans that were read, and of those whose kept accumulators were used."""

    read: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """The division of a window into spans that are read and spans with kept accumulators.

    All spans with kept accumulators are one dataset, so that the work does not grow with their
    number: an analyzer merges any number of accumulators, whichever dataset they came from. Every
    other span is a dataset of its own, because its accumulators are to be kept.
    """

    kept: tuple[SpanExamples, ...]
    new: tuple[SpanExamples, ...]
    entries: dict[bytes, list[Path]]

    def datasets(self) -> dict[DatasetKey, list[Source]]:
        """Gives the files of each dataset."""
        from tensorflow_transform.beam.analyzer_cache import DatasetKey

        sources = {DatasetKey(f"span-{i}"): list(span.files) for i, span in enumerate(self.new)}
        if self.kept:
            sources[DatasetKey(_KEPT, is_cached=False)] = [
                file for span in self.kept for file in span.files
            ]
        return sources

    def known(self, accumulators: Mapping[bytes, Any]) -> dict[DatasetKey, DatasetCache]:
        """Gives the accumulators of spans that need not be read, in TensorFlow Transform's form."""
        from tensorflow_transform.beam.analyzer_cache import DatasetCache, DatasetKey

        return (
            {DatasetKey(_KEPT, is_cached=False): DatasetCache(accumulators, None)}
            if self.kept
            else {}
        )


def analyse_features(project: Project, window: Path, output: Path) -> FeatureAnalysis:
    """Writes `output/transform_graph/`: `preprocessing_fn` with statistics of the train split.

    What the analyzers accumulated over a span is kept in the root by the digest of the span's
    examples, so that a window with one new span reads that span alone, on whatever machine. An
    analyzer whose accumulators cannot be kept (one that depends on another analyzer) makes the
    whole window be read. Damaged entries are made again. TensorFlow Transform's analysis needs a
    folder that all of its workers share, so it works in this process, whichever runner the settings
    name.

    Raises:
        ProjectError: `preprocessing_fn` fails, with its line; or the window has no example to train
            on.
        StoreError: The root cannot be read or written.
    """
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / TRANSFORM_GRAPH, ignore_errors=True)
    spans = train_spans(window, Workers.of(project).root)
    if not spans:
        where, remedy = "project.yaml: data.splits.train", "Land more data, or raise it."
        raise ProjectError(where, "must leave some examples of the window", "none", remedy)
    with naming_user_line(project):
        return _analyse(project, spans, output)


def train_spans(window: Path, root: str | None) -> list[SpanExamples]:
    """Lists the spans of a window that have examples to train on, by name.

    One held out as a whole has none. Where `root` is given, their files lie there.
    """
    examples = []
    for folder in sorted(file.parent for file in window.glob(f"*/{CheckedSpan.FILE}")):
        checked, files = CheckedSpan.read(folder), tuple(split_sources(folder, "train", root=root))
        if files and checked.rows.get("train"):
            examples.append(SpanExamples(folder.name, checked.content, files))
    return examples


def _analyse(project: Project, spans: list[SpanExamples], output: Path) -> FeatureAnalysis:
    from tensorflow_transform.beam import analysis_graph_builder
    from tensorflow_transform.beam.analyzer_cache import DatasetKey
    from tfx_bsl.tfxio.tensor_adapter import TensorAdapter

    preprocessing = load_preprocessing(project)
    specs = TensorAdapter(
        raw_examples(project, "analyse_features").TensorAdapterConfig()
    ).OriginalTypeSpecs()
    keys = analysis_graph_builder.get_analysis_cache_entry_keys(
        preprocessing, specs, {DatasetKey("any")}, False
    )
    of_analysis = fingerprint(preprocessing, specs, sorted(keys))
    with tempfile.TemporaryDirectory() as scratch:
        results = Results(project.root, project.state)
        cache = AnalyzerCache(results, of_analysis, Path(scratch))
        plan = _plan(cache, spans, sorted(keys))
        required = analysis_graph_builder.get_analysis_dataset_keys(
            preprocessing, specs, set(plan.datasets()), plan.known(plan.entries), False
        )
        _run(project, preprocessing, plan, required, Path(scratch), output)
        if keys:
            for number, span in enumerate(plan.new):
                written = Path(scratch, "entries", f"span-{number}")
                cache.publish(span.name, span.content, sorted(keys), written)
    kept_only = () if any(key.key == _KEPT for key in required) else plan.kept
    return FeatureAnalysis(
        read=tuple(span.name for span in spans if span not in kept_only),
        kept=tuple(span.name for span in kept_only),
    )


def _plan(cache: AnalyzerCache, spans: list[SpanExamples], required: list[bytes]) -> _Plan:
    kept, new = [], []
    entries: dict[bytes, list[Path]] = {key: [] for key in required}
    # Without analyzers to keep anything of, the spans need not be told apart.
    contents = [span.content for span in spans]
    found = cache.find_all(contents, required) if required else [{} for _ in spans]
    for span, files in zip(spans, found, strict=True):
        if files is None:
            new.append(span)
            continue
        kept.append(span)
        for key, file in files.items():
            entries[key].append(file)
    return _Plan(tuple(kept), tuple(new), entries)


def _run(
    project: Project,
    preprocessing: Preprocessing,
    plan: _Plan,
    required: set[Any],
    scratch: Path,
    output: Path,
) -> None:
    """Runs the Beam pipeline that writes the graph.

    Below `scratch/entries` it leaves what is to be kept of each new span.
    """
    from tensorflow_transform import beam as tft_beam

    examples = raw_examples(project, "analyse_features")
    # The pipeline runs when its context ends, so the scratch folder must outlive it.
    with (
        make_pipeline(_options(project)) as pipeline,
        tft_beam.Context(temp_dir=str(scratch / "beam")),
    ):
        data = {
            key: read_batches(pipeline, key.key, files, examples) if key in required else None
            for key, files in plan.datasets().items()
        }
        known = plan.known(read_entries(pipeline, plan.entries) if plan.kept else {})
        graph, accumulated = (data, known, examples.TensorAdapterConfig()) | "Analyse" >> (
            tft_beam.AnalyzeDatasetWithCache(preprocessing, pipeline=pipeline)
        )
        graph | "Write graph" >> tft_beam.WriteTransformFn(str(output / TRANSFORM_GRAPH))
        write_entries(
            pipeline,
            {key.key: cache.cache_dict for key, cache in accumulated.items()},
            scratch / "entries",
        )


def _options(project: Project) -> tuple[str, ...]:
    """Gives the settings' options, or Beam's own where those mean other machines."""
    workers = Workers.of(project)
    return workers.options if workers.root is None else tuple(BeamSettings().arguments)
