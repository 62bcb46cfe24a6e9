"""Kafka on this machine, without Docker, Maven or a Java install."""
