"""The wiring: Beam, Kafka and Parquet around the core. No arithmetic on samples."""
