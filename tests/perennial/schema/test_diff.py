"""A schema changes by review.

What is proposed fits the span, is told in full, and keeps what a person wrote.
"""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from perennial.errors import ProjectError
from perennial.ledger.events import Ledger
from perennial.package.publish import publish_package
from perennial.project import load_project
from perennial.schema.description import describe_changes
from perennial.schema.diff import find_refusal, reading_schema
from perennial.schema.environments import serving_features
from perennial.schema.inference import Seen, features_of
from perennial.schema.proposal import (
    accept_proposal,
    finish_acceptance,
    keep_proposal,
    read_proposal,
)
from perennial.schema.text import parse, patch_text, schema_text, split_blocks
from perennial.storage.generations import Generations
from perennial.storage.objects import open_objects
from schemas.records import SchemaAccepted
from tests.forked import forked
from tests.perennial.folders import make_project
from tests.perennial.records import span
from tests.perennial.schema.jobs import (
    CASES,
    CHOICES,
    ROWS,
    SCHEMA,
    choose,
    infer,
    propose,
    table,
)

NOTHING = statistics_pb2.DatasetFeatureStatisticsList(
    datasets=[statistics_pb2.DatasetFeatureStatistics()]
)
TOLD = {
    "new feature": [
        "`surge`: new feature FLOAT, at most one value, in 98% of examples; not asked of clients",
        "`empty`: new column without values: PLANNED, models cannot read it yet",
    ],
    "new list": ["`pair`: new feature INT, 2 values, in 100% of examples; not asked of clients"],
    "new category": [
        "`kind`: new feature BYTES, at most one value, one of x, y, in 100% of examples; not asked "
        "of clients"
    ],
    "new values": ["`company`: values +2: C, D"],
    "missing": [
        "`fare`: may be missing: in 50% of examples (was always there)",
        "`fare`: no longer asked of clients",
    ],
    "gone": ["`seconds`: gone from the data: marked DEPRECATED, models can no longer read it"],
    "back": ["`old`: has values now: in use as FLOAT, at most one value, in 100% of examples"],
    "wider": [
        "`fare`: smallest value 0 -> -1",
        "`fare`: greatest value 60 -> 70",
        "`seconds`: greatest value 999 -> 1000",
    ],
    "to number": ["`seconds`: type INT -> FLOAT"],
    "to text": ["`fare`: type FLOAT -> BYTES"],
    "to list": ["`fare`: holds a list of 2 (was one value)"],
    "longer": ["`image`: holds a list of 5 (was a list of 4)"],
    "uneven": [
        "`image`: holds 1 or more values (was a list of 4)",
        "`image`: no longer asked of clients",
    ],
    "new class": ["`label`: greatest value 1 -> 3"],
    "no label": ["`label`: gone from the data: marked DEPRECATED, models can no longer read it"],
    "label is text": ["`label`: type INT -> BYTES"],
    "as it says": [],
}


@pytest.fixture(scope="module")
def proposed():
    return forked(propose, CASES)


@pytest.mark.parametrize("case", CASES)
def test_a_span_is_as_the_proposal_says(proposed, case):
    _, after, anomalies, again = proposed[case]
    assert anomalies == []
    assert again == after


@pytest.mark.parametrize("case", TOLD)
def test_exactly_what_changes_is_told(proposed, case):
    statistics, after, _, _ = proposed[case]
    assert describe_changes(parse(SCHEMA), after, statistics) == TOLD[case]


def test_many_values_are_counted_and_the_first_are_told(proposed):
    statistics, after, _, _ = proposed["many values"]
    (line,) = describe_changes(parse(SCHEMA), after, statistics)
    assert line.startswith(f"`company`: values +{ROWS}: C0, C1, ") and line.endswith(
        f"and {ROWS - 20} more"
    )


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_in_training_stays(proposed, case):
    before, after = features_of(parse(SCHEMA)), features_of(proposed[case][1])
    assert after["asked"] == before["asked"]


@pytest.mark.parametrize("case", CASES)
def test_clients_are_never_asked_for_more(proposed, case):
    assert set(serving_features(proposed[case][1])) <= set(serving_features(parse(SCHEMA)))


@pytest.mark.parametrize("case", CASES)
def test_a_proposal_keeps_the_comments_and_every_block_that_does_not_change(proposed, case):
    after = proposed[case][1]
    text, kept = patch_text(SCHEMA, after)
    assert kept
    comments = [line for line in SCHEMA.splitlines() if line.startswith("#")]
    assert [line for line in text.splitlines() if line.startswith("#")] == comments
    assert features_of(parse(text)) == features_of(after)
    same = [
        feature.name
        for feature in parse(SCHEMA).feature
        if features_of(after)[feature.name] == feature
    ]
    for _, block in split_blocks(SCHEMA):
        if (
            any(f'name: "{name}"\n' in block or f'name: "{name}" type' in block for name in same)
            and "domain {" not in block
        ):
            assert block in text


def test_nothing_to_change_changes_no_byte(proposed):
    assert patch_text(SCHEMA, proposed["as it says"][1]) == (SCHEMA, True)


@pytest.mark.parametrize(
    ("case", "refusal"),
    [
        ("no label", "it drops `label`, the label"),
        ("label is text", "`label`, the label, is then BYTES, not INT"),
        ("new class", None),
        ("gone", None),
    ],
)
def test_label_and_key_are_not_given_up(proposed, case, refusal):
    assert find_refusal(proposed[case][1], "label", "id", ("INT",)) == refusal


def test_a_key_that_is_gone_is_refused():
    schema = parse(SCHEMA)
    del schema.feature[0]
    assert find_refusal(schema, "label", "id", ("INT",)) == "it drops `id`, the key"


# --- what a person chooses for features that some lack ----------------------------------------------

CHOSEN = {
    "new, with a default": [
        "`visits`: new feature INT, at most one value, in 100% of examples",
        "`visits`: 0 where it is missing",
    ],
    "new text, with a default": [
        "`kind`: new feature BYTES, at most one value, one of x, y, in 100% of examples",
        "`kind`: 'other' where it is missing",
    ],
    "new, required": [
        "`pair`: new feature INT, a list of 2, in 100% of examples; not asked of clients"
    ],
    "gone, with a default": [
        "`seconds`: may be missing (was always there)",
        "`seconds`: 7 where it is missing",
    ],
    "optional, now required": [
        "`wind`: asked for in every example: in 100% of examples (could be missing before)"
    ],
}
REFUSED = {
    "required, but some lack it": "Received: it is in 50.00% of them",
    "required, of several lengths": "Received: 1 to 2 values",
    "required, and not there": "Received: none has it",
    "default of another type": "--default visits must be a value of the type INT. Received: none",
    "default of a list": "must name a feature with one value in a row. Received: 4 to 4 values",
    "default of nothing": "Received: no such feature",
}


@pytest.fixture(scope="module")
def chosen():
    return forked(choose, CHOICES)


@pytest.mark.parametrize("case", CHOSEN)
def test_a_choice_fits_the_span_is_told_and_is_written(chosen, case):
    after, told, anomalies = chosen[case]
    assert anomalies == [] and told == CHOSEN[case]
    text, kept = patch_text(SCHEMA, after)
    assert kept and parse(text).tensor_representation_group == after.tensor_representation_group


@pytest.mark.parametrize("case", REFUSED)
def test_a_choice_that_does_not_fit_is_refused(chosen, case):
    assert REFUSED[case] in chosen[case]


def test_what_has_a_default_may_be_sent_and_what_is_required_is_not_asked(chosen):
    assert "visits" in serving_features(chosen["new, with a default"][0])
    assert "seconds" in serving_features(chosen["gone, with a default"][0])
    assert "pair" not in serving_features(chosen["new, required"][0])


# --- the first schema ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inferred():
    days = [["one"] * ROWS, ["two"] * ROWS]
    rare = [["p", "q"] * (ROWS // 2), ["p", "q"] * (ROWS // 2 - 1) + ["q", "r"]]
    spans = [table(day=day, rare=kinds) for day, kinds in zip(days, rare, strict=True)]
    together = {name: [*spans[0][name], *spans[1][name]] for name in spans[0]}
    return forked(infer, spans, together)


def test_features_stand_in_the_order_of_the_columns(inferred):
    assert [feature.name for feature in inferred.feature] == [*table(), "day", "rare", "empty"]


def test_label_and_key_and_what_may_be_missing_are_not_asked_of_clients(inferred):
    assert serving_features(inferred) == ["fare", "company", "seconds", "image", "day", "rare"]
    assert list(inferred.default_environment) == ["TRAINING", "SERVING"]


def test_the_label_is_a_category_from_zero(inferred):
    domain = features_of(inferred)["label"].int_domain
    assert (domain.min, domain.max, domain.is_categorical) == (0, 1, True)


def test_shapes_and_presence_are_those_that_were_seen(inferred):
    features = features_of(inferred)
    assert features["fare"].HasField("shape") and not features["fare"].shape.dim
    assert [dim.size for dim in features["image"].shape.dim] == [4]
    assert features["fare"].presence == schema_pb2.FeaturePresence(min_fraction=1, min_count=1)
    assert features["wind"].presence == schema_pb2.FeaturePresence(min_count=1)
    assert not features["wind"].HasField("shape")
    assert features["empty"].lifecycle_stage == schema_pb2.PLANNED


def test_only_values_that_come_again_make_a_category(inferred):
    features = features_of(inferred)
    assert features["company"].domain == "company" and not features["company"].HasField(
        "distribution_constraints"
    )
    assert not features["id"].HasField("domain") and not features["day"].HasField("domain")
    assert features["rare"].distribution_constraints.min_domain_mass == 0.99
    assert {domain.name: list(domain.value) for domain in inferred.string_domain} == {
        "company": ["A", "B"],
        "rare": ["p", "q", "r"],
    }


def test_the_text_says_the_same_and_explains_environments(inferred):
    text = schema_text(inferred)
    assert parse(text) == inferred
    assert "Environments:" in text and max(map(len, text.splitlines())) <= 120


# --- reading a span that does not fit -------------------------------------------------------------


def test_a_span_that_does_not_fit_is_read_as_what_it_is():
    number, text = Seen(schema_pb2.FLOAT, 1, 1, 1), Seen(schema_pb2.BYTES, 1, 1, 1)
    guessed = {
        "seconds": number,
        "fare": text,
        "company": Seen(schema_pb2.INT, 1, 1, 1),
        "new": number,
    }
    for spoilt in (False, True):
        features = features_of(reading_schema(parse(SCHEMA), guessed, "label", spoilt))
        assert features["seconds"].type == schema_pb2.FLOAT
        assert features["fare"].type == (schema_pb2.BYTES if spoilt else schema_pb2.FLOAT)
        assert features["company"].type == schema_pb2.BYTES  # digits in a text are no reason
        assert features["new"].type == schema_pb2.FLOAT
        assert not features["label"].HasField("int_domain")


# --- text and words, whatever the change ------------------------------------------------------------

NAMES = st.sampled_from(
    ["id", "fare", "company", "seconds", "image", "wind", "old", "asked", "label", "Größe # {"]
)
VALUES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4), unique=True, max_size=3
)


@st.composite
def changed(draw):
    """The schema with features and values removed, added and changed."""
    after = parse(SCHEMA)
    for name in draw(st.sets(NAMES, max_size=3)):
        kept = [feature for feature in after.feature if feature.name != name]
        if len(kept) == len(after.feature):
            after.feature.add(name=name, type=draw(st.sampled_from([1, 2, 3])))
            continue
        feature = features_of(after)[name]
        what = draw(
            st.sampled_from(
                ["remove", "type", "stage", "shape", "presence", "bound", "annotate", "serve"]
            )
        )
        if what == "remove":
            del after.feature[:]
            after.feature.extend(kept)
        elif what == "type":
            feature.type = draw(st.sampled_from([1, 2, 3]))
        elif what == "stage":
            feature.lifecycle_stage = draw(st.sampled_from([0, 1, 4, 5]))
        elif what == "shape":
            feature.shape.dim.add(size=draw(st.integers(1, 3)))
        elif what == "presence":
            feature.presence.min_fraction = draw(st.sampled_from([0.0, 0.5, 1.0]))
        elif what == "bound":
            feature.float_domain.max = draw(st.floats(0, 9))
        elif what == "annotate":
            feature.annotation.tag.append("t")
        else:
            feature.not_in_environment.append(draw(st.sampled_from(["SERVING", "TRAINING"])))
    after.string_domain[0].value.extend(draw(VALUES))
    if draw(st.booleans()):
        after.string_domain.add(name="other", value=draw(VALUES))
    return after


@given(changed())
@settings(max_examples=150)
def test_any_change_is_written_and_comments_at_the_top_stay(after):
    text, kept = patch_text(SCHEMA, after)
    assert kept and "# The first comment." in text and text.endswith("# The last comment.\n")
    assert features_of(parse(text)) == features_of(after)
    assert {d.name: list(d.value) for d in parse(text).string_domain} == {
        d.name: list(d.value) for d in after.string_domain
    }


@given(changed())
@settings(max_examples=150)
def test_no_change_is_silent(after):
    lines = describe_changes(parse(SCHEMA), after, NOTHING)
    assert bool(lines) == (after != parse(SCHEMA))
    assert all(len(line.split("\n")) == 1 for line in lines)


@given(changed())
@settings(max_examples=60)
def test_a_schema_is_written_and_read_again(after):
    assert parse(schema_text(after)) == after


def test_blocks_that_share_a_line_are_written_anew():
    text = 'feature { name: "a" type: INT } feature { name: "b" type: INT }  # two\n'
    after = parse(text)
    after.feature[1].type = schema_pb2.FLOAT
    written, kept = patch_text(text, after)
    assert not kept and parse(written) == after


# --- proposals --------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    project = make_project(tmp_path / "digits")
    project.state.mkdir()
    return project


def offer(project, change=lambda schema: schema.feature.add(name="new", type=schema_pb2.INT)):
    """Keeps a proposal; gives the text that it proposes."""
    before = project.schema_path.read_text()
    after = parse(before)
    change(after)
    text, _ = patch_text(before, after)
    keep_proposal(project, span(), before, text, ["`new`: new feature INT"])
    return text


def write_proposal(project, text):
    proposals = Generations(open_objects(project.root), "schema_proposal")
    assert proposals.add(proposals.newest(), text.encode())


def accepted(project):
    return [event.body for event in Ledger(project.ledger_url).events("schema_accepted")]


def test_accepting_writes_the_file_and_the_ledger_and_ends_the_proposal(project):
    before, text = project.schema_digest(), offer(project)
    accept_proposal(project, "a new column")
    assert project.schema_path.read_text() == text
    (recorded,) = accepted(project)
    assert (recorded.before, recorded.after) == (before, project.schema_digest())
    assert (recorded.why, recorded.changes) == ("a new column", ["`new`: new feature INT"])
    assert recorded.by.startswith("user ")
    with pytest.raises(
        ProjectError, match=r"must hold a proposal.*Received: none.*perennial schema diff"
    ):
        accept_proposal(project, "again")


def test_a_proposal_changes_nothing_by_itself_and_a_newer_one_takes_its_place(project):
    before = project.schema_path.read_bytes()
    offer(project)
    assert project.schema_path.read_bytes() == before and accepted(project) == []
    keep_proposal(project, span(), before.decode(), before.decode(), [])
    assert read_proposal(project) is None


def test_a_proposal_is_accepted_once_from_whatever_machine(project, tmp_path):
    """Two folders of one project over one root and ledger: git brings schema.pbtxt to the other."""
    ledger = {"url": f"sqlite:///{tmp_path / 'ledger.db'}"}
    project, other = (
        make_project(tmp_path / name / "digits", root=str(tmp_path / "root"), ledger=ledger)
        for name in ("first", "second")
    )
    text = offer(project)
    assert read_proposal(other) == read_proposal(project) is not None
    accept_proposal(other, "seen elsewhere")
    assert other.schema_path.read_text() == text != project.schema_path.read_text()
    assert [body.why for body in accepted(project)] == ["seen elsewhere"]
    with pytest.raises(ProjectError, match=r"must hold a proposal.*Received: none"):
        accept_proposal(project, "again")


def test_a_schema_that_changed_since_is_not_overwritten(project):
    offer(project)
    project.schema_path.write_text(project.schema_path.read_text() + "# mine\n")
    before = project.schema_path.read_bytes()
    with pytest.raises(ProjectError, match="must be as it was reviewed"):
        accept_proposal(project, "too late")
    assert project.schema_path.read_bytes() == before and accepted(project) == []


@pytest.mark.parametrize("name", ["label", "id"])
def test_a_proposal_without_label_or_key_is_refused(project, name):
    def drop(schema):
        features_of(schema)[name].lifecycle_stage = schema_pb2.DEPRECATED

    before = project.schema_path.read_bytes()
    offer(project, drop)
    with pytest.raises(ProjectError, match=f"it drops `{name}`"):
        accept_proposal(project, "no")
    assert project.schema_path.read_bytes() == before and accepted(project) == []


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_an_acceptance_that_was_killed_is_finished_once(project, written, recorded):
    text = offer(project)
    kept = read_proposal(project)
    before = project.schema_path.read_bytes()
    accept_proposal(project, "killed")
    if not recorded:
        (project.state / "ledger.db").unlink()
    if not written:
        project.schema_path.write_bytes(before)
    decided = SchemaAccepted(
        before=kept.before,
        after=hashlib.sha256(text.encode()).hexdigest(),
        changes=["`new`: new feature INT"],
        by="user me",
        why="killed",
    )
    write_proposal(project, kept.model_copy(update={"accepted": decided}).model_dump_json())
    for _ in range(2):
        finish_acceptance(project)
        assert project.schema_path.read_text() == text
        assert [body.why for body in accepted(project)] == ["killed"]
        assert read_proposal(project) is None


def test_an_acceptance_waits_for_a_package_that_has_it(project):
    """A run of an earlier package changes nothing of it, and a later one records the acceptance."""
    offer(project)
    kept = read_proposal(project)
    earlier = load_project(str(publish_package(project).reference))
    schema = earlier.schema_path.read_bytes()
    accept_proposal(project, "meanwhile")
    (project.state / "ledger.db").unlink()
    after = hashlib.sha256(kept.text.encode()).hexdigest()
    decided = SchemaAccepted(before=kept.before, after=after, changes=[], by="me", why="meanwhile")
    write_proposal(project, kept.model_copy(update={"accepted": decided}).model_dump_json())
    assert finish_acceptance(earlier) is None and accepted(project) == []
    assert earlier.schema_path.read_bytes() == schema
    finish_acceptance(load_project(str(publish_package(project).reference)))
    assert [body.why for body in accepted(project)] == ["meanwhile"]


def test_the_same_change_can_be_accepted_again_after_it_was_taken_back(project):
    before = project.schema_path.read_text()
    for why in ("first", "second"):
        project.schema_path.write_text(before)
        offer(project)
        accept_proposal(project, why)
    assert [body.why for body in accepted(project)] == ["first", "second"]


def test_a_damaged_proposal_is_told(project):
    write_proposal(project, '{"name": 1')
    with pytest.raises(ProjectError, match="must hold a proposal"):
        accept_proposal(project, "why")
