"""Scores and alerts beside labels of 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from ae_model.config import FrameContract
from ae_model.metrics import alerts as metrics
from ae_model.metrics.alerts import ALWAYS_ON
from ae_model.metrics.ranking import rank_at_random, rank_rows
from pipelines.evaluation.observation import Scores
from pipelines.evaluation.section import BASELINE, MODEL, RANDOM, Column, Numbers, Section, known, set_against

# What a person on duty bears: one false episode a day.
BUDGET_PER_DAY = 1.0
# A machine with fewer events says nothing by itself.
FEW_EVENTS = 2

COLUMNS = (
    Column("frames", "frames", ",d", "sum", shared=True),
    Column("missing", "without a score", ",d", "sum"),
    Column("events", "events", ",d", "sum", leading=True, shared=True),
    Column("vus_pr", "VUS-PR", leading=True),
    Column("auc_pr", "AUC-PR", leading=True),
    Column("vus_roc", "VUS-ROC"),
    Column("auc_roc", "AUC-ROC"),
    Column("alerts", "alerts", ",d", "sum"),
    Column("threshold", "threshold", ".4g", None),
    Column("event_recall", "event recall", ".2f", leading=True),
    Column("false_episodes_per_day", "false episodes a day", ".2f", leading=True),
    Column("delay_s", "median delay (s)", ",.0f", leading=True),
    Column("recall_at_budget", "recall ceiling at 1 a day", ".2f"),
    Column("point_precision", "point precision", ".2f"),
    Column("point_recall", "point recall", ".2f"),
    Column("point_f1", "point F1", ".2f"),
    Column("false_alarm_rate", "false-alarm rate", ".2%"),
)
_INTRO = (
    "Ranking numbers need no threshold and stand beside a random score. Event recall, false episodes and delay are "
    "those of the threshold that was fitted on calibration frames, without labels; delay is of the events that were "
    "found. The recall ceiling looks at the labels: the best that any threshold reaches at one false episode a day. "
    "Point F1 is no measure by itself: an alarm that is always on has one too, beside its false-alarm rate of 100 %."
)


def measure(scores: Scores, truth: NDArray[np.bool_], window: int, contract: FrameContract) -> Numbers:
    """The numbers of one model for one recording.

    Args:
        scores: of its frames, those without one left out.
        truth: (frames,) True where labelled.
        window: of the volumes, in frames.
        contract: for the frames' rate.
    """
    rate_hz = contract.rate_hz / contract.hop if contract.rate_hz else None
    alerts, ranks = np.zeros(len(truth), bool), np.full(len(truth), -np.inf)
    # What has no score never alerts.
    alerts[scores.numbers], ranks[scores.numbers] = scores.alerts, scores.scores
    precision, recall = metrics.point_precision_recall(alerts, truth)
    found: dict[str, float] = {
        "event_recall": metrics.event_recall(alerts, truth),
        **_by_time(alerts, ranks, truth, rate_hz),
        "point_precision": precision,
        "point_recall": recall,
        "point_f1": 2 * precision * recall / (precision + recall) if precision + recall > 0 else math.nan,
        "false_alarm_rate": metrics.false_alarm_rate(alerts, truth),
    }
    counts = {"frames": len(truth), "missing": len(truth) - len(scores.numbers), "events": len(metrics.events(truth))}
    found |= asdict(rank_rows(ranks, truth, window))
    numbers = {name: known(value) for name, value in found.items()}
    return {**counts, "alerts": int(alerts.sum()), "threshold": scores.threshold, **numbers}


def _by_time(
    alerts: NDArray[np.bool_], scores: NDArray[np.float64], truth: NDArray[np.bool_], rate_hz: float | None
) -> dict[str, float]:
    """What needs to know how long a day is."""
    if rate_hz is None or len(truth) == 0:
        return dict.fromkeys(("false_episodes_per_day", "recall_at_budget", "delay_s"), math.nan)
    delays = metrics.detection_delays(alerts, truth)
    found = delays[~np.isnan(delays)]
    return {
        "false_episodes_per_day": metrics.false_episodes_per_day(alerts, truth, rate_hz),
        "recall_at_budget": metrics.recall_at_budget(scores, truth, rate_hz, BUDGET_PER_DAY),
        "delay_s": float(np.median(found)) / rate_hz if len(found) else math.nan,
    }


def measure_random(truth: NDArray[np.bool_], window: int) -> Numbers:
    """What a score without knowledge reaches."""
    return {name: known(value) for name, value in asdict(rank_at_random(truth, window)).items()}


def make_section(entities: Mapping[str, dict[str, Numbers]]) -> Section:
    """The section of all recordings, with what its numbers say."""
    section = Section("alerts", "Alerts", _INTRO, COLUMNS, dict(entities))
    section.notes.extend(_judge(section))
    return section


def _judge(section: Section) -> list[str]:
    events = [int(roles[MODEL]["events"] or 0) for roles in section.entities.values()]
    notes = [f"The numbers rest on {_count(sum(events), 'event')} of {_count(len(events), 'entity', 'entities')}."]
    if sum(events) == 0:
        return [*notes, "Without an event nothing can be ranked or found."]
    few = [name for name, count in zip(section.entities, events, strict=True) if count < FEW_EVENTS]
    if sum(events) < FEW_EVENTS:
        return [*notes, "One event proves nothing: evaluate it with other entities. No comparison is made."]
    notes += [_name_few(few, len(events))] if few else []
    mean = section.mean
    notes += [set_against(section, "vus_pr", "VUS-PR"), set_against(section, "auc_pr", "AUC-PR")]
    notes += [_beside_random(mean), _always_on(mean), _rates_differ(mean)]
    return [note for note in notes if note]


def _name_few(few: list[str], entities: int) -> str:
    if len(few) == entities:
        return f"No entity has {FEW_EVENTS} events or more: read the mean, and none of them by itself."
    return f"Fewer than {FEW_EVENTS} events, to be read with the others only: {', '.join(few)}."


def _always_on(mean: Mapping[str, Numbers]) -> str:
    share = mean[MODEL]["false_alarm_rate"]
    if share is None or share <= ALWAYS_ON:
        return ""
    return (
        f"The model alerts for {share:.0%} of the unlabelled time: its recall and its few false episodes mean nothing."
    )


def _beside_random(mean: Mapping[str, Numbers]) -> str:
    mine, random = mean[MODEL]["vus_pr"], mean[RANDOM]["vus_pr"]
    if mine is None or random is None or mine > random:
        return ""
    return f"The model ranks no better than a random score: VUS-PR {mine:.3f} against {random:.3f}."


def _rates_differ(mean: Mapping[str, Numbers]) -> str:
    mine = mean[MODEL]["false_episodes_per_day"]
    other = mean.get(BASELINE, {}).get("false_episodes_per_day")
    if mine is None or other is None or math.isclose(mine, other, rel_tol=0.1):
        return ""
    return (
        f"Event recall is not at the same rate of false episodes: {mine:.2f} a day for the model, {other:.2f} for PCA. "
        "Compare the ranking numbers, or the recall ceilings."
    )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
