"""A loop on confluent-kafka, as written by hand: consume a batch, infer, produce its codes, commit now and then."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from serving import Model, Rig, serve

COMMIT_FRAMES = 8192


def prepare(rig: Rig) -> Callable[[], int]:
    """A consumer and a producer for each pass, as each start would have."""
    model = Model(rig)

    def run() -> int:
        consumer = Consumer(
            {"bootstrap.servers": rig.bootstrap, "group.id": "confluent-loop", "enable.auto.commit": False}
        )
        consumer.assign([TopicPartition(rig.topic, number, 0) for number in range(rig.partitions)])
        producer = Producer({"bootstrap.servers": rig.bootstrap, "acks": "all", "linger.ms": 5})
        done = committed = 0
        while done < rig.frames:
            records = consumer.consume(rig.batch, timeout=0.05)
            if not records:
                continue
            for record in records:
                if record.error():
                    raise KafkaException(record.error())
            codes = model.encode_values([record.value() for record in records])
            producer.produce(rig.out, codes.tobytes())
            producer.poll(0)
            done += len(records)
            if done - committed >= COMMIT_FRAMES:
                consumer.commit(asynchronous=True)
                committed = done
        producer.flush()
        consumer.commit(asynchronous=False)
        consumer.close()
        return done

    return run


if __name__ == "__main__":
    serve(prepare, ("confluent-kafka",))
