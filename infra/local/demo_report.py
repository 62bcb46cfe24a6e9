"""What the demo shows at its end: a table, and pictures in demo-out/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ae_model import artifact
from ae_model.model import Detector
from ae_model.scopes import baseline_name
from infra.local.demo_check import Followed
from pipelines import pictures

Facts = Mapping[str, Any]


def write_report(streams: Mapping[str, Facts], out: Path, seconds: float) -> None:
    """Print the table, and keep it as JSON.

    Args:
        streams: by name, what the commands printed and the checks found.
        out: folder of the demo.
        seconds: wall time of the whole.
    """
    (out / "summary.json").write_text(json.dumps({"seconds": round(seconds), "streams": streams}, indent=2) + "\n")
    names = list(streams)
    rows = {name: make_rows(facts) for name, facts in streams.items()}
    labels = list(dict.fromkeys(label for column in rows.values() for label in column))
    print_table(names, [[label, *(rows[name].get(label, "") for name in names)] for label in labels])
    print(f"\nPictures, models, Parquet and decoded frames are in {out}/. The whole took {seconds:.0f} s.")


def make_rows(facts: Facts) -> dict[str, str]:
    """The figures of one stream by label, in the order shown."""
    audit, run, metrics = facts["audit"], facts["run"], facts["train"]["metrics"]
    rows = {
        "records in the topic": f"{audit['records']:,}",
        "  of them bad on purpose": f"{sum(facts['replayed']['bad'].values()):,}",
        "ids among the codes": f"{audit['coded']:,}",
        "ids among the dead letters": f"{audit['dead']:,}",
        "lost / in both / replayed": f"{audit['lost_count']} / {audit['both']} / {audit['replayed']}",
        "held-out error, autoencoder / PCA": _pair(metrics, "calibration_error", ".3f"),
        "alerts": f"{run['alerts']:,}",
        "bytes of a frame / of its code": f"{facts['frame_bytes']} / {facts['code_bytes']}",
        "receiver against the model, largest difference": f"{facts['check']['receiver_max_difference']:g}",
        "stream against batch, scores differ by": f"{facts['check']['score_max_relative_difference']:.1g}",
        "run, seconds with start-up of the model": f"{run['seconds']:.1f}",
    }
    if "evaluation" in facts:
        alerts = facts["evaluation"]["alerts"]["mean"]
        rows["labelled events found, autoencoder / PCA"] = _pair(alerts, "event_recall", ".0%")
        rows["false episodes a day, autoencoder / PCA"] = _pair(alerts, "false_episodes_per_day", ".1f")
        # Few episodes are no comfort where one of them lasts for days.
        rows["unlabelled frames that alert, autoencoder / PCA"] = _pair(alerts, "false_alarm_rate", ".0%")
    return rows


def _pair(both: Facts, name: str, form: str) -> str:
    return f"{both['model'][name]:{form}} / {both['baseline'][name]:{form}}"


def print_table(names: list[str], rows: list[list[str]]) -> None:
    """The table on the terminal, or as plain text in a log."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What came out", title_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


def draw_telemetry(followed: Followed, labels: Path, out: Path) -> None:
    """Error over time with the labelled events, and the codes beside those of PCA."""
    with np.load(labels) as archive:
        labels_by_row = archive["test_label"]
    scores, manifest = followed.scores, followed.detector.manifest
    # A frame is scored at its last sample.
    events = labels_by_row[manifest.contract.length - 1 :][: len(followed.frames)]
    threshold, unit = manifest.threshold.value, manifest.formula.unit
    title, path = "server-telemetry: scores of one server", out / "telemetry-error.png"
    pictures.plot_scores(scores["timestamp"], scores["score"], threshold, events, path, title, unit)
    baseline = Detector.load(artifact.resolve(out / "models", baseline_name(followed.name)))
    classes = np.where(events > 0, "labelled event", "normal")
    codes = followed.detector.encode(followed.frames), baseline.encode(followed.frames)
    pictures.plot_code_map(
        *codes, classes, out / "telemetry-codes.png", "server-telemetry: 38 metrics x 10 minutes in 8 numbers"
    )


def draw_digits(followed: Followed, out: Path, recording: bytes = b"7_jackson_0") -> None:
    """One spoken digit before and after the code."""
    there = followed.keys == recording
    before, after = followed.frames[there].ravel(), followed.decoded[there].ravel()
    rate_hz = followed.detector.manifest.contract.rate_hz or 1.0
    title = "spoken-digits: 'seven' by jackson, 512 bytes a frame against 64 in its code"
    pictures.plot_waveforms(
        {"original": before, "decoded from codes": after}, rate_hz, out / "digits-waveform.png", title
    )


def draw_training(followed: Followed, out: Path) -> None:
    """Loss curves of one stream."""
    history = followed.detector.manifest.training.history
    pictures.plot_history(history, out / f"{followed.name}-training.png", f"{followed.name}: training")
