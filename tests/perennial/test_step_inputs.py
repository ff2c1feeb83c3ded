"""Which steps a change of the project makes run again.

Those that declare what changed, and no others.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import BaseModel

from perennial.project import load_project
from perennial.step_inputs import (
    EXPECTATIONS_FILE,
    MODULE,
    PLACES,
    SCHEMA_FILE,
    SCHEMA_TYPES,
    SELECTED,
    STEP_INPUTS,
    covers,
    readers_of,
    setting_paths,
)
from tests.perennial.folders import make_project

# Of the command line, the server and the compiled pipeline: no step reads them.
OF_NO_STEP = ("serving", "ab", "runner", "retrain", "watch", "messages")
# They decide whether a step is in the pipeline; the pipeline's shape is compared by
# `verify_stages`.
OF_STAGES = ("designs.compare",)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project") / "digits")


def digests(project):
    return {step: project.digest_of(step) for step in STEP_INPUTS}


def with_setting(settings: BaseModel, path: str, value: object) -> BaseModel:
    """The settings with another value; whether it would be allowed does not matter to a digest."""
    name, _, rest = path.partition(".")
    return settings.model_copy(
        update={name: with_setting(getattr(settings, name), rest, value) if rest else value}
    )


@pytest.mark.filterwarnings(
    "ignore:Pydantic serializer warnings"
)  # of values that would not be allowed
@pytest.mark.parametrize("path", setting_paths())
def test_every_setting_changes_the_keys_of_the_steps_that_read_it_and_no_others(project, path):
    value = "../digits/model.py" if path == "model.module" else "changed"  # the module is read
    changed = replace(project, settings=with_setting(project.settings, path, value))
    before, after = digests(project), digests(changed)
    assert [step for step in before if before[step] != after[step]] == readers_of(path)


@pytest.mark.parametrize("path", setting_paths())
def test_every_setting_has_its_place(path):
    """It is in the key of a step, or `select_spans` hands it on, or it is known why no step reads it."""
    places = [
        bool(readers_of(path)) or path in SELECTED,
        covers(PLACES, path),
        covers(OF_NO_STEP, path),
    ]
    assert sum(places) + covers(OF_STAGES, path) == 1


def test_what_is_declared_exists():
    paths = set(setting_paths())
    for inputs in STEP_INPUTS.values():
        assert len(set(inputs.settings)) == len(inputs.settings)
        assert all(any(covers([declared], path) for path in paths) for declared in inputs.settings)
        assert not any(covers(PLACES, declared) for declared in inputs.settings)
    assert set(SELECTED) <= paths and {step for step, _ in SELECTED.values()} <= set(STEP_INPUTS)


@pytest.mark.parametrize(
    "name, text, kinds",
    [
        ("model.py", "\n", {MODULE}),
        (SCHEMA_FILE, "\n", {SCHEMA_FILE}),
        (SCHEMA_FILE, 'feature { name: "more" type: INT }\n', {SCHEMA_FILE, SCHEMA_TYPES}),
        (EXPECTATIONS_FILE, "\n", {EXPECTATIONS_FILE}),
        ("land.py", "\n", set()),
    ],
)
def test_every_file_changes_the_keys_of_the_steps_that_read_it(tmp_path, name, text, kinds):
    project = make_project(tmp_path)
    before = digests(project)
    path = tmp_path / name
    path.write_text(path.read_text() + text)
    after = digests(load_project(tmp_path))
    readers = [step for step, inputs in STEP_INPUTS.items() if kinds & set(inputs.files)]
    assert [step for step in before if before[step] != after[step]] == readers


@pytest.mark.parametrize(
    "change",
    [
        "lifecycle_stage: DEPRECATED",
        "value_count { min: 1 max: 3 }",
        "natural_language_domain {}",
        "bool_domain {}",
    ],
)
def test_whatever_of_a_feature_decides_how_it_is_read_makes_spans_be_ingested_again(
    tmp_path, change
):
    project = make_project(tmp_path)
    with project.schema_path.open("a") as schema:
        schema.write('feature { name: "more" type: BYTES }\n')
    before = load_project(tmp_path).digest_of("ingest_examples")
    text = project.schema_path.read_text()
    project.schema_path.write_text(text.replace('name: "more"', f'name: "more" {change}'))
    assert load_project(tmp_path).digest_of("ingest_examples") != before


def test_a_note_on_a_feature_does_not_make_spans_be_ingested_again(tmp_path):
    project = make_project(tmp_path)
    before = project.digest_of("ingest_examples")
    text = project.schema_path.read_text()
    project.schema_path.write_text(
        text.replace('name: "id"', 'name: "id" annotation { tag: "a" }', 1)
    )
    changed = load_project(tmp_path)
    assert project.schema_path.read_text() != text
    assert changed.digest_of("ingest_examples") == before


@pytest.mark.parametrize("step", STEP_INPUTS)
def test_a_step_is_given_what_it_declares_and_nothing_else(project, step):
    given, inputs = project.for_step(step), STEP_INPUTS[step]
    assert given.digest_of(step) == project.digest_of(step)
    for path in setting_paths():
        if covers((*inputs.settings, *PLACES), path):
            assert read(given.settings, path) == read(project.settings, path)
        else:
            with pytest.raises(AttributeError, match="is not declared for this step"):
                read(given.settings, path)
    files = {
        "module_path": MODULE,
        "schema_path": SCHEMA_FILE,
        "expectations_path": EXPECTATIONS_FILE,
    }
    for member, file in files.items():
        if file not in inputs.files:
            with pytest.raises(AttributeError, match="is not declared for this step"):
                getattr(given, member)


def read(settings, path):
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def test_a_step_that_declares_the_types_sees_nothing_else_of_the_schema(project):
    schema = project.for_step("ingest_examples").schema
    assert [feature.name for feature in schema.feature] == [
        feature.name for feature in project.schema.feature
    ]
    assert not any(feature.HasField("presence") for feature in schema.feature)
    assert project.digest_of("ingest_examples") == project.for_step("ingest_examples").digest_of(
        "ingest_examples"
    )


def test_another_seed_can_be_set_on_what_a_step_is_given(project):
    given = project.for_step("stabilise_weights").with_seed(99)
    assert (
        given.settings.train.seed == 99
        and given.files == project.for_step("stabilise_weights").files
    )
