import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.tails import Tail, fit_gamma, fit_pareto


@pytest.mark.parametrize(("shape", "scale"), [(0.5, 3.0), (2.0, 1.0), (40.0, 0.1)])
def test_gamma_is_found_again_from_its_own_scores(shape, scale):
    scores = np.random.default_rng(0).gamma(shape, scale, 100_000)

    tail = fit_gamma(scores)

    assert (tail.kind, tail.start, tail.share) == ("gamma", 0.0, 1.0)
    assert (tail.shape, tail.scale) == (pytest.approx(shape, rel=0.05), pytest.approx(scale, rel=0.05))


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3])
def test_pareto_is_found_again_from_its_own_peaks(shape):
    uniform = np.random.default_rng(1).uniform(size=50_000)
    excess = -np.log(uniform) if shape == 0 else (uniform**-shape - 1) / shape

    tail = fit_pareto(10 + 2 * excess, 10.0, 0.02)

    assert (tail.shape, tail.scale) == (pytest.approx(shape, abs=0.03), pytest.approx(2.0, rel=0.05))


def test_few_peaks_make_an_exponential_tail():
    assert fit_pareto(np.array([11.0, 13.0]), 10.0, 0.1) == Tail("pareto", 10.0, 0.1, 0.0, 2.0)


def test_share_at_or_above_a_score_by_hand():
    exponential, heavy = Tail("pareto", 10.0, 0.1, 0.0, 2.0), Tail("pareto", 10.0, 0.1, 0.5, 2.0)

    assert exponential.survival(np.array([10.0, 12.0])).tolist() == pytest.approx([0.1, 0.1 / np.e])
    assert heavy.survival(np.array([10.0, 14.0])).tolist() == pytest.approx([0.1, 0.1 / 4])
    assert exponential.reached_by(0.1 / np.e) == pytest.approx(12.0)
    assert heavy.reached_by(0.1 / 4) == pytest.approx(14.0)


# A gamma of a smaller shape has its whole body within the rounding of where it begins.
@given(st.sampled_from(["gamma", "pareto"]), st.floats(0.2, 0.5), st.floats(0.1, 50.0), st.floats(1e-6, 0.04))
def test_a_share_and_the_score_it_reaches_are_inverse(kind, shape, scale, share):
    tail = Tail(kind, 1.0, 0.05, shape, scale)

    assert tail.survival(np.array([tail.reached_by(share)]))[0] == pytest.approx(share, rel=1e-6)


def test_more_than_the_tail_holds_is_reached_at_its_start():
    assert Tail("pareto", 10.0, 0.1, 0.2, 2.0).reached_by(0.5) == 10.0


@pytest.mark.parametrize("scores", [np.zeros(10), np.full(10, 3.0), np.array([0.0] * 9 + [1.0])])
def test_scores_without_a_spread_still_give_a_gamma_that_can_be_asked(scores):
    tail = fit_gamma(scores)

    assert np.isfinite([tail.shape, tail.scale, tail.reached_by(1e-3)]).all()
