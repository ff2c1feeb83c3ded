"""Records of what lies in the root: the results of steps, and how steps name them to each other."""

from __future__ import annotations

from typing import Any, ClassVar

from schemas.records.base import FileRecord, Record


class StoredFile(Record):
    """One file of an output: its path in the output's folder, its SHA-256 and its bytes."""

    path: str
    digest: str
    size: int


class LeftInRoot(FileRecord):
    """Files of a folder that lie in the root alone: each by its name in this folder.

    A step whose workers are on other machines neither receives their bytes nor sends them.
    """

    FILE: ClassVar[str] = "left_in_root.json"

    files: list[StoredFile]


class HandedFile(Record):
    """A file that a worker of a pipeline wrote for the step that runs it.

    `output` names what it is a part of. `name` is that of the file in the pipeline's own folder, or
    the SHA-256 by which the root holds it.
    """

    output: str
    name: str
    size: int


class HandedFiles(FileRecord):
    """All files that the workers of a pipeline wrote, in no order."""

    FILE: ClassVar[str] = "handed_files.json"

    files: list[HandedFile]


class StoredOutput(Record):
    """One folder that a step made: its files, in the order of their paths, and what is shown of it.

    `digest` is that of the files' paths and digests. `metadata` is for Kubeflow's dashboard.
    """

    digest: str
    files: list[StoredFile]
    metadata: dict[str, Any] = {}


class StepResult(Record):
    """All that a step made for one key, by the names of its outputs; `value` is what it returned.

    It is written last: where it can be read, every file that it names lies in the root.
    """

    step: str
    key: str
    outputs: dict[str, StoredOutput]
    value: Any = None


class Reference(FileRecord):
    """Names one output of one step's result: what travels between steps in the place of data.

    `digest` is that of the output, `size` the sum of its bytes.
    """

    FILE: ClassVar[str] = "reference.json"

    step: str
    key: str
    output: str
    digest: str
    size: int


class StepMade(Record):
    """Record of a task for its run's end: references by output, and what it returned.

    `part` tells the tasks of a loop from each other.
    """

    step: str
    part: str = ""
    outputs: dict[str, Reference] = {}
    value: Any = None


class TaskInputs(Record):
    """Inputs of a task of a run, by which it can be run once more.

    `parameters` lack the project: `package` is the digest of the package that the task read, None:
    it read a folder. `artifacts` are references by input; of a list of artifacts several.
    """

    step: str
    part: str = ""
    package: str | None = None
    parameters: dict[str, Any] = {}
    artifacts: dict[str, list[Reference]] = {}


class PreparedSpan(Record):
    """References to a prepared span: its checked examples and their statistics."""

    checked: Reference
    statistics: Reference


class PackageManifest(FileRecord):
    """The first file of a package: what it holds, and where it was made.

    `commit` is the one that the project folder was checked out at, None outside git; `dirty` tells
    whether files differed from it. `environment` is the digest of the names and versions of all
    installed distributions, `product` the product's own version.
    """

    FILE: ClassVar[str] = ".perennial-package.json"

    files: list[StoredFile]
    commit: str | None
    dirty: bool
    environment: str
    product: str
