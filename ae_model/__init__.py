"""The core: arrays in, arrays out. It knows no Beam, Kafka, Parquet, clock or environment."""
