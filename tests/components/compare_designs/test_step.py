"""Comparing design spaces of the digits.

Samples, failures, a comparison that is killed, and mistakes in the module.
"""

from __future__ import annotations

import pytest

from perennial.evaluation.error_distributions import compare_spaces
from schemas.records import DesignSample
from tests.chain import copy_project, on_another_machine, with_root
from tests.components.compare_designs.jobs import KILLED, SPACES, compare, messages, with_spaces
from tests.forked import forked
from tests.stored import unfinished

BROKEN = "\n\ndef broken(transform_output, hp):\n    raise ValueError('no such layer')\n"
WIDE = """

def wide(transform_output, hp):
    pixels = keras.Input((SIDE * SIDE,), name="pixels")
    return keras.Model({"pixels": pixels}, keras.layers.Dense(5, activation="softmax")(pixels))
"""
NAMED = "\n\ndef design_spaces():\n    return "
CASES = {
    "no function": "\n",
    "one space": NAMED + "{'plain': build_model}\n",
    "no dictionary": NAMED + "[build_model]\n",
    "no functions": NAMED + "{'plain': build_model, 'wide': 3}\n",
    "fails": "\n\ndef design_spaces():\n    raise KeyError('plain')\n",
    "does not build": BROKEN + NAMED + "{'broken': broken, 'plain': build_model}\n",
    "does not fit": WIDE + NAMED + "{'wide': wide, 'plain': build_model}\n",
}


@pytest.fixture(scope="module")
def compared(chain, tmp_path_factory):
    """The samples that a killed comparison kept, the record of the one that went on, and the project."""
    folder = tmp_path_factory.mktemp("designs")
    marker = folder / "marker"
    head = "def deep(transform_output, hp):\n"
    spaces = SPACES.replace(head, head + KILLED.format(marker=marker))
    project = with_spaces(copy_project(chain, folder / "digits"), spaces)
    project = with_root(project, str(folder / "root"))
    other = on_another_machine(project, folder / "elsewhere")
    with pytest.raises(RuntimeError, match="ended with code 9"):
        forked(compare, project, chain.features, folder / "output")
    kept = [
        DesignSample.model_validate_json(data)
        for data in unfinished(project, "compare_designs").values()
    ]
    return kept, forked(compare, other, chain.features, folder / "output"), project


def test_killed_comparison_goes_on_where_it_stopped_on_another_machine(compared):
    kept, record, project = compared
    assert (
        len(kept) == 5 and record.samples[:5] == kept
    )  # with their seconds: none was trained again
    assert not unfinished(project, "compare_designs")


def test_record_tells_all_samples_and_the_test(compared, tmp_path):
    record = compared[1]
    assert (
        record.spaces == ["plain", "deep"]
        and [s.space for s in record.samples] == ["plain"] * 5 + ["deep"] * 5
    )
    plain = [sample for sample in record.samples if sample.space == "plain"]
    assert len({str(sample.values) for sample in plain}) == 5  # the space is large: no model twice
    for sample in plain:
        assert set(sample.values) == {
            "convolution",
            "filters" if sample.values["convolution"] else "units",
        }
        assert 0 < sample.error < 3 and sample.parameters > 500 and sample.message is None
    assert len({sample.values["convolution"] for sample in plain}) == 2
    errors = {
        space: [s.error for s in record.samples if s.space == space] for space in record.spaces
    }
    assert record.tests == compare_spaces(errors)


def test_samples_that_do_not_build_are_kept_with_the_line(compared):
    project, deep = (
        compared[2],
        [sample for sample in compared[1].samples if sample.space == "deep"],
    )
    lines = project.module_path.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "two are too many" in text)
    failed = [sample for sample in deep if sample.error is None]
    assert {sample.values["layers"] for sample in failed} == {2} and len(failed) < 5
    for sample in failed:
        assert (
            sample.message.startswith(f"model.py:{line}: ")
            and "ValueError: two are too many" in sample.message
        )
    assert all(sample.error is not None for sample in deep if sample.values["layers"] == 1)


@pytest.fixture(scope="module")
def said(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("messages")
    project = copy_project(chain, folder / "digits")
    return forked(messages, project, chain.features, CASES, folder), project


@pytest.mark.parametrize(
    "case, place, says",
    [
        ("no function", "model.py", "must define `design_spaces` as designs.compare is true"),
        (
            "one space",
            "model.py:{}: design_spaces",
            "must name two spaces or more. Received: plain.",
        ),
        (
            "no dictionary",
            "model.py:{}: design_spaces",
            "must return functions by name. Received: list.",
        ),
        ("no functions", "model.py:{}: design_spaces", "Received: int for `wide`."),
        (
            "fails",
            "model.py:{}: design_spaces",
            "must name the design spaces. Received: KeyError: 'plain'.",
        ),
        (
            "does not build",
            "model.py:{}: broken",
            "5 of 5 failed, the first: model.py:{}: design_spaces: broken",
        ),
        (
            "does not fit",
            "model.py:{}: wide",
            "5 of 5 failed, the first: model.py:{}: wide must give at least ",
        ),
    ],
)
def test_mistakes_in_the_module_name_their_line(said, chain, case, place, says):
    head = chain.project.module_path.read_text()
    first = len(head.splitlines()) + 3  # two blank lines, then the function that the case is about
    inside = first + 1 if case in ("fails", "does not build") else first
    message = said[0][case]
    where = place.format(inside if case == "fails" else first)
    assert message.startswith(f"ProjectError: {where} must ") and says.format(inside) in message
    assert "Samples were kept" not in message
    if case in ("does not build", "does not fit"):
        assert message.endswith("Correct it, or leave the space out.")
    else:
        assert '{"plain": build_plain, "residual": build_residual}' in message
