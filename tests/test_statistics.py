from __future__ import annotations

import pickle

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from hypothesis import given
from hypothesis import strategies as st

from pipelines.statistics import RANK_ERROR, CombinePercentiles, CombineProfile, CombineStatistics, Profile

FRAMES = np.array([[[0.0, 10.0], [2.0, 10.0]], [[4.0, 10.0], [6.0, 10.0]]], np.float32)  # (2, 2, 2)


def test_statistics_of_two_frames_are_those_of_their_samples() -> None:
    combiner = CombineStatistics(channels=2)

    statistics = combiner.extract_output(combiner.add_input(combiner.create_accumulator(), FRAMES))

    assert statistics.count.tolist() == [4, 4]
    assert statistics.mean.tolist() == [3.0, 10.0]
    assert statistics.variance.tolist() == [5.0, 0.0]
    assert statistics.minimum.tolist() == [0.0, 10.0]
    assert statistics.maximum.tolist() == [6.0, 10.0]


@given(cuts=st.lists(st.integers(0, 200), max_size=4))
def test_merging_any_pieces_gives_the_statistics_of_the_whole(cuts: list[int]) -> None:
    # Far from zero, where sums of squares would lose all digits.
    frames = 1e6 + np.random.default_rng(0).normal(size=(200, 1, 3))
    combiner = CombineStatistics(channels=3)
    pieces = np.split(frames, sorted(cuts))

    merged = combiner.merge_accumulators([combiner.add_input(combiner.create_accumulator(), piece) for piece in pieces])

    assert merged.count.tolist() == [200, 200, 200]
    np.testing.assert_allclose(merged.mean, frames.mean(axis=(0, 1)), rtol=1e-12)
    np.testing.assert_allclose(merged.variance, frames.var(axis=(0, 1)), rtol=1e-6)


def test_percentiles_are_within_the_error_of_their_ranks_after_merging() -> None:
    frames = np.random.default_rng(1).gamma(0.5, size=(20_000, 1, 2)).astype(np.float32)
    combiner = CombinePercentiles(channels=2)
    pieces = [combiner.add_input(combiner.create_accumulator(), part) for part in np.split(frames, 8)]

    merged = combiner.merge_accumulators([combiner.compact(piece) for piece in pieces])
    percentiles = combiner.extract_output(merged)

    assert percentiles.shape == (2, 101)
    for channel in range(2):
        samples = np.sort(frames[:, 0, channel])
        ranks = np.searchsorted(samples, percentiles[channel], side="right") / len(samples)
        np.testing.assert_allclose(ranks, np.arange(101) / 100, atol=RANK_ERROR)
        assert percentiles[channel, 0] == samples[0]
        assert percentiles[channel, 100] == samples[-1]


def test_sketch_that_travels_stays_small() -> None:
    combiner = CombinePercentiles(channels=38)
    frames = np.random.default_rng(2).normal(size=(20_000, 1, 38)).astype(np.float32)

    sketch = combiner.compact(combiner.add_input(combiner.create_accumulator(), frames))

    assert len(pickle.dumps(sketch)) < 8 << 20


def test_frames_are_not_changed() -> None:
    frames = FRAMES.copy()

    for combiner in (CombineStatistics(2), CombinePercentiles(2)):
        combiner.add_input(combiner.create_accumulator(), frames)

    assert np.array_equal(frames, FRAMES)


def test_profile_per_key_comes_out_of_a_pipeline() -> None:
    def check(profiles: list[tuple[str, Profile]]) -> None:
        found = {
            key: (p.statistics.count.tolist(), p.statistics.mean.tolist(), p.percentiles[0, 100]) for key, p in profiles
        }
        assert found == {"north": ([8, 8], [3.0, 10.0], 6.0), "south": ([4, 4], [4.0, 11.0], 7.0)}

    with beam.Pipeline(options=PipelineOptions([], runner="FnApiRunner")) as pipeline:
        frames = pipeline | beam.Create([("north", FRAMES), ("south", FRAMES + 1), ("north", FRAMES)])
        assert_that(frames | beam.CombinePerKey(CombineProfile(channels=2)), check)


@pytest.mark.parametrize("combiner", [CombineStatistics(2), CombinePercentiles(2), CombineProfile(2)])
def test_combiner_survives_the_way_to_a_worker(combiner: beam.CombineFn) -> None:
    arrived = pickle.loads(pickle.dumps(combiner))

    accumulator = arrived.add_input(arrived.create_accumulator(), FRAMES)

    assert arrived.extract_output(accumulator) is not None


def test_missing_samples_count_nowhere_and_a_channel_without_any_has_no_percentiles() -> None:
    frames = np.array([[[0.0, np.nan, 1.0]], [[np.nan, np.nan, 3.0]], [[4.0, np.nan, 5.0]]], np.float32)
    combiner = CombineProfile(3)

    profile = combiner.extract_output(combiner.add_input(combiner.create_accumulator(), frames))

    statistics = profile.statistics
    assert statistics.count.tolist() == [2, 0, 3]
    assert statistics.mean.tolist() == [2.0, 0.0, 3.0]
    assert statistics.variance.tolist() == [4.0, 0.0, pytest.approx(8 / 3)]
    assert (statistics.minimum.tolist(), statistics.maximum.tolist()) == ([0.0, np.inf, 1.0], [4.0, -np.inf, 5.0])
    assert profile.percentiles[:, [0, 100]].tolist() == [
        [0.0, 4.0],
        [pytest.approx(np.nan, nan_ok=True)] * 2,
        [1.0, 5.0],
    ]
