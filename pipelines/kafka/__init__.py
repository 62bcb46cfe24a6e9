"""Kafka: client, raw record batches, the source and the sink."""
