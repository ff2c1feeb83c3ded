"""Probes for hidden covariates.

Planted ones are found and innocent ones left alone, at the rates that are promised.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.probe_model.covariates import Chance, Suspect, opposite, probe_covariates
from components.probe_model.latent import effective_examples, explained, shuffle_within
from schemas.project import CovariateSettings
from tests.components.probe_model.simulated import (
    agreeing,
    flag,
    linear,
    logistic,
    names,
    scanner_of,
    skewed,
)

SETTINGS = CovariateSettings()
MODELS = 300
# Of 300 models at 5%, more than this many false alarms come by chance in 1 of 1,000 such tests.
MOST_FLAGGED = 27


def findings(model, is_number=True, settings=SETTINGS):
    suspect = Suspect("suspect", model.columns["suspect"], is_number, True)
    return probe_covariates(model, [suspect], settings)


def is_flagged(found):
    return any(probe.flagged for probe in found.probes)


@pytest.mark.parametrize(
    "draw, is_number",
    [(agreeing(0.9), False), (agreeing(0.9), True), (scanner_of(0.9), False)],
    ids=["flag", "flag as a number", "names"],
)
def test_planted_covariate_is_caught(draw, is_number):
    caught = [
        is_flagged(findings(logistic(np.random.default_rng(seed), draw), is_number))
        for seed in range(100)
    ]
    assert sum(caught) >= 95


@pytest.mark.parametrize(
    "draw, is_number",
    [(flag(0.5), False), (flag(0.9), False), (flag(0.9), True), (skewed, True), (names, False)],
    ids=["half", "skewed flag", "skewed flag as a number", "skewed number", "names"],
)
def test_innocent_covariate_is_left_alone(draw, is_number):
    flagged = [
        is_flagged(findings(logistic(np.random.default_rng(seed), draw), is_number))
        for seed in range(MODELS)
    ]
    assert sum(flagged) <= MOST_FLAGGED


def test_swapping_a_skewed_flag_would_accuse_an_innocent_one():
    """Why the opposite is made of the same values.

    The swap moves the loss of a model with chance weights.
    """
    swapped = []
    for seed in range(60):
        model = logistic(np.random.default_rng(seed), flag(0.95), trained=100)
        values, random = model.columns["suspect"], np.random.default_rng(0)

        def loss(changed, model=model):
            right = model.predict_with({"suspect": changed})[
                np.arange(len(model.labels)), model.labels
            ]
            return -np.log(right).mean()

        shuffled = np.array([loss(random.permutation(values)) for _ in range(30)])
        swapped.append(Chance(loss(1 - values), shuffled, "higher").p_value < 0.05)
    assert sum(swapped) > 15


def test_feature_that_the_model_does_not_weigh_is_innocent_for_certain():
    model = linear(np.random.default_rng(0), [1.0, 0.0])
    found = probe_covariates(model, [Suspect("b", model.columns["b"], True, True)], SETTINGS)
    assert [(probe.probe, probe.p_value) for probe in found.probes] == [
        ("permute", 1.0),
        ("invert", 1.0),
    ]
    assert max(probe.spread for probe in found.probes) < 1e-12
    assert found.not_probed == [
        "suspect feature `b` was not predicted from the latent vector: the model gives no latent "
        "vector"
    ]
    assert found.suspects[0].not_compared is None


def test_numbers_of_a_probe_are_the_losses():
    model = linear(np.random.default_rng(0), [1.0, 2.0])
    permuted, inverted = probe_covariates(
        model, [Suspect("a", model.columns["a"], True, True)], SETTINGS
    ).probes
    assert permuted.value == pytest.approx(np.square(model.predictions - model.labels).mean())
    # Shuffled, the squared error grows by twice the variance of the feature's part; reflected, by
    # four times that.
    assert permuted.chance == pytest.approx(permuted.value + 2, rel=0.2)
    assert inverted.value == pytest.approx(permuted.value + 4, rel=0.2)
    assert inverted.chance == permuted.chance and permuted.unit == "mean squared error"
    assert permuted.flagged and inverted.flagged


def test_p_values_are_corrected_for_all_probes_that_decide():
    model = linear(np.random.default_rng(3), [0.03, 0.0, 0.0, 0.0])
    suspects = [Suspect(name, model.columns[name], True, True) for name in "abcd"]
    alone = probe_covariates(model, suspects[:1], SETTINGS).probes
    together = probe_covariates(model, suspects, SETTINGS).probes
    assert [probe.p_value for probe in together[:2]] == pytest.approx(
        [min(1, 4 * probe.p_value) for probe in alone]
    )


def with_latent(seed, leaks, tested=400):
    """A model with a latent vector that tells the label, and the suspect where it `leaks`.

    The suspect agrees with the label in 80% of the examples: the label itself tells much of it.
    """
    random = np.random.default_rng(seed)
    model = logistic(random, agreeing(0.8), tested=tested)
    told = np.stack([model.labels, model.columns["suspect"] if leaks else model.labels], axis=1)
    latent = told @ random.normal(size=(2, 12)) + 0.8 * random.normal(size=(tested, 12))
    return replace(model, latent=latent), model.columns["suspect"]


def test_latent_vector_that_tells_an_unread_feature():
    caught = 0
    for seed in range(20):
        model, values = with_latent(seed, leaks=True)
        found = probe_covariates(model, [Suspect("camera", values, False, False)], SETTINGS)
        assert found.not_probed == [
            "suspect feature `camera` was not permuted or inverted: the model does not read it"
        ]
        caught += is_flagged(found)
    assert caught >= 19


def test_what_the_label_tells_of_a_feature_is_not_held_against_the_latent_vector():
    flagged = 0
    for seed in range(100):
        model, values = with_latent(seed, leaks=False)
        (probe,) = probe_covariates(
            model, [Suspect("camera", values, False, False)], SETTINGS
        ).probes
        assert probe.value > 0.1  # the label does tell
        flagged += probe.flagged
    assert flagged <= 12


@pytest.mark.parametrize("is_number", [False, True])
@pytest.mark.parametrize("apart", [0, 3])
def test_feature_that_is_one_thing_with_the_label_is_not_compared(apart, is_number):
    """Whatever the latent vector knows, the label knows too: no probe can tell them apart."""
    model, _ = with_latent(0, leaks=False)
    values = np.where(np.arange(400) < apart, 1 - model.labels, model.labels)
    found = probe_covariates(model, [Suspect("site", values, is_number, False)], SETTINGS)
    (site,) = found.suspects
    assert found.probes == [] and not site.is_read
    assert site.not_compared is not None
    assert "it cannot be told from the label, which leaves it" in site.not_compared
    assert found.not_probed == [f"suspect feature `site`: {site.not_compared}"]


def test_value_that_follows_from_a_regression_s_label_is_not_compared():
    model = linear(np.random.default_rng(0), [1.0, 1.0])
    model = replace(model, latent=np.random.default_rng(1).normal(size=(300, 6)))
    suspect = Suspect("score", 3 - 2 * model.labels, True, False)
    assert probe_covariates(model, [suspect], SETTINGS).suspects[0].not_compared


@pytest.mark.parametrize("rare", [0.5, 0.1])
def test_feature_apart_from_the_label_is_worth_all_examples(rare):
    random = np.random.default_rng(2)
    labels, values = random.integers(0, 2, 400), (random.random(400) < rare).astype(int)
    assert effective_examples(values, False, labels, True) == pytest.approx(400, rel=0.02)
    assert effective_examples(labels, False, labels, True) == 0


def test_unread_feature_of_a_model_without_latent_vector_is_not_compared():
    model = linear(np.random.default_rng(0), [1.0])
    suspect = Suspect("camera", np.arange(300) % 2, False, False)
    (judged,) = probe_covariates(model, [suspect], SETTINGS).suspects
    assert judged.not_compared == "the model does not read it, and the model gives no latent vector"


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_what_the_label_of_a_regression_tells_is_not_held_against_the_latent_vector(noise):
    flagged = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        model = linear(random, [1.0, 1.0], examples=200)
        latent = np.outer(model.labels, random.normal(size=6)) + 0.5 * random.normal(size=(200, 6))
        values = model.labels + noise * random.normal(size=200)
        found = probe_covariates(
            replace(model, latent=latent), [Suspect("age", values, True, False)], SETTINGS
        )
        flagged += is_flagged(found)
    assert flagged <= 8


def test_latent_vector_of_a_regression_that_tells_an_unread_feature():
    random = np.random.default_rng(0)
    model, cameras = linear(random, [1.0, 1.0], examples=200), random.integers(0, 2, 200)
    told = np.stack([model.labels, cameras], axis=1) @ random.normal(size=(2, 12))
    model = replace(model, latent=told + 0.8 * random.normal(size=(200, 12)))
    assert is_flagged(probe_covariates(model, [Suspect("camera", cameras, False, False)], SETTINGS))


def test_latent_probe_of_a_feature_that_the_model_reads_never_decides():
    random = np.random.default_rng(5)
    model = linear(random, [1.0, 0.0], examples=400)
    latent = np.stack([model.columns["b"], model.labels], axis=1) @ random.normal(size=(2, 8))
    found = probe_covariates(
        replace(model, latent=latent), [Suspect("b", model.columns["b"], True, True)], SETTINGS
    )
    latent_probe = found.probes[-1]
    assert (
        latent_probe.probe == "latent" and latent_probe.value > 0.9 and latent_probe.p_value < 1e-6
    )
    assert not is_flagged(found)


@pytest.mark.parametrize(
    "values, why",
    [
        (np.zeros(300), "all 300 examples have the same value"),
        (np.zeros(7), "7 examples are too few (at least 20)"),
        (
            np.random.default_rng(0).random((300, 4)),
            "the model does not read it, and a vector or image cannot be predicted from the latent",
        ),
    ],
)
def test_what_cannot_be_probed_is_said(values, why):
    found = probe_covariates(
        linear(np.random.default_rng(0), [1.0]), [Suspect("view", values, True, False)], SETTINGS
    )
    assert found.probes == [] and len(found.not_probed) == 1
    assert found.not_probed[0].startswith("suspect feature `view`: ") and why in found.not_probed[0]


def test_vector_that_the_model_reads_is_permuted_only():
    model = logistic(np.random.default_rng(0), flag(0.5))
    found = probe_covariates(
        model, [Suspect("signal", model.columns["signal"], True, True)], SETTINGS
    )
    assert [(probe.probe, probe.flagged) for probe in found.probes] == [("permute", True)]
    assert (
        "`signal` was not inverted or predicted from the latent vector: it is a vector"
        in found.not_probed[0]
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.booleans())
def test_the_opposite_is_a_permutation(values, is_number):
    turned = opposite(np.array(values), is_number, np.random.default_rng(0))
    assert sorted(turned) == sorted(values)


@given(st.permutations(range(12)))
def test_opposite_of_numbers_reflects_their_ranks(values):
    np.testing.assert_array_equal(
        opposite(np.array(values), True, np.random.default_rng(0)), 11 - np.array(values)
    )


@pytest.mark.parametrize("is_number", [True, False])
def test_opposite_of_a_balanced_flag_is_the_swap(is_number):
    values = np.array([0, 1, 1, 0, 1, 0])
    np.testing.assert_array_equal(opposite(values, is_number, np.random.default_rng(0)), 1 - values)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 99))
def test_shuffles_stay_among_equal_labels(labels, seed):
    labels = np.array(labels)
    order = shuffle_within(labels, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(labels)))
    np.testing.assert_array_equal(labels[order], labels)


def test_shares_of_variance_are_told_of_each_target_by_itself():
    random = np.random.default_rng(0)
    latent = random.normal(size=(1000, 3))
    noise = random.normal(size=1000)
    targets = np.stack(
        [latent[:, :1], latent[:, :1] + noise[:, np.newaxis], noise[:, np.newaxis]], axis=1
    )
    assert explained(latent, targets) == pytest.approx([1.0, 0.5, 0.0], abs=0.05)


def test_probability_of_chance_is_that_of_one_more_draw():
    """Of a number that is drawn as its shuffles are, p-values are spread evenly."""
    random = np.random.default_rng(0)
    draws = random.normal(size=(2000, 31))
    values = np.array([Chance(row[0], row[1:], "higher").p_value for row in draws])
    assert [(values < level).mean() for level in (0.05, 0.5)] == pytest.approx(
        [0.05, 0.5], abs=0.03
    )
