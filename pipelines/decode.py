"""``latentstream decode``: codes back to frames, with the model versions that wrote them. No Beam.

codes topic    ─┐
                ├─> by model version ─> decode ─> .npz, .parquet or .wav
codes/ folder  ─┘    each id once
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ae_model import artifact, receiver
from ae_model.exceptions import ConfigError, RecordError
from pipelines.frames_out import FrameRows, open_output
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.read_all import read_all
from pipelines.offset_ranges import OffsetRanges
from pipelines.parquet_files import iter_tables
from pipelines.records import CodeRows, read_codes

if TYPE_CHECKING:
    from ae_model.model import Detector

# Rows decoded in one call; a topic with one record per frame would else call the model for each.
DECODE_ROWS = 4096
_SCORER = ["model", "version", "layer"]


@dataclass
class DecodeReport:
    """What was decoded.

    Args:
        out: the file.
        frames: frames in it.
        duplicates: codes left out, as their frame (topic, partition, offset) was there already.
        unreadable: records of the topic that hold no codes.
        versions: frames by model and version.
    """

    out: str
    frames: int = 0
    duplicates: int = 0
    unreadable: int = 0
    versions: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def decode_topic(settings: KafkaSettings, topic: str, models: Path, out: Path) -> DecodeReport:
    """Decode a codes topic up to its end at the time of the call.

    Args:
        settings: which cluster.
        topic: of codes, in either form.
        models: folder with the versions that wrote them.
        out: .npz, .parquet or .wav.

    Raises:
        ConfigError: the suffix is unknown, or there are no codes.
        ArtifactError: a version is absent or refused.
        ConnectError: no broker.
        SourceGoneError: no topic.
    """
    report = DecodeReport(str(out))
    return _decode(_read_topic(settings, topic, report), models, out, report)


def decode_parquet(folder: Path, models: Path, out: Path) -> DecodeReport:
    """Decode the codes of a folder that ``run`` or ``score`` wrote; see ``decode_topic``."""
    rows = (rows for table in iter_tables(folder, "codes") for rows in _as_code_rows(table))
    return _decode(rows, models, out, DecodeReport(str(out)))


def _decode(rows: Iterable[CodeRows], models: Path, out: Path, report: DecodeReport) -> DecodeReport:
    with open_output(out) as output:
        for batch in _gather(_drop_duplicates(rows, report)):
            detector = _load(models, batch.model, batch.version)
            frames = receiver.decode(batch.codes, detector)  # (n, length, channels)
            output.add(FrameRows(batch, frames, detector.manifest.contract))
            name = f"{batch.model} v{batch.version}"
            report.versions[name] = report.versions.get(name, 0) + len(batch)
            report.frames += len(batch)
        if report.frames == 0:
            raise ConfigError(
                f"codes: expected at least one. Received: none, {report.unreadable} records that hold no codes. "
                "Give the topic or the folder that `latentstream run` writes codes to."
            )
    return report


def _load(models: Path, name: str, version: int) -> Detector:
    # TensorFlow takes seconds to import: only once there is something to decode.
    from pipelines.detectors import DETECTORS

    return DETECTORS.get(str(artifact.resolve(models, name, version)))


def _read_topic(settings: KafkaSettings, topic: str, report: DecodeReport) -> Iterator[CodeRows]:
    for record in read_all(settings, topic):
        try:
            yield read_codes(record.value, record.headers, key=record.key, timestamp_ms=record.timestamp)
        except RecordError:
            report.unreadable += 1


def _drop_duplicates(rows: Iterable[CodeRows], report: DecodeReport) -> Iterator[CodeRows]:
    """Each id (topic, partition, offset) once; the first that comes stays, whatever its version."""
    seen: dict[tuple[str, int], OffsetRanges] = defaultdict(OffsetRanges)
    for batch in rows:
        known = seen[batch.topic, batch.partition]
        fresh = ~known.contains(batch.offsets)
        report.duplicates += len(batch) - int(fresh.sum())
        known.add_offsets(batch.offsets)
        if fresh.any():
            yield batch if fresh.all() else batch.take(fresh)


def _gather(rows: Iterable[CodeRows]) -> Iterator[CodeRows]:
    """Join rows of one partition and version until there are enough for one call."""
    waiting: dict[tuple[str, int, str, int], list[CodeRows]] = defaultdict(list)
    for batch in rows:
        group = waiting[batch.topic, batch.partition, batch.model, batch.version]
        group.append(batch)
        if sum(map(len, group)) >= DECODE_ROWS:
            yield CodeRows.join(group)
            group.clear()
    yield from (CodeRows.join(group) for group in waiting.values() if group)


def _as_code_rows(table: pa.Table) -> Iterator[CodeRows]:
    """The rows of one file, which are of one topic and partition, by model version."""
    for scorer in table.select(_SCORER).group_by(_SCORER, use_threads=False).aggregate([]).to_pylist():
        same = [pc.equal(table.column(name), value) for name, value in scorer.items()]
        rows = table.filter(reduce(pc.and_, same))
        code = rows.column("code").combine_chunks()
        yield CodeRows(
            topic=rows.column("topic")[0].as_py(),
            partition=rows.column("partition")[0].as_py(),
            offsets=rows.column("offset").to_numpy(),
            timestamps=rows.column("timestamp").cast(pa.int64()).to_numpy(),
            keys=rows.column("key").combine_chunks(),
            codes=np.asarray(code.flatten()).reshape(len(code), -1),
            **scorer,
        )
