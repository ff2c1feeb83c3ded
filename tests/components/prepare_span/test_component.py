"""One task ingests, checks and measures a span, and does again only what a change asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from perennial.errors import ProjectError, StoreError
from perennial.project import Project, load_project
from perennial.spans.prepared import PreparedSpans
from schemas.records import CheckedSpan, Reference, Selection
from tests.chain import copy_project
from tests.forked import forked, import_wrapper
from tests.stored import FileArtifact, kept, publish, results_of, stage

SPAN = "2026-01-01"
STEPS = ("ingest_examples", "check_examples", "compute_statistics")


@pytest.fixture(scope="module")
def prepared(chain, tmp_path_factory) -> tuple[Project, Selection, dict]:
    """A copy of the chain's project, a selection of its first day, and what the task showed."""
    folder = tmp_path_factory.mktemp("prepared")
    project = copy_project(chain, folder / "digits")
    selection = select(project, chain.selection)
    return project, selection, forked(prepare, project, selection, folder / "first")


def select(project: Project, selection: Selection) -> Selection:
    """The same selection, with the project's digests of today."""
    return selection.model_copy(
        update={
            "data_digest": project.digest_of("ingest_examples"),
            "rules_digest": project.digest_of("check_examples"),
            "statistics_digest": project.digest_of("compute_statistics"),
        }
    )


def prepare(project: Project, selection: Selection, folder: Path) -> dict:
    """Calls the wrapper for the first day; gives the metadata of the checked examples."""
    selection.write(folder / "selection")
    selected = publish(project, folder / "selection")
    checked, statistics = FileArtifact(folder / "checked"), FileArtifact(folder / "statistics")
    import_wrapper("prepare_span").python_func(
        str(project.folder), {"name": SPAN}, selected, checked, statistics
    )
    return checked.metadata


def test_what_is_published_is_what_the_steps_make(prepared, chain, tmp_path):
    project, selection, metadata = prepared
    assert metadata["span"] == SPAN and metadata["set_aside"] == 0 and metadata["rows"] > 100
    first = next(span for span in selection.window if span.name == SPAN)
    (span,) = PreparedSpans.of_run(results_of(project), selection).read([first])
    results_of(project).stage(span.checked, tmp_path / "checked")
    record = CheckedSpan.read(tmp_path / "checked")
    assert record == CheckedSpan.read(chain.checked(SPAN))
    assert sum(record.rows.values()) == metadata["rows"]
    names = {path.name for path in chain.statistics(SPAN).iterdir()}
    assert {file.path for file in results_of(project).files_of(span.statistics)} == names


def test_what_travels_is_small_and_the_same_task_does_nothing_again(prepared, tmp_path):
    project, selection, _ = prepared
    before = {step: kept(project, step) for step in STEPS}
    assert forked(prepare, project, selection, tmp_path)["kept"] is True
    assert {step: kept(project, step) for step in STEPS} == before
    sent = (tmp_path / "checked" / Reference.FILE).stat().st_size
    assert sent < 1000


@pytest.mark.parametrize(
    ("file", "old", "new", "again"),
    [
        ("expectations.json", '"max_value": 300', '"max_value": 301', STEPS[1:]),
        ("model.py", "import", "# a comment\nimport", ()),
    ],
)
def test_a_change_of_the_project_does_again_what_reads_it(
    prepared, tmp_path, file, old, new, again
):
    project, selection, _ = prepared
    path = project.folder / file
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    assert path.read_text() != text
    try:
        changed = load_project(project.folder)
        before = {step: len(kept(project, step)) for step in STEPS}
        pending = PreparedSpans.of_run(results_of(project), select(changed, selection)).pending(
            span for span in selection.window if span.name == SPAN
        )
        assert bool(pending) == bool(again)
        forked(prepare, changed, select(changed, selection), tmp_path)
        after = {step: len(kept(project, step)) for step in STEPS}
        assert [step for step in STEPS if after[step] > before[step]] == list(again)
    finally:
        path.write_text(text)


def test_wrapper_refuses_a_project_that_changed_since_the_run_began(prepared, tmp_path):
    project, selection, _ = prepared
    other = selection.model_copy(update={"rules_digest": "0" * 64})
    with pytest.raises(ProjectError, match="what check_examples reads of the project"):
        forked(prepare, project, other, tmp_path)


def test_a_span_that_was_not_prepared_is_named(prepared):
    project, selection, _ = prepared
    with pytest.raises(StoreError, match=r"must hold what prepare_span made of span 2026-01-02"):
        PreparedSpans.of_run(results_of(project), selection).read(selection.window)


def test_what_was_removed_is_named(prepared, tmp_path):
    project = prepared[0]
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "file").write_text("text")
    artifact = publish(project, folder)
    (result,) = [
        one for one in kept(project, "test") if one.outputs["made"].files[0].path == "file"
    ]
    results_of(project).objects.delete(f"results/test/{result.key}.json")
    with pytest.raises(StoreError, match="It was removed: run again"):
        stage(project, artifact, tmp_path / "staged")
