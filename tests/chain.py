"""The steps from two landed days of real digits to an evaluated candidate, run once with small settings."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from perennial.project import Project, load_project
from perennial.storage.digests import digest_file
from schemas.records import Champion, Deployment, ModelVersion, Selection, Span
from tests.perennial.folders import make_project

QUICK: dict[str, Any] = {
    "stabilise": {"draws": 2, "steps": 6},
    "train": {"epochs": 4, "learning_rate": 0.004},
    "gate": {"floors": {}},
}

FOLDERS = (
    "window",
    "measured",
    "validation",
    "graph",
    "features",
    "weights",
    "evaluation",
    "candidate",
)


@dataclass(frozen=True)
class Chain:
    """Where the steps of the chain left what they made; nothing in it is ever changed."""

    folder: Path

    @property
    def project(self) -> Project:
        return load_project(self.folder / "digits")

    @property
    def selection(self) -> Selection:
        return Selection.model_validate_json((self.folder / "selection.json").read_text())

    @property
    def version(self) -> ModelVersion:
        """The other instance, which was registered and serves."""
        return ModelVersion.model_validate_json((self.folder / "version.json").read_text())

    @property
    def champion(self) -> Champion:
        return Champion(version=self.version.version, digest=self.version.digest, deployment=1)

    def examples(self, span: str) -> Path:
        return self.folder / "examples" / span

    def checked(self, span: str) -> Path:
        return self.folder / "checked" / span

    def statistics(self, span: str) -> Path:
        return self.folder / "statistics" / span

    def model(self, instance: str) -> Path:
        return self.folder / "models" / instance

    def __getattr__(self, name: str) -> Path:
        if name in FOLDERS:
            return self.folder / name
        raise AttributeError(name)


def landing(project: Project) -> Any:
    """The project's own `land.py`."""
    spec = importlib.util.spec_from_file_location("digits_landing", project.folder / "land.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def land(project: Project, day: int, corruption: str | None = None) -> Span:
    """Lands a day; gives its span."""
    path = landing(project).land(project.folder / "data", day, corruption)
    return span_of(path)


def span_of(path: Path, name: str | None = None) -> Span:
    return Span(name=name or path.stem, version=1, uri=str(path), fingerprint=digest_file(path))


def copy_project(chain: Chain, folder: Path) -> Project:
    """The chain's project in a folder of its own, with its registry's database still empty."""
    shutil.copytree(chain.project.folder, folder, ignore=shutil.ignore_patterns(".perennial"))
    project = load_project(folder)
    project.state.mkdir()
    shutil.copy(chain.folder / "blank_registry.db", project.state / "registry.db")
    return project


def with_module(project: Project, old: str, new: str) -> Project:
    """The project with one piece of its model.py replaced."""
    text = project.module_path.read_text()
    assert old in text
    project.module_path.write_text(text.replace(old, new))
    return load_project(project.folder)


def with_settings(project: Project, section: str, **changes: Any) -> Project:
    """The project with other settings in one section."""
    changed = getattr(project.settings, section).model_copy(update=changes)
    return replace(project, settings=project.settings.model_copy(update={section: changed}))


def on_another_machine(project: Project, folder: Path) -> Project:
    """The same project in another folder, with the same root and nothing of the first one's state."""
    shutil.copytree(project.folder, folder, ignore=shutil.ignore_patterns(".perennial"))
    return replace(project, folder=folder)


def with_root(project: Project, root: str) -> Project:
    """The project with another root."""
    return replace(project, settings=project.settings.model_copy(update={"root": root}))


def run_chain(folder: Path) -> None:
    """Runs everything up to the comparison of two instances with a champion.

    Needs a warm process.
    """
    from components.select_spans.step import select_spans
    from components.validate_data.step import validate_data

    project = make_project(folder / "digits", **QUICK)
    for day in (1, 2):
        land(project, day)
    chain = Chain(folder)
    selection = select_spans(project, "run-1")
    (folder / "selection.json").write_text(selection.model_dump_json())
    for span in selection.window:
        _ingest(chain, span)
    names = [span.name for span in selection.window]
    checked, statistics = (
        [chain.checked(name) for name in names],
        [chain.statistics(name) for name in names],
    )
    outputs = (chain.window, chain.measured, chain.validation)
    validate_data(project, selection.new_spans, selection.released, checked, statistics, *outputs)
    _train(chain, selection)
    _register(chain)
    _evaluate(chain, selection)
    # Those that are imported and wait to be used are of another type.
    loaded = sorted(name for name, module in sys.modules.items() if type(module) is ModuleType)
    (folder / "loaded.txt").write_text("\n".join(loaded))


def _ingest(chain: Chain, span: Span) -> None:
    from components.check_examples.step import check_examples
    from components.compute_statistics.step import measure_span
    from components.ingest_examples.step import ingest_examples

    project = chain.project
    ingest_examples(project, span, chain.examples(span.name))
    check_examples(project, chain.examples(span.name), chain.checked(span.name))
    measure_span(project, chain.checked(span.name), chain.statistics(span.name))


def _train(chain: Chain, selection: Selection) -> None:
    from components.analyse_features.step import analyse_features
    from components.stabilise_weights.step import stabilise_weights
    from components.train_model.step import Inputs, train_model
    from components.transform_features.step import transform_features

    analyse_features(chain.project, chain.window, chain.graph)
    transform_features(chain.project, chain.window, chain.graph, chain.features)
    stabilise_weights(chain.project, chain.features, None, None, chain.weights)
    inputs = Inputs(chain.features, chain.window, chain.weights)
    for instance in selection.instances:
        train_model(chain.project, instance, inputs, None, chain.model(instance.name))


def _register(chain: Chain) -> None:
    """Makes the worse instance the champion."""
    from components.evaluate_model.step import choose_candidate
    from perennial.ledger.events import Ledger
    from perennial.registry.versions import Candidate, Registry
    from perennial.training.artifacts import SAVED_MODEL
    from schemas.records import Training

    registry = Registry(chain.project)
    registry.versions()
    shutil.copy(chain.project.state / "registry.db", chain.folder / "blank_registry.db")
    trainings = [Training.read(path) for path in sorted((chain.folder / "models").iterdir())]
    other = next(t for t in trainings if t is not choose_candidate(trainings))
    version = registry.register(
        Candidate(
            chain.model(other.instance.name) / SAVED_MODEL,
            other.digest,
            {},
            {},
            {},
            {"run": "run-0"},
        )
    )
    (chain.folder / "version.json").write_text(version.model_dump_json())
    made = Deployment(
        version=version.version,
        digest=version.digest,
        action="push",
        by="a test",
        why="a test",
        replaces=None,
    )
    Ledger(chain.project.ledger_url).deploy(made, "run-0")


def _evaluate(chain: Chain, selection: Selection) -> None:
    from components.evaluate_model.step import Outputs, evaluate_model

    models = [chain.model(instance.name) for instance in selection.instances]
    outputs = Outputs(chain.evaluation, chain.candidate)
    evaluate_model(chain.project, chain.champion, chain.window, models, outputs)
