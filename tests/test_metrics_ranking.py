import math
import os
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from ae_model.exceptions import ConfigError
from ae_model.metrics.ranking import Ranking, mean_ranking, rank_at_random, rank_rows
from ae_model.metrics.volume import find_window

MACHINE = Path(__file__).parent / "data" / "smd" / "machine-1-6.npz"
# Folder with more of the data sets than the samples in tests/data: smd/machine-2-1.npz and so on.
PACK = Path(os.environ.get("LATENTSTREAM_DATA", "absent"))
#                  0  1  2  3  4  5  6  7  8  9 10 11 12
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0])
SCORES = np.array([1, 1, 2, 1, 5, 1, 6, 4, 3, 1, 2, 1, 7])
ROWS = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=60)


def arrays(rows):
    return np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])


@pytest.mark.parametrize(
    ("window", "vus_pr", "vus_roc"),
    [(0, 0.41025641025641024, 0.65), (4, 0.5231806525998187, 0.7739029818185148)],
)
def test_values_are_those_of_the_reference_on_a_small_case(window, vus_pr, vus_roc):
    # Printed by TSB_AD 1.5, basic_metricor().RangeAUC_volume_opt(LABELS, SCORES, window, 250), and scikit-learn.
    ranking = rank_rows(SCORES, LABELS, window)

    assert astuple(ranking) == pytest.approx((vus_pr, 0.41025641025641024, vus_roc, 0.65), abs=1e-12)


@pytest.mark.parametrize(
    ("window", "vus_pr", "vus_roc"),
    [(15, 0.6063562475555887, 0.819423880596242), (125, 0.6924901993875151, 0.8826808900985139)],
)
def test_values_are_those_of_the_reference_on_a_real_machine(window, vus_pr, vus_roc):
    # Printed by TSB_AD 1.5 for the largest deviation of any metric from its mean over the training part.
    with np.load(MACHINE) as data:
        train, test, labels = data["train"].astype(float), data["test"].astype(float), data["test_label"]
    spread = train.std(axis=0)
    scores = np.abs((test - train.mean(axis=0)) / np.where(spread == 0, 1, spread)).max(axis=1)

    ranking = rank_rows(scores, labels, window)

    assert find_window(test[:, 0]) == 15
    assert astuple(ranking) == pytest.approx((vus_pr, 0.6952505882360885, vus_roc, 0.845063948831217), abs=1e-6)


def benchmark_pca(samples):
    """The score of the benchmark's PCA, row by row: distances from the leading directions over their shares."""
    spread = samples.std(axis=0)
    scaled = (samples - samples.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    pca = PCA(n_components=0.25, svd_solver="full").fit(scaled)
    return (cdist(scaled, pca.components_) / pca.explained_variance_ratio_).sum(axis=1)


@pytest.mark.parametrize(
    ("machine", "published"),
    [("machine-2-1", 0.253), ("machine-2-2", 0.181), ("machine-2-8", 0.857), ("machine-3-4", 0.246)],
)
def test_published_values_of_the_benchmark_are_reproduced(machine, published):
    # VUS-PR of PCA for the SMD files of TSB-AD-M, in the benchmark's table of results per file.
    file = PACK / "smd" / f"{machine}.npz"
    if not file.is_file():
        pytest.skip(f"LATENTSTREAM_DATA names no folder with smd/{machine}.npz")
    with np.load(file) as data:
        samples, labels = data["test"].astype(float), data["test_label"]

    ranking = rank_rows(benchmark_pca(samples), labels, find_window(samples[:, 0]))

    assert ranking.vus_pr == pytest.approx(published, abs=0.0005)


@given(ROWS, st.integers(0, 9))
def test_only_the_order_of_the_scores_counts(rows, window):
    scores, labels = arrays(rows)

    stretched = rank_rows(np.exp(scores) * 1e6 - 3, labels, window)

    np.testing.assert_array_equal(astuple(stretched), astuple(rank_rows(scores, labels, window)))


@given(ROWS, st.integers(0, 9))
def test_all_values_lie_between_nothing_and_all(rows, window):
    scores, labels = arrays(rows)
    assume(0 < labels.sum() < len(labels))

    values = np.array(astuple(rank_rows(scores, labels, window)))

    assert (values >= 0).all()
    # A slope that alerts may count for more than it adds to the positives: the published formula lets ROC pass 1.
    assert (values[[0, 1, 3]] <= 1 + 1e-12).all()


def test_the_labels_themselves_rank_best():
    ranking = rank_rows(LABELS, LABELS, 0)

    assert astuple(ranking) == pytest.approx((1, 1, 1, 1))


def test_a_constant_score_knows_nothing():
    ranking = rank_rows(np.full(13, 0.7), LABELS, 0)

    assert astuple(ranking) == pytest.approx((3 / 13, 3 / 13, 0.5, 0.5))


@pytest.mark.parametrize("labels", [np.zeros(5), np.ones(5)])
def test_rows_that_are_all_alike_cannot_be_ranked(labels):
    assert all(math.isnan(value) for value in astuple(rank_rows(np.arange(5), labels, 2)))
    assert all(math.isnan(value) for value in astuple(rank_at_random(labels, 2)))


def test_score_that_is_not_a_number_ranks_highest():
    broken = np.where(SCORES == 6, np.nan, SCORES)

    assert rank_rows(broken, LABELS, 4) == rank_rows(np.where(SCORES == 6, 99, SCORES), LABELS, 4)


def test_random_score_reaches_the_share_of_labels_and_half_the_area():
    labels = np.zeros(2000)
    labels[100:300] = 1

    ranking = rank_at_random(labels, 0)

    assert (ranking.auc_pr, ranking.auc_roc) == (0.1, 0.5)
    assert ranking.vus_pr == pytest.approx(0.1, abs=0.02)
    assert ranking == rank_at_random(labels, 0)


def test_mean_leaves_out_entities_without_numbers():
    unknown = Ranking(*[math.nan] * 4)

    assert mean_ranking([Ranking(0.2, 0.4, 0.6, 0.8), unknown, Ranking(0.4, 0.4, 0.4, 0.4)]) == Ranking(
        pytest.approx(0.3), 0.4, 0.5, pytest.approx(0.6)
    )
    assert all(math.isnan(value) for value in astuple(mean_ranking([unknown])))


def test_window_is_the_strongest_period():
    rows = np.arange(3000)

    assert find_window(np.sin(2 * np.pi * rows / 50)) == 50
    assert find_window(np.sin(2 * np.pi * rows / 350)) == 125
    assert [find_window(signal) for signal in (np.ones(500), np.empty(0), np.arange(3.0))] == [125, 125, 125]


def test_input_is_not_changed():
    scores, labels = np.array([1.0, np.nan, 2.0]), np.array([0, 1, 0])

    rank_rows(scores, labels, 3)

    np.testing.assert_array_equal(scores, [1.0, np.nan, 2.0])
    assert labels.tolist() == [0, 1, 0]


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ConfigError, match=r"scores: expected as many rows as labels \(2\)"):
        rank_rows(np.zeros(3), np.zeros(2), 1)
    with pytest.raises(ConfigError, match="window: expected 0 or more rows"):
        rank_rows(np.zeros(3), np.zeros(3), -1)
