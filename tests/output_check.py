"""What must hold of every output of a run in which one record of a hundred is bad, whatever broke on the way."""

from __future__ import annotations

from pathlib import Path

from pipelines.audit import Audit, audit_stream
from pipelines.kafka.client import KafkaSettings
from pipelines.parquet_files import read_table, verify_folder
from pipelines.stream_file import StreamFile


def check_outputs(stream: StreamFile, broker: str, parquet: Path, count: int) -> Audit:
    """Nothing lost, nothing twice by id, no duplicate row at all."""
    audit = audit_stream(stream, KafkaSettings(broker))
    assert (audit.records, audit.coded, audit.dead) == (count, count * 99 // 100, count // 100)
    assert (audit.lost, audit.both) == ([], 0)
    report = verify_folder(parquet)
    assert [part["duplicated"] for part in report["partitions"]] == [[]] * len(report["partitions"])
    assert read_table(parquet, "scores").num_rows == count * 99 // 100
    assert read_table(parquet, "codes").num_rows == count * 99 // 100
    return audit
