"""What the warm process imports, in the order in which a run first needs it; the only list of it.

Importing it all takes about 14 s of processor time. A task that is forked from a process that has done so starts at
once, and one that needs little of it is forked as soon as that is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from perennial.tfx_compat import import_tfdv, prepare_process

# Groups of modules, imported in this order unless somebody waits for a later one.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "pipeline": ("kfp.dsl.executor_main", "sqlalchemy", "perennial.cli.main", "components.select_spans.step"),
    "data": ("pyarrow.parquet", "pandas", "apache_beam", "tensorflow", "tfx_bsl.public.tfxio"),
    "checks": ("great_expectations",),
    "statistics": ("tensorflow_data_validation",),
    "features": ("tensorflow_transform.beam",),
    "training": ("keras",),
    "registry": ("mlflow",),
    "serving": ("kserve",),
    "report": ("matplotlib.pyplot", "tensorboard.default", "tensorboard.program"),
    # The product's own, which import the rest of it. The user's module is imported by the task that needs it.
    "steps": ("components.*.step",),
}
ALL = tuple(GROUPS)
# What the first steps of a run need; all others wait for everything, which is there by then.
STEP_GROUPS: Mapping[str, tuple[str, ...]] = {
    "select_spans": ("pipeline",),
    "ingest_examples": ("pipeline", "data"),
    "check_examples": ("pipeline", "data", "checks"),
    "compute_statistics": ("pipeline", "data", "statistics"),
    "validate_data": ("pipeline", "data", "checks", "statistics"),
    "analyse_features": ("pipeline", "data", "statistics", "features"),
    "transform_features": ("pipeline", "data", "statistics", "features"),
}

# Modules that libraries import at their top and no step uses: they are loaded at the first use of one of their
# attributes, by whoever uses it, so that nothing behaves differently.
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
# Modules that libraries import by name within try/except ImportError, so that laziness would not help. In tasks of the
# warm process what is built on them is not there.
REFUSED = frozenset(
    {
        "IPython",  # keras.src.saving.file_editor: an editor for notebooks; GX and MLflow: whether this is a notebook
        "pymongo",  # apache_beam.io.mongodbio: MongoDB as a source, which no step reads
    }
)


class _Finder:
    """Finds the modules of `LAZY` so that they load when they are used, and does not find those of `REFUSED`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Part of the import system: see `importlib.abc.MetaPathFinder`."""
        if name in REFUSED:
            raise ModuleNotFoundError(f"{name} is not imported in advance", name=name)
        if name not in LAZY:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


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

    def step(self, wanted: Iterable[str]) -> None:
        """Imports one more module: of the first wanted group that is left, else of the next group."""
        group = next((name for name in wanted if name in self._left), next(iter(self._left)))
        before = dict(os.environ)
        os.environ["_KFP_RUNTIME"] = "true"  # as in a task: kfp then leaves out its client, and Kubernetes' with it
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
        self.environment |= {name: value for name, value in os.environ.items() if name not in before}
        if not self._left[group]:
            del self._left[group]


def _modules(group: str) -> list[str]:
    """The modules of a group, with `components.*.step` written out."""
    names: list[str] = []
    for name in GROUPS[group]:
        if "*" not in name:
            names.append(name)
            continue
        package, module = name.split(".*.")
        rooms = pkgutil.iter_modules(importlib.import_module(package).__path__)
        names += sorted(f"{package}.{room.name}.{module}" for room in rooms if room.ispkg)
    return names


def _import(name: str) -> None:
    if name == "tensorflow_data_validation":
        import_tfdv()
    else:
        importlib.import_module(name)
