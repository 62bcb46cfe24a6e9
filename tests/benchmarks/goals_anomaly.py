"""Goals G7 to G10: anomalies on SMD, ASD and SKAB, each machine beside PCA of the same size.

    python tests/benchmarks/goals_anomaly.py --data ../shared/data --out goals-anomaly --seeds 1 2 3

One stream file per data set, the same for all its machines; one model per machine, trained by the
pipeline of ``latentstream train`` on the training part alone, its threshold fitted there too. Three
are compared: the autoencoder, PCA on the same frames with the same score, and the plain residual
of PCA on single rows. What was measured stays in the output folder: the same command goes on there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from goals_anomaly_table import AUTOENCODER, RANDOM, ROW_PCA, SAME_PCA, describe
from numpy.typing import NDArray
from recordings import Entity, read_npz, read_skab

from ae_model import artifact
from ae_model.config import FrameContract, ScoreConfig
from ae_model.frames import cut
from ae_model.metrics.alerts import event_recall, events, false_alarm_rate, false_episodes_per_day
from ae_model.metrics.ranking import rank_at_random, rank_rows
from ae_model.metrics.volume import find_window
from ae_model.model import Detector
from ae_model.scopes import baseline_name
from pipelines.stream_file import StreamFile, load_stream
from pipelines.train import train_stream

_SKAB_STREAM = Path(__file__).parent / "streams" / "water-circulation.yaml"
# Latent size of the plain residual, as in the published comparison.
_ROW_LATENT = {"smd": 8, "asd": 4, "skab": 4}


@dataclass(frozen=True)
class DataSet:
    """One data set and the stream that all its machines share."""

    name: str
    stream: str
    read: Callable[[Path], Iterator[Entity]]


DATA_SETS = (
    DataSet("smd", "server-telemetry", read_npz),
    DataSet("asd", "application-servers", read_npz),
    DataSet("skab", str(_SKAB_STREAM), read_skab),
)


def main(args: Sequence[str] | None = None) -> int:
    """Train what is missing, print the tables and write them."""
    given = _parse(args)
    missing = [each.name for each in DATA_SETS if not (given.data / each.name).is_dir()]
    if missing:
        print(f"skipped: expected {', '.join(missing)} in --data. Received: data={given.data}.")
        return 0
    rows = []
    for data_set in [each for each in DATA_SETS if each.name in given.sets]:
        for entity in data_set.read(given.data / data_set.name):
            rows += [measured(data_set, entity, seed, given.out) for seed in given.seeds]
    (given.out / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    table = describe(rows)
    (given.out / "goals.md").write_text(table, encoding="utf-8")
    print(table, end="")
    return 0


def measured(data_set: DataSet, entity: Entity, seed: int, out: Path) -> dict[str, Any]:
    """One machine with one seed: measured now, or before with the same settings."""
    stream = make_stream(data_set, entity.name, seed)
    settings = json.loads(
        json.dumps([asdict(part) for part in (stream.contract, stream.model, stream.score, stream.threshold)])
    )
    path = out / "results" / f"{stream.name}.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["settings"] == settings:
            return dict(kept["row"])
    row = measure(data_set, entity, stream, seed)
    print(f"{stream.name}: {row['seconds']:.0f} s, AUC-PR {row[AUTOENCODER]['auc_pr']:.3f}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": settings, "row": row}, indent=1), encoding="utf-8")
    return row


def make_stream(data_set: DataSet, entity: str, seed: int) -> StreamFile:
    """The data set's stream for one machine alone."""
    stream = load_stream(data_set.stream)
    changes = {"name": f"{data_set.name}-{entity}-{seed}", "model": replace(stream.model, seed=seed)}
    return stream.model_copy(update=changes)


def measure(data_set: DataSet, entity: Entity, stream: StreamFile, seed: int) -> dict[str, Any]:
    """Train, then judge by the test part; nothing of it is read before."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "training.npz"
        np.savez(data, train=entity.training)
        start = time.perf_counter()
        train_stream(stream, f"{data}::train", Path(folder) / "models", report=lambda line: None)
        seconds = time.perf_counter() - start
        names = {AUTOENCODER: stream.name, SAME_PCA: baseline_name(stream.name)}
        detectors = {
            role: Detector.load(artifact.resolve(Path(folder) / "models", name)) for role, name in names.items()
        }
        window = find_window(entity.test[:, 0])
        found = {role: judge(detector, entity, stream.contract, window) for role, detector in detectors.items()}
    scores, labels = row_residual(entity, _ROW_LATENT[data_set.name])
    found[ROW_PCA] = asdict(rank_rows(scores, labels, window))
    found[RANDOM] = asdict(rank_at_random(entity.labels, window))
    return {"set": data_set.name, "entity": entity.name, "seed": seed, "seconds": seconds, **found}


def judge(detector: Detector, entity: Entity, contract: FrameContract, window: int) -> dict[str, float]:
    """All numbers of one detector on the test part, a frame at each row that has enough before it."""
    length, rate_hz = contract.length, contract.rate_hz or 1.0
    scores = np.concatenate([detector.infer(part).scores for part in _parts(cut(entity.test, length, 1))])
    labels = entity.labels[length - 1 :]
    alerts = ~(scores < np.float32(detector.manifest.threshold.value))
    hits = int((alerts & labels).sum())
    return {
        **asdict(rank_rows(scores, labels, window)),
        "event_recall": event_recall(alerts, labels),
        "events": len(events(labels)),
        "false_episodes_per_day": false_episodes_per_day(alerts, labels, rate_hz),
        "false_alarm_rate": false_alarm_rate(alerts, labels),
        "hits": hits,
        "misses": int(labels.sum()) - hits,
        "false": int(alerts.sum()) - hits,
        "calm": int((~labels).sum()),
    }


def row_residual(entity: Entity, latent: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores (m,) of plain PCA on single rows, fitted on the whole training part; and the labels."""
    from choose_settings import Recording, fit_recording

    recording = Recording(entity.training, entity.training[-100:], entity.training[-100:])
    fitted = fit_recording(recording, 1, {"network": "linear", "latent": latent}, 1)
    plain = fitted.calibrated(ScoreConfig("plain"), lambda: [entity.training[-100:, None]])
    return np.concatenate([plain.infer(part).scores for part in _parts(cut(entity.test, 1, 1))]), entity.labels


def _parts(frames: NDArray[np.float32], size: int = 4096) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(frames), size):
        yield frames[start : start + size]


def _parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Goals G7 to G10: anomalies on SMD, ASD and SKAB.")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), metavar="DIR", help="holds smd/ asd/ skab/"
    )
    parser.add_argument("--out", type=Path, default=Path("goals-anomaly"), metavar="DIR", help="results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="one training each")
    names = [each.name for each in DATA_SETS]
    parser.add_argument("--sets", nargs="*", default=names, choices=names, help="which (default: all)")
    return parser.parse_args(args)


if __name__ == "__main__":
    sys.exit(main())
