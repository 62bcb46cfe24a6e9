"""One alert per frame whose score reaches the threshold, with what set it off.

The value is JSON (``schemas/alert.schema.json``); the headers are those of a
CloudEvent in binary mode. The id is a hash of the frame's place, the model and the
rule: a replay sends the same alert under the same key, and a compacted topic keeps one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ae_model.manifest import Manifest
from ae_model.scoring import attribution, severity
from pipelines.frame_batch import InferredBatch, Scorer
from pipelines.records import OutputRecord, event_time, kafka_timestamp
from pipelines.tables import ALERT_SCHEMA

RULE = "threshold"
TYPE = "latentstream.alert.v1"
TOP_CHANNELS = 5


@dataclass(frozen=True)
class ChannelShare:
    """What one channel adds to an alert.

    Args:
        channel: its name.
        unit: of the two values; empty when the model knows none.
        share: of the frame's whole error, 0 to 1.
        sample: place in the frame where expected and seen differ most.
        expected: what the model gives there; None when that is no number.
        seen: what the record says there; None where all samples of the channel are missing.
    """

    channel: str
    unit: str
    share: float
    sample: int
    expected: float | None
    seen: float | None


@dataclass(frozen=True)
class Alert:
    """A frame that the model could not explain.

    Args:
        id: the same for the same frame, model version and rule.
        stream: name of the stream.
        rule: what was crossed.
        key: the record's key as text; bytes that are no UTF-8 are escaped.
        topic: where the frame came from.
        partition: likewise.
        offset: likewise.
        time: event time, ISO 8601 in UTC; None when the record had none.
        score: None when it is not a number, which alerts too.
        threshold: the cut-off on the score.
        severity: name of the level reached; None below all of them.
        channels: the largest shares of the error, largest first.
        model: name of the artifact.
        version: its version.
        layer: whether it is the key's own, its cohort's, that of all keys, or robust statistics.
        error: reconstruction error in squared scaled units; None when not a number.
        latent_distance: distance of the code from the calibration codes; likewise.
        missing: share of the frame's samples that are missing, 0 to 1.
        timestamp: event time in milliseconds since 1970, as the record had it; not in the JSON.
    """

    id: str
    stream: str
    rule: str
    key: str | None
    topic: str
    partition: int
    offset: int
    time: str | None
    score: float | None
    threshold: float
    severity: str | None
    channels: tuple[ChannelShare, ...]
    model: str
    version: int
    layer: str
    error: float | None
    latent_distance: float | None
    missing: float
    timestamp: int

    def to_json(self) -> bytes:
        """UTF-8 JSON without NaN; see the schema file."""
        document = asdict(self)
        del document["timestamp"]
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()

    def to_record(self) -> OutputRecord:
        """A CloudEvent in binary mode, in the partition the frame had; its key is the id."""
        headers = {
            "ce_specversion": "1.0",
            "ce_id": self.id,
            "ce_source": f"/latentstream/{quote(self.stream)}",
            "ce_type": TYPE,
            "ce_subject": f"{self.topic}/{self.partition}/{self.offset}",
            "content-type": "application/json",
        }
        if self.time is not None:
            headers["ce_time"] = self.time
        return OutputRecord(
            key=self.id.encode(),
            value=self.to_json(),
            headers=[(name, text.encode()) for name, text in headers.items()],
            partition=self.partition,
            timestamp_ms=kafka_timestamp(self.timestamp),
        )


def explain(batch: InferredBatch, find_manifest: Callable[[Scorer], Manifest], stream: str) -> list[Alert]:
    """The alerts of a batch, in offset order.

    Args:
        batch: what the models said of frames.
        find_manifest: of what scored a frame: names and units of the channels, and the levels of severity.
        stream: name of the stream.
    """
    rows = np.flatnonzero(batch.alerting)
    if len(rows) == 0:
        return []
    seen, expected = batch.batch.frames[rows], batch.denoised[rows]
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(seen - expected)
    # A missing sample is the last choice; a NaN that the network made counts as the largest.
    worst = np.where(np.isnan(seen), -1.0, distance).argmax(axis=1)  # (alerts, channels)
    manifests = [find_manifest(batch.scorer(int(row))) for row in rows]
    return [
        _explain_frame(batch, int(row), _shares(batch.channel_errors[row], manifest, *sides), manifest, stream)
        for row, manifest, *sides in zip(rows, manifests, seen, expected, worst, strict=True)
    ]


def alert_table(alerts: Sequence[Alert]) -> pa.Table:
    """The rows of the alerts' Parquet files."""
    columns = {name: [getattr(alert, name) for alert in alerts] for name in ALERT_SCHEMA.names if name != "channels"}
    columns["channels"] = [[asdict(share) for share in alert.channels] for alert in alerts]
    return pa.table(columns, schema=ALERT_SCHEMA)


def _explain_frame(
    batch: InferredBatch, row: int, shares: tuple[ChannelShare, ...], manifest: Manifest, stream: str
) -> Alert:
    records, scorer = batch.records, batch.scorer(row)
    offset, timestamp = int(records.offsets[row]), int(records.timestamps[row])
    key, time = records.keys[row].as_py(), event_time(timestamp)
    # In float32, as the score was compared: a score on the threshold must reach its level.
    level = severity(float(batch.scores[row]), float(np.float32(scorer.threshold)), manifest.threshold.levels)
    return Alert(
        id=_identify(stream, records.topic, records.partition, offset, scorer.model, scorer.version, RULE),
        stream=stream,
        rule=RULE,
        key=None if key is None else key.decode(errors="backslashreplace"),
        topic=records.topic,
        partition=records.partition,
        offset=offset,
        time=None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        score=_number(batch.scores[row]),
        threshold=scorer.threshold,
        severity=level,
        channels=shares,
        model=scorer.model,
        version=scorer.version,
        layer=scorer.layer,
        error=_number(batch.errors[row]),
        latent_distance=_number(batch.latent_distance[row]),
        missing=float(str(batch.missing[row])),
        timestamp=timestamp,
    )


def _shares(
    errors: NDArray[np.float32],
    manifest: Manifest,
    seen: NDArray[np.float32],
    expected: NDArray[np.float32],
    worst: NDArray[np.int64],
) -> tuple[ChannelShare, ...]:
    contract = manifest.contract
    places = {name: place for place, name in enumerate(contract.channels)}
    return tuple(
        ChannelShare(
            channel=name,
            unit=contract.units[places[name]] if contract.units else "",
            share=round(share, 6),
            sample=int(worst[places[name]]),
            expected=_number(expected[worst[places[name]], places[name]]),
            seen=_number(seen[worst[places[name]], places[name]]),
        )
        for name, share in attribution(errors, contract.channels, TOP_CHANNELS)
    )


def _identify(*parts: str | int) -> str:
    """32 hex digits; as JSON first, so that no two lists of parts read the same."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _number(value: Any) -> float | None:
    """The shortest number that is this float32; None for NaN and infinity, which JSON has no word for."""
    return float(str(value)) if math.isfinite(value) else None
