"""A package holds what a run reads, by its contents, and nothing that it must not hold."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from perennial.cli.validate import validate_project
from perennial.errors import IntegrityError, LostError, ProjectError
from perennial.package import contents as contents_module
from perennial.package.archive import Archive, unpack, write_tar
from perennial.package.publish import Package, publish_package
from perennial.package.store import PackageReference, package_name, parse_reference
from perennial.project import Project, load_project
from perennial.step_inputs import STEP_INPUTS
from perennial.user_module import defined_names
from schemas.records import PackageManifest, StoredFile
from tests.perennial.folders import make_project

FILES = {"expectations.json", "land.py", "model.py", "project.yaml", "schema.pbtxt"}


def package(project: Project) -> Package:
    return publish_package(load_project(project.folder))


def validation_error(project: Project) -> str:
    """What `perennial validate` says is wrong."""
    with pytest.raises(ProjectError) as refused:
        list(validate_project(load_project(project.folder)))
    return str(refused.value)


def names(project: Project) -> set[str]:
    return {file.path for file in package(project).manifest.files}


def write(project: Project, **files: str) -> None:
    """Writes files of the folder; `__` stands for a dot."""
    for name, text in files.items():
        path = project.folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


def test_the_same_files_make_the_same_package_wherever_and_whenever(project, tmp_path):
    first = package(project)
    assert {file.path for file in first.manifest.files} == FILES
    other = tmp_path / "elsewhere"
    shutil.copytree(project.folder, other, ignore=shutil.ignore_patterns(".perennial"))
    for file in other.iterdir():
        os.utime(file, (1, 1))
        file.chmod(0o600)
    assert publish_package(load_project(other)).reference.digest == first.reference.digest
    write(project, notes__txt="one more")
    assert package(project).reference.digest != first.reference.digest
    (project.folder / "notes.txt").write_text("one mare")
    changed = package(project)
    (project.folder / "notes.txt").write_text("one more")
    assert changed.reference.digest != package(project).reference.digest


def test_what_runs_leave_data_that_landed_and_by_products_stay_out(project):
    package(project)  # lies in the state folder
    for name in (
        *("data/2026-01-01.parquet", "data/.2026-01-02.parquet.part", ".git/config"),
        *("__pycache__/model.pyc", ".venv/lib/x.py", ".mypy_cache/x", "node_modules/x/y.js"),
        *("environment/pyvenv.cfg", "environment/lib/x.py", ".model.py.swp", "models.egg-info/x"),
    ):
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).write_text("x")
    (project.folder / "back").symlink_to(project.folder)
    (project.folder / "nowhere").symlink_to(project.folder / "missing")
    write(project, **{"data/words__txt": "read by the module"})
    assert names(project) == FILES | {"data/words.txt"}


def test_ignored_files_stay_out_unless_a_run_needs_them(project):
    write(project, __perennialignore="*.json\nnotes/*\n!notes/kept.txt\n/land.py\nhelper.py\n")
    write(project, helper__py="A = 1\n", **{"notes/a__txt": "", "notes/kept__txt": ""})
    needed = FILES - {"land.py"} | {".perennialignore", "notes/kept.txt"}
    assert names(project) == needed
    module = project.module_path
    module.write_text(module.read_text() + "\nimport helper\n")
    assert names(project) == needed | {"helper.py"}


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.production", "keys/Server.PEM", "id_rsa", "tls.key", "credentials.json"),
        *("client_secret_12.json", "my-service-account.json", "secrets.yaml", ".netrc"),
    ],
)
def test_a_secret_is_refused_by_its_name(project, name):
    path = project.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    with pytest.raises(ProjectError) as refused:
        package(project)
    message = str(refused.value)
    assert name in message and ".perennialignore" in message
    assert not (project.state / "packages").exists()
    assert validation_error(project) == message
    (project.folder / ".perennialignore").write_text(name)
    assert name not in names(project)


def test_a_link_to_a_secret_is_refused_and_the_example_of_one_is_not(project, tmp_path):
    write(project, __env__example="PASSWORD=\n", credentials__py="")
    assert names(project) == FILES | {".env.example", "credentials.py"}
    (tmp_path / "id_ed25519").write_text("x")
    (project.folder / "harmless.txt").symlink_to(tmp_path / "id_ed25519")
    with pytest.raises(ProjectError, match=r"harmless\.txt must not be in the project's package"):
        package(project)


def test_only_this_account_reads_a_package_and_no_password_leaves_the_machine(tmp_path):
    """Settings of one machine may hold the password of a database."""
    ledger = {"url": "postgresql://me:hunter2@db.example/ledger"}
    private = make_project(tmp_path / "private", ledger=ledger)
    opened = load_project(str(package(private).reference))
    stored = [path for path in opened.state.rglob("*") if path.is_file()]
    assert stored and not any(path.stat().st_mode & 0o077 for path in stored)
    shared = make_project(tmp_path / "shared", ledger=ledger, root="memory://models")
    with pytest.raises(ProjectError, match="must hold no password, as its package") as refused:
        package(shared)
    assert "PERENNIAL_LEDGER_URL" in str(refused.value) and "hunter2" not in str(refused.value)


def test_what_is_too_large_names_its_largest_files(project, monkeypatch):
    monkeypatch.setattr(contents_module, "LARGEST", 2**20)
    write(project, small__txt="x", large__txt="x" * 2**19, larger__txt="x" * 2**20)
    with pytest.raises(ProjectError) as refused:
        package(project)
    message = str(refused.value)
    assert "must have at most 1.0 MiB" in message
    assert "the largest: larger.txt (1.0 MiB), large.txt (0.5 MiB), " in message
    assert ".perennialignore" in message and "small.txt" not in message
    assert validation_error(project) == message


def test_a_module_outside_of_the_folder_is_refused(tmp_path):
    project = make_project(tmp_path / "project", model={"module": "../model.py"})
    shutil.copy(project.folder / "model.py", tmp_path / "model.py")
    with pytest.raises(ProjectError, match="must lie in the project folder"):
        package(project)


def test_the_commit_and_whether_files_differ_from_it(project):
    assert package(project).manifest.commit is None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(project.folder), "-c", "user.name=a", "-c", "user.email=b"]
        done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    write(project, __gitignore=".perennial\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "First")
    manifest = package(project).manifest
    assert (manifest.commit, manifest.dirty) == (git("rev-parse", "HEAD"), False)
    write(project, notes__txt="")
    stored = package(project)
    assert stored.manifest.dirty
    assert load_project(str(stored.reference)).git_commit() == manifest.commit


def test_a_project_is_opened_from_its_package_whatever_becomes_of_the_folder(project):
    reference = str(package(project).reference)
    digests = {step: project.digest_of(step) for step in STEP_INPUTS}
    whole = project.project_digest()
    for file in FILES:
        (project.folder / file).unlink()
    opened = load_project(reference)
    assert (opened.folder, opened.state, opened.root) == (
        project.folder,
        project.state,
        project.root,
    )
    assert {step: opened.digest_of(step) for step in STEP_INPUTS} == digests
    assert opened.project_digest() == whole and opened.location == reference
    assert "build_model" in defined_names(opened.module_path)
    step = load_project(reference).opened_for("train_model", digests["train_model"])
    assert step.schema == opened.schema and step.location == reference


def test_an_unpacked_file_that_was_changed_is_unpacked_again(project):
    stored = package(project)
    opened = load_project(str(stored.reference))
    text = opened.module_path.read_text()
    opened.module_path.chmod(0o644)
    opened.module_path.write_text("edited = True\n")
    assert load_project(str(stored.reference)).module_path.read_text() == text
    assert [each.name for each in (project.state / "unpacked").iterdir()] == [
        stored.reference.digest
    ]


def test_a_package_that_is_damaged_or_gone_is_refused_and_stored_anew(project):
    reference = package(project).reference
    file = Path(reference.root, package_name(reference.digest))
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    for received in ("other bytes", "no such object"):
        with pytest.raises(LostError, match=f"must hold the package.*{received}.*perennial run"):
            load_project(str(reference))
    assert package(project).reference == reference
    assert load_project(str(reference)).settings == project.settings


def hostile(member: tarfile.TarInfo | None, data: bytes = b"x") -> Archive:
    """An archive with one more member than the manifest of a good one names."""
    manifest = PackageManifest(files=[], commit=None, dirty=False, environment="", product="")
    if member is not None and member.isreg():
        digest = hashlib.sha256(data).hexdigest()
        file = StoredFile(path=member.name, digest=digest, size=len(data))
        manifest = manifest.model_copy(update={"files": [file]})
    stream = io.BytesIO(write_tar({PackageManifest.FILE: manifest.model_dump_json().encode()}))
    with tarfile.open(fileobj=stream, mode="a") as tar:
        if member is not None:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return Archive(stream.getvalue())


def link(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo("model.py")
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "member",
    [
        *map(tarfile.TarInfo, ("../outside.py", "/outside.py", "a/../../outside.py", "./model.py")),
        *map(link, (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)),
    ],
)
def test_a_hostile_archive_is_refused_before_anything_of_it_is_written(tmp_path, member):
    with pytest.raises(IntegrityError, match="must be an archive that `perennial package` made"):
        unpack(hostile(member), tmp_path / "state" / "unpacked")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"no tar at all", write_tar({"model.py": b"A = 1\n"})])
def test_what_is_no_package_is_refused(tmp_path, data):
    with pytest.raises(IntegrityError):
        unpack(Archive(data), tmp_path / "unpacked")
    stray = write_tar({**hostile(None).contents, "stray.py": b"A = 1\n"})
    with pytest.raises(IntegrityError, match="its manifest does not name"):
        unpack(Archive(stray), tmp_path / "unpacked")


def test_references_are_parsed_as_they_are_written():
    for reference in (
        PackageReference(root="s3://bucket/models/digits", digest="ab" * 32),
        PackageReference(root="/a/#b/.perennial", digest="ab" * 32, folder=Path("/a/#b")),
    ):
        assert parse_reference(str(reference)) == reference
    assert parse_reference("/projects/packages/digits") is None
    with pytest.raises(ProjectError, match="must be a project folder, or the name of a package"):
        load_project("s3://bucket/models/digits")


def test_without_a_folder_all_must_have_a_place_elsewhere(project, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    alone = package(project).reference.model_copy(update={"folder": None})
    expected = r"project\.yaml: data\.spans, ledger\.url, registry\.uri must name places outside"
    with pytest.raises(ProjectError, match=expected):
        load_project(str(alone))
    monkeypatch.setenv("PERENNIAL_LEDGER_URL", "postgresql+psycopg://ledger/")
    monkeypatch.setenv("PERENNIAL_REGISTRY_URI", "http://registry")
    spans = {"spans": "s3://landed/{YYYY}-{MM}-{DD}.parquet"}
    project = make_project(project.folder, data=spans)
    alone = package(project).reference.model_copy(update={"folder": None})
    opened = load_project(str(alone))
    assert opened.folder.is_relative_to(tmp_path / "scratch") and opened.root == project.root
    (tmp_path / "scratch" / f"perennial-{os.getuid()}").chmod(0o777)
    with pytest.raises(ProjectError, match="one that others may write to"):
        load_project(str(alone))
