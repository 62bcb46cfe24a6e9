"""Bytewax with its batched operator: `flat_map_batch` gets records together and gives codes in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from serving import Model, Rig, serve


def prepare(rig: Rig) -> Callable[[], int]:
    """A dataflow for each pass; it ends at the end of the topic."""
    model = Model(rig)

    def run() -> int:
        done = 0

        def encode(records: list[Any]) -> list[KafkaSinkMessage[bytes, bytes]]:
            nonlocal done
            done += len(records)
            # What all partitions gave comes as one list.
            values = [record.value for record in records]
            parts = [values[start : start + rig.batch] for start in range(0, len(values), rig.batch)]
            return [KafkaSinkMessage(None, model.encode_values(part).tobytes()) for part in parts]

        flow = Dataflow("bench")
        read = kop.input("read", flow, brokers=[rig.bootstrap], topics=[rig.topic], tail=False, batch_size=rig.batch)
        kop.output("write", op.flat_map_batch("encode", read.oks, encode), brokers=[rig.bootstrap], topic=rig.out)
        run_main(flow)
        return done

    return run


if __name__ == "__main__":
    serve(prepare, ("bytewax", "confluent-kafka"))
