"""A loop on kafka-python with crc32c, as written by hand; the same steps as the one on confluent-kafka."""

from __future__ import annotations

from collections.abc import Callable

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from serving import Model, Rig, serve

COMMIT_FRAMES = 8192


def prepare(rig: Rig) -> Callable[[], int]:
    """A consumer and a producer for each pass, as each start would have."""
    model = Model(rig)

    def run() -> int:
        consumer = KafkaConsumer(
            bootstrap_servers=rig.bootstrap,
            group_id="kafka-python-loop",
            enable_auto_commit=False,
            max_poll_records=rig.batch,
        )
        partitions = [TopicPartition(rig.topic, number) for number in range(rig.partitions)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        producer = KafkaProducer(bootstrap_servers=rig.bootstrap, acks="all", linger_ms=5)
        done = committed = 0
        while done < rig.frames:
            values = [record.value for records in consumer.poll(50).values() for record in records]
            if not values:
                continue
            producer.send(rig.out, model.encode_values(values).tobytes())
            done += len(values)
            if done - committed >= COMMIT_FRAMES:
                consumer.commit_async()
                committed = done
        producer.flush()
        consumer.commit()
        consumer.close()
        producer.close()
        return done

    return run


if __name__ == "__main__":
    serve(prepare, ("kafka-python", "crc32c"))
