"""Beam carries the units of flow by coders of our own, and never takes a batch apart."""

from __future__ import annotations

from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.typehints.batch import BatchConverter
from test_frame_batch import make_inferred

from pipelines.coders import Frame, InferredFrame, WholeBatchConverter
from pipelines.frame_batch import FrameBatch, InferredBatch, Outcome, RawBatch, Scorer


@pytest.mark.parametrize(
    ("unit", "name"),
    [(RawBatch, "RawBatchCoder"), (FrameBatch, "FrameBatchCoder"), (InferredBatch, "InferredBatchCoder")],
)
def test_each_unit_has_a_coder_that_is_not_pickle(unit: type, name: str) -> None:
    assert type(beam.coders.registry.get_coder(unit)).__name__ == name


def test_inferred_batch_survives_its_coder() -> None:
    coder = beam.coders.registry.get_coder(InferredBatch)
    own = Scorer("m.own.é", 7, "own", 0.1)
    inferred = make_inferred([0.5, float("nan")], threshold=0.25)
    inferred = replace(inferred, scorers=(*inferred.scorers, own), scored_by=np.array([1, 0], np.int32))

    again = coder.decode(coder.encode(inferred))

    for name in ("codes", "denoised", "errors", "channel_errors", "latent_distance", "scores"):
        np.testing.assert_array_equal(getattr(again, name), getattr(inferred, name))
    np.testing.assert_array_equal(again.batch.frames, inferred.batch.frames)
    assert again.scorers == (Scorer("m", 4, "global", 0.25), own)
    assert again.scored_by.tolist() == [1, 0]
    assert again.records.offsets.tolist() == [0, 1]


def test_size_is_estimated_within_a_factor_of_two_without_encoding() -> None:
    inferred = make_inferred([0.5] * 1000)

    for unit in (inferred, inferred.batch, inferred.records):
        coder = beam.coders.registry.get_coder(type(unit))
        assert 0.5 < coder.estimate_size(unit) / len(coder.encode(unit)) < 2


def test_batch_types_are_found_by_beam() -> None:
    for element, batch in ((Frame, FrameBatch), (InferredFrame, Outcome)):
        assert isinstance(BatchConverter.from_typehints(element_type=element, batch_type=batch), WholeBatchConverter)


def test_taking_a_batch_apart_is_refused() -> None:
    converter = WholeBatchConverter(FrameBatch, Frame)

    with pytest.raises(TypeError, match="expected to stay whole"):
        converter.explode_batch(make_inferred([1.0]).batch)
    with pytest.raises(TypeError, match="expected to stay whole"):
        converter.produce_batch([])
