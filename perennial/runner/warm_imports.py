"""The modules that the warm process imports, in the order in which a run first needs them.

This is the only list of them. Importing all takes about 14 s of processor time. A task that is
forked from a process that has done so starts at once; one that needs few of them is forked as soon
as those have been imported.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from perennial.tfx_compat import import_tfdv, prepare_process

# Groups of modules, imported in this order unless a call waits for a later one.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "pipeline": (
        "kfp.dsl.executor_main",
        "sqlalchemy",
        "perennial.cli.main",
        "components.select_spans.step",
    ),
    "data": ("pyarrow.parquet", "pandas", "apache_beam", "tensorflow", "tfx_bsl.public.tfxio"),
    "checks": ("great_expectations",),
    "statistics": ("tensorflow_data_validation",),
    "features": ("tensorflow_transform.beam",),
    "training": ("keras", "keras_tuner"),
    "registry": ("mlflow", "mlflow.store.tracking.sqlalchemy_store"),
    "serving": ("kserve",),
    "report": (
        "matplotlib.pyplot",
        "perennial.report.page",
        "tensorboard.default",
        "tensorboard.program",
    ),
    # The product's own, which import the rest of it. A task imports the user's module itself.
    "steps": ("components.*.step",),
}
ALL = tuple(GROUPS)
# What the first steps of a run need; all others wait for everything, which they find imported.
STEP_GROUPS: Mapping[str, tuple[str, ...]] = {
    "select_spans": ("pipeline",),
    "prepare_span": ("pipeline", "data", "checks", "statistics"),
    "validate_data": ("pipeline", "data", "checks", "statistics"),
    "analyse_features": ("pipeline", "data", "statistics", "features"),
    "transform_features": ("pipeline", "data", "statistics", "features"),
}

# Modules that libraries import at their top and no step uses: they are loaded at the first use of
# what they define, so that nothing behaves differently.
LAZY = frozenset(
    {
        "altair",  # Great Expectations: the chart of one expectation in a rendered page
        "google.cloud.bigquery",  # Beam: BigQuery as a source
        "kubernetes.client",  # KServe: its client for clusters
        "kubernetes.config",
        "kubernetes.dynamic",
        "kubernetes.leaderelection",
        "kubernetes.stream",
        "kubernetes.utils",
        "kubernetes.watch",
        "tqdm.notebook",  # google-cloud-bigquery: progress bars in notebooks
    }
)
# Modules that libraries import by name within try/except ImportError, so that laziness would not
# help. In tasks of the warm process what is built on them does not exist.
REFUSED = frozenset(
    {
        "IPython",  # Keras: an editor for notebooks; GX and MLflow: whether this is a notebook
        "pymongo",  # apache_beam.io.mongodbio: MongoDB as a source, which no step reads
    }
)


class _Finder:
    """Makes the modules of `LAZY` load when they are used, and hides those of `REFUSED`."""

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Finds a module for the import system: see `importlib.abc.MetaPathFinder`."""
        if name in REFUSED:
            raise ModuleNotFoundError(f"{name} is not imported in advance", name=name)
        if name not in LAZY:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


class _LazyLoader(Loader):
    """Loads a module when a name is looked up in it that it does not have yet.

    `importlib.util.LazyLoader` loads it at any look, and every task has some: TensorFlow compares
    the `__file__` of all modules with that of a function that it traces, and Beam visits the
    variables of all modules.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Creates a module for the import system: see `importlib.abc.Loader`."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Leaves the module as it is, until it is used."""
        # An import of a submodule looks `__path__` up first, and so loads the package before it.
        module.__dict__.pop("__path__", None)
        module.__class__ = _LazyModule


class _LazyModule(ModuleType):
    """A module that was imported and not loaded."""

    def __getattr__(self, name: str) -> Any:
        with _loading:
            if type(self) is _LazyModule:
                _load(self)
        return getattr(self, name)


_loading = threading.RLock()


def _load(module: ModuleType) -> None:
    spec = module.__spec__
    assert spec is not None and isinstance(spec.loader, _LazyLoader)
    lazy, spec.loader = spec.loader, spec.loader.loader
    module.__loader__ = spec.loader
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    module.__class__ = ModuleType
    try:
        spec.loader.exec_module(module)
    except BaseException:  # the next look gets the same error
        spec.loader = lazy
        lazy.exec_module(module)
        raise


class Imports:
    """Imports the groups one module at a time, those that are waited for first."""

    def __init__(self) -> None:
        prepare_process()
        self._left = {group: _modules(group) for group in GROUPS}
        self.environment: dict[str, str] = {}  # what libraries have set while they were imported
        self.failures: list[str] = []

    @property
    def finished(self) -> bool:
        """Tells whether everything has been imported."""
        return not self._left

    def has(self, groups: Iterable[str]) -> bool:
        """Tells whether all of these groups have been imported."""
        return not any(group in self._left for group in groups)

    def step(self, first: Iterable[str]) -> None:
        """Imports one more module: of the groups in `first` where one is left, else of the next."""
        group = next((name for name in first if name in self._left), next(iter(self._left)))
        before = dict(os.environ)
        # As in a task: kfp then leaves out its client, and Kubernetes' with it.
        os.environ["_KFP_RUNTIME"] = "true"
        sys.meta_path.insert(0, _Finder)
        module = self._left[group].pop(0)
        try:
            _import(module)
        except Exception:
            # The task that needs it fails with the same error, where a person sees it.
            self.failures.append(module)
            traceback.print_exc()
        finally:
            sys.meta_path.remove(_Finder)
            del os.environ["_KFP_RUNTIME"]
        self.environment |= {k: v for k, v in os.environ.items() if k not in before}
        if not self._left[group]:
            del self._left[group]


def _modules(group: str) -> list[str]:
    """Lists the modules of a group, with `components.*.step` written out."""
    names: list[str] = []
    for name in GROUPS[group]:
        if "*" not in name:
            names.append(name)
            continue
        package, module = name.split(".*.")
        parts = pkgutil.iter_modules(importlib.import_module(package).__path__)
        names += sorted(f"{package}.{part.name}.{module}" for part in parts if part.ispkg)
    return names


def _import(name: str) -> None:
    if name == "tensorflow_data_validation":
        import_tfdv()
        return
    module = importlib.import_module(name)
    if name == "perennial.report.page":
        module.load_templates()
