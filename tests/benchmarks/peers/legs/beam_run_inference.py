"""Beam's RunInference: read by confluent-kafka, as Beam's own Kafka source is Java's; codes leave in batches too.

The handler is of our own: the one for TensorFlow that comes with Beam needs tensorflow_hub and
cannot load a SavedModel of Keras 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from confluent_kafka import Consumer, Producer, TopicPartition
from serving import Model, Rig, serve


class Handler(ModelHandler[bytes, Any, Model]):
    """The exported graph on batches of one size."""

    def __init__(self, rig: Rig) -> None:
        """Nothing is loaded yet."""
        super().__init__(min_batch_size=rig.batch, max_batch_size=rig.batch)
        self._rig = rig

    def load_model(self) -> Model:
        """Once per process."""
        return Model(self._rig)

    def run_inference(
        self, batch: Sequence[bytes], model: Model, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Any]:
        """A code per frame."""
        return list(model.encode_values(list(batch)))


class ReadTopic(beam.DoFn):
    """All values of a topic, by one consumer, as the loops read it."""

    def __init__(self, rig: Rig) -> None:
        """Nothing is opened yet."""
        self._rig = rig

    def process(self, _: None) -> Iterator[bytes]:
        """One value at a time, as RunInference takes them."""
        consumer = Consumer({"bootstrap.servers": self._rig.bootstrap, "group.id": "run-inference"})
        consumer.assign([TopicPartition(self._rig.topic, number, 0) for number in range(self._rig.partitions)])
        left = self._rig.frames
        while left:
            records = consumer.consume(min(self._rig.batch, left), timeout=0.05)
            left -= len(records)
            for record in records:
                yield record.value()
        consumer.close()


class WriteCodes(beam.DoFn):
    """One record per batch of codes."""

    def __init__(self, rig: Rig) -> None:
        """Nothing is opened yet."""
        self._rig = rig

    def setup(self) -> None:
        """Once per worker."""
        self._producer = Producer({"bootstrap.servers": self._rig.bootstrap, "acks": "all", "linger.ms": 5})

    def process(self, codes: Sequence[Any]) -> Iterator[int]:
        """How many were sent."""
        self._producer.produce(self._rig.out, np.stack(codes).tobytes())
        self._producer.poll(0)
        yield len(codes)

    def finish_bundle(self) -> None:
        """All of them are out."""
        self._producer.flush()


def take_code(result: Any) -> Any:
    """The code of a result."""
    return result.inference if isinstance(result, PredictionResult) else result


def prepare(rig: Rig) -> Callable[[], int]:
    """A pipeline for each pass."""
    options = PipelineOptions([], runner="FnApiRunner")

    def run() -> int:
        with beam.Pipeline(options=options) as pipeline:
            (
                pipeline
                | beam.Create([None])
                | beam.ParDo(ReadTopic(rig))
                | RunInference(Handler(rig))
                | beam.Map(take_code)
                | beam.BatchElements(min_batch_size=rig.batch, max_batch_size=rig.batch)
                | beam.ParDo(WriteCodes(rig))
            )
        return rig.frames

    return run


if __name__ == "__main__":
    import beam_run_inference

    # Under its own name, as its classes are pickled by reference then.
    serve(beam_run_inference.prepare, ("apache-beam", "confluent-kafka"))
