"""Loading a project: `project.yaml`, the model module, the schema and the expectations.

From a folder, or from the package that a run was given.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from perennial.errors import ProjectError
from perennial.package.contents import Contents
from perennial.package.git import git_commit
from perennial.package.store import (
    OpenPackage,
    PackageReference,
    fetch_archive,
    open_package,
    parse_reference,
    scratch_folder,
)
from perennial.settings import SETTINGS_FILE, parse_settings
from perennial.step_inputs import (
    EXPECTATIONS_FILE,
    FILES,
    MODULE,
    PLACES,
    SCHEMA_FILE,
    SCHEMA_TYPES,
    STEP_INPUTS,
    keep_settings,
    settings_of,
)
from perennial.storage.digests import digest_file, digest_value
from perennial.storage.files import is_url
from perennial.tasks import Task, tasks_of
from perennial.tfx_compat import spare_conversions
from perennial.user_module import (
    defined_names,
    digest_files,
    find_module,
    imported_files,
    load_module,
    load_named,
    named_paths,
)
from schemas.project import ProjectSettings

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

PREPROCESSING, NATIVE, RUN_FN = "preprocessing_fn", "build_model", "run_fn"

# Part of every digest: raise it when the code changes what the same settings mean.
FORMAT = 5
# Of a feature in a schema: what `types_of` keeps.
_TYPE_FIELDS = ("name", "type", "lifecycle_stage", "shape_type", "domain_info")


@dataclass(frozen=True)
class Project:
    """A loaded project. Paths are absolute.

    Attributes:
        folder: The project folder: state and landed data lie there. Of a package that was opened
            without one, a folder of this machine that may vanish.
        settings: All of them; of a project that a step opened, those that it declares and `PLACES`.
        files: Which files of the project may be read, of `perennial.step_inputs.FILES`.
        package: The package that its files are read from; None: the folder itself.
        contents: Which files of `source` a package holds; None: of a project that only a step has.
    """

    folder: Path
    settings: ProjectSettings
    files: frozenset[str] = FILES
    package: OpenPackage | None = None
    contents: Contents | None = None

    @property
    def source(self) -> Path:
        """Folder with the project's files: settings, module, schema, expectations."""
        return self.folder if self.package is None else self.package.folder

    @property
    def location(self) -> str:
        """Gives what `load_project` loads it from, in any process of this machine."""
        return str(self.folder if self.package is None else self.package.reference)

    @property
    def state(self) -> Path:
        """Folder for everything that runs leave behind."""
        return self.folder / self.settings.state

    @property
    def root(self) -> str:
        """Gives where results of this project's steps are kept: an absolute folder, or a URL.

        Below a root that the settings name each project has a folder of its own. A package is read
        from the root, and names it.
        """
        if self.package is not None:
            return self.package.reference.root
        root = self.settings.root
        if root is None:
            return str(self.state)
        place = root if is_url(root) else str(self.folder / root)
        return f"{place.rstrip('/')}/{self.settings.name}"

    @property
    def scratch(self) -> Path:
        """Folder for what steps have in hand."""
        return self.state / "work"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.settings.ledger.url or f"sqlite:///{self.state / 'ledger.db'}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Gives the tasks of the model; the gate reads the first."""
        return tasks_of(self.settings)

    @cached_property
    def module_path(self) -> Path:
        """File of the user's model module.

        In the project folder, or wherever an importable name leads.

        Raises:
            ProjectError: No module of that name can be imported.
        """
        self._check_declared(MODULE)
        name = self.settings.model.module
        return self.source / name if _is_file_name(name) else find_module(name)

    def module(self) -> ModuleType:
        """The user's model module, imported.

        Raises:
            ProjectError: It does not exist, or fails while it is imported.
        """
        name = self.settings.model.module
        module = load_module(self.module_path) if _is_file_name(name) else load_named(name)
        if "tensorflow" in sys.modules:
            spare_conversions()
        return module

    @property
    def module_files(self) -> list[Path]:
        """The module, the files of its folder that it imports, and those that it may open.

        Of a module by its importable name, that file alone: the rest is of the environment.
        """
        path = self.module_path
        if not _is_file_name(self.settings.model.module):
            return [path]
        imported = imported_files(path)
        return [*imported, *self._opened_by(imported)]

    @property
    def required_files(self) -> list[Path]:
        """The files of the folder that a run cannot do without."""
        files = [self.source / SETTINGS_FILE, self.schema_path, self.expectations_path]
        if _is_file_name(self.settings.model.module):
            files += imported_files(self.module_path)
        return [path for path in files if path.is_file()]

    def _opened_by(self, sources: list[Path]) -> list[Path]:
        """Lists the files of a package that the module's sources or the settings name."""
        if self.contents is None or not self.module_path.is_relative_to(self.source):
            return []
        own = {self.source / name for name in (SETTINGS_FILE, SCHEMA_FILE, EXPECTATIONS_FILE)}
        files: set[Path] = set()
        for path in named_paths(sources, self.module_path.parent):
            if path.is_dir():
                files.update(self.contents.files(path))
            elif self.contents.holds(path):
                files.add(path)
        for pattern in self.settings.model.files:
            files.update(self.files_of_pattern(pattern))
        return sorted(files - own - set(sources))

    def files_of_pattern(self, pattern: str) -> list[Path]:
        """Lists the files of a package that a pattern of `model.files` names."""
        if self.contents is None:
            return []
        files = self.module_path.parent.glob(pattern)
        return [path for path in files if path.is_file() and self.contents.holds(path)]

    def module_digest(self) -> str:
        """Gives the digest of the module, of what it imports and of the files that it names."""
        files = self.module_files
        return (
            digest_files(self.module_path.parent, files) if files else digest_file(self.module_path)
        )

    @cached_property
    def uses_run_fn(self) -> bool:
        """Tells whether the module trains by itself with TFX's `run_fn`.

        It has one, and no `build_model`.
        """
        names = defined_names(self.module_path)
        return RUN_FN in names and NATIVE not in names

    @property
    def schema_path(self) -> Path:
        """The schema of the raw data (tensorflow_metadata, text format)."""
        self._check_declared(SCHEMA_FILE)
        return self.source / SCHEMA_FILE

    @property
    def expectations_path(self) -> Path:
        """The Great Expectations suite."""
        self._check_declared(EXPECTATIONS_FILE)
        return self.source / EXPECTATIONS_FILE

    @cached_property
    def schema(self) -> Schema:
        """The parsed schema; for a step that declares only its types, with nothing else.

        Raises:
            ProjectError: The file is missing or is not a schema.
        """
        if SCHEMA_FILE in self.files:
            return read_schema(self.schema_path)
        self._check_declared(SCHEMA_TYPES)
        return types_of(read_schema(self.source / SCHEMA_FILE))

    @cached_property
    def expectations(self) -> list[dict[str, Any]]:
        """The expectations of the suite, each with `type` and `kwargs`.

        Raises:
            ProjectError: The file is missing, is not JSON, or holds no list of expectations.
        """
        return read_expectations(self.expectations_path)

    @property
    def label_types(self) -> tuple[str, ...]:
        """The types of the schema that the label may have.

        What the tasks that read it as it lands can learn from.
        """
        fits = [
            ("INT",) if task.is_classes else ("INT", "FLOAT")
            for task in self.tasks
            if task.reads_landed(self.settings.label)
        ]
        return min(fits, key=len, default=("INT", "FLOAT", "BYTES"))

    def digest_of(self, step: str) -> str:
        """Gives the digest of what a step reads: its key, beside its other inputs."""
        inputs = STEP_INPUTS[step]
        files = [self._digest_file(file) for file in inputs.files]
        return digest_value(
            [FORMAT + inputs.revision, settings_of(self.settings, inputs.settings), files]
        )

    def opened_for(self, step: str, expected: str) -> Project:
        """Opens the project for a step: as the run selected it, with only what the step declares.

        Args:
            step: Name of the step, of `perennial.step_inputs.STEP_INPUTS`.
            expected: What `digest_of` gave for the step when the run began.

        Raises:
            ProjectError: What the step reads of the project changed since the run began.
        """
        received = self.digest_of(step)
        if received != expected:
            inputs = STEP_INPUTS[step]
            sections = dict.fromkeys(path.partition(".")[0] for path in inputs.settings)
            raise ProjectError(
                f"what {step} reads of the project ({', '.join((*sections, *inputs.files))})",
                f"must stay as it was when the run began ({expected[:12]})",
                received[:12],
                "Run again; finished steps that the change does not touch are reused.",
            )
        return self.for_step(step)

    def for_step(self, step: str) -> Project:
        """Gives the project with only what a step declares: its result depends on nothing else."""
        inputs = STEP_INPUTS[step]
        settings = keep_settings(self.settings, (*inputs.settings, *PLACES))
        return replace(self, settings=settings, files=frozenset(inputs.files))

    def schema_digest(self) -> str:
        """Gives the digest of the schema."""
        return digest_file(self.schema_path)

    def _digest_file(self, file: str) -> str:
        if file == SCHEMA_TYPES:
            return digest_value(types_of(self.schema).SerializeToString(deterministic=True).hex())
        return self.module_digest() if file == MODULE else digest_file(self.source / file)

    def _check_declared(self, file: str) -> None:
        """Checks that a file is among those that the step declares.

        Raises:
            AttributeError: It is not: a mistake of the step, like a setting that it does not
                declare.
        """
        if file not in self.files:
            raise AttributeError(
                f"{file} is not declared for this step: add it to perennial/step_inputs.py"
            )

    def project_digest(self) -> str:
        """Gives the digest of all that decides what a model becomes and how it is judged."""
        unread = {"state", "root", "beam", "ledger", "registry", "serving", "runner", "kubeflow"}
        unread |= {"retrain", "watch", "messages"}
        settings = self.settings.model_dump(exclude=unread)
        files = [digest_file(path) for path in (self.schema_path, self.expectations_path)]
        return digest_value([FORMAT, settings, [*files, self.module_digest()]])

    def with_seed(self, seed: int) -> Project:
        """Gives the project with another `train.seed`.

        A repetition of a run draws other weights.
        """
        train = self.settings.train.model_copy(update={"seed": seed})
        return replace(self, settings=self.settings.model_copy(update={"train": train}))

    def git_commit(self) -> str | None:
        """Gives the commit that the project folder was checked out at, or None outside git."""
        return git_commit(self.folder) if self.package is None else self.package.commit


def load_project(place: str | Path) -> Project:
    """Reads the settings of a project.

    Args:
        place: Its folder, or a reference to its package (`Project.location`).

    Raises:
        ProjectError: The folder or its settings are missing or wrong; the message names every wrong
            key.
        LostError: The package is not in the root any more, or is damaged.
        StoreError: The root cannot be read.
    """
    if (reference := parse_reference(str(place))) is not None:
        return _load_package(reference)
    if is_url(str(place)):
        raise ProjectError(
            str(place),
            "must be a project folder, or the name of a package",
            "a URL that names none",
            "Give what `perennial package PROJECT` prints, or a folder of this machine.",
        )
    path = Path(place).expanduser().resolve()
    settings_path = path / SETTINGS_FILE
    if not settings_path.is_file():
        raise ProjectError(
            str(path),
            f"must be a project folder with a {SETTINGS_FILE}",
            "no such file" if path.is_dir() else "no such folder",
            "Create one with `perennial init FOLDER`.",
        )
    settings = parse_settings(read_text(settings_path), os.environ)
    return Project(path, settings, contents=Contents.of_settings(path, settings))


def _load_package(reference: PackageReference) -> Project:
    """Opens a package: its files are read from it, state and landed data from the folder."""
    archive = fetch_archive(reference)
    text = archive.contents[SETTINGS_FILE].decode("utf-8")
    settings = parse_settings(text, os.environ)
    folder = reference.folder
    if folder is None:
        _check_complete(settings, reference)
        folder = scratch_folder(reference.root)
    package = open_package(reference, archive, folder / settings.state)
    contents = Contents(package.folder)
    return Project(folder, settings, package=package, contents=contents)


def _check_complete(settings: ProjectSettings, reference: PackageReference) -> None:
    """Checks that all that a run reads and leaves has a place where there is no project folder.

    Raises:
        ProjectError: Landed data, the ledger or the registry would lie in the project folder.
    """
    data = settings.data
    patterns = {
        "data.spans": data.spans,
        "data.unlabelled": data.unlabelled,
        "data.serving_log": data.serving_log,
    }
    relative = {
        name: pattern
        for name, pattern in patterns.items()
        if pattern and not is_url(pattern) and not os.path.isabs(pattern)
    }
    servers = {"ledger.url": settings.ledger.url, "registry.uri": settings.registry.uri}
    missing = [name for name, value in servers.items() if value is None]
    if relative or missing:
        received = [f"{name}: {pattern}" for name, pattern in relative.items()]
        raise ProjectError(
            f"{SETTINGS_FILE}: {', '.join([*relative, *missing])}",
            "must name places outside the project folder, as a run of the package "
            f"{reference.digest[:12]} has none",
            ", ".join([*received, *(f"{name}: nothing" for name in missing)]),
            "Give URLs or absolute paths; PERENNIAL_LEDGER_URL and PERENNIAL_REGISTRY_URI name the "
            "ledger and the registry, too.",
        )


def read_schema(path: Path) -> Schema:
    """Parses a schema in protobuf text format.

    Raises:
        ProjectError: The file is missing or does not parse.
    """
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    text = read_text(path)
    try:
        return text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise ProjectError(
            path.name, "must be a schema in protobuf text format", error, "Correct the line."
        ) from None


def types_of(schema: Schema) -> Schema:
    """Gives a schema with only what says what values are.

    Types, shapes, domains, and which features are in use.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2

    types = schema_pb2.Schema(string_domain=schema.string_domain)
    for feature in schema.feature:
        kept = types.feature.add()
        kept.CopyFrom(feature)
        for field, _ in feature.ListFields():
            group = field.containing_oneof.name if field.containing_oneof else field.name
            if group not in _TYPE_FIELDS:
                kept.ClearField(field.name)
    return types


def read_expectations(path: Path) -> list[dict[str, Any]]:
    """Parses a Great Expectations suite.

    A JSON object whose `expectations` have `type` and `kwargs`.

    Raises:
        ProjectError: The file is missing or has another form.
    """
    try:
        suite = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ProjectError(
            path.name, "must be JSON", error, "Correct the line that is named."
        ) from None
    rules = suite.get("expectations") if isinstance(suite, dict) else None
    if not isinstance(rules, list):
        raise ProjectError(
            path.name, "must be an object with a list `expectations`", suite, "See examples/digits."
        )
    for number, item in enumerate(rules):
        if (
            not isinstance(item, dict)
            or "type" not in item
            or not isinstance(item.get("kwargs"), dict)
        ):
            where = f"{path.name}: expectations[{number}]"
            raise ProjectError(
                where, "must have a `type` and an object `kwargs`", item, "See examples/digits."
            )
    return rules


def read_text(path: Path) -> str:
    """Reads the text of a file of the project.

    Raises:
        ProjectError: It is missing, or no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProjectError(
            str(path), "must exist", "no such file", "`perennial init` writes one to start from."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(
            str(path), "must be a text file in UTF-8", error, "Replace it."
        ) from None


def _is_file_name(module: str) -> bool:
    return module.endswith(".py")
