"""Quix Streams as its documentation shows a model: a function of one message."""

from __future__ import annotations

import time
from collections.abc import Callable

from quixstreams import Application
from serving import Model, Rig, serve


def prepare(rig: Rig) -> Callable[[], int]:
    """An application for each pass, in a consumer group of its own, so that it reads from the start."""
    model = Model(rig)

    def run() -> int:
        app = Application(
            broker_address=rig.bootstrap,
            consumer_group=f"quix-{time.time_ns()}",
            auto_offset_reset="earliest",
            loglevel="ERROR",
        )
        frames = app.topic(rig.topic, key_deserializer="bytes", value_deserializer="bytes")
        codes = app.topic(rig.out, key_serializer="bytes", value_serializer="bytes")
        table = app.dataframe(frames).apply(lambda value: model.encode_values([value]).tobytes())
        table.to_topic(codes)
        app.run(count=rig.frames, timeout=30, collect=False)
        return rig.frames

    return run


if __name__ == "__main__":
    serve(prepare, ("quixstreams", "confluent-kafka"))
