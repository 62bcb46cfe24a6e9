import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.exceptions import ConfigError
from ae_model.metrics.alerts import (
    detection_delays,
    event_recall,
    events,
    false_alarm_rate,
    false_episodes_per_day,
    point_precision_recall,
    recall_at_budget,
)

#                  0  1  2  3  4  5  6  7  8  9 10 11 12 13
LABELS = np.array([0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0])
ALERTS = np.array([0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0])
ROW_A_MINUTE = 1 / 60


def test_events_are_the_runs_of_ones():
    assert events(LABELS) == [(2, 5), (11, 13)]
    assert events(np.array([1, 0, 1])) == [(0, 1), (2, 3)]
    assert events(np.array([True, True])) == [(0, 2)]
    assert events(np.array([])) == []


@given(st.lists(st.booleans(), max_size=60))
def test_events_cover_exactly_the_labelled_rows(labels):
    covered = np.zeros(len(labels), bool)
    for start, stop in events(np.array(labels)):
        covered[start:stop] = True

    assert covered.tolist() == labels


def test_an_event_is_found_when_any_of_its_rows_alerts():
    assert event_recall(ALERTS, LABELS) == 0.5
    assert event_recall(LABELS, LABELS) == 1.0
    assert event_recall(np.zeros(14), LABELS) == 0.0


def test_recall_without_events_is_not_a_number():
    assert math.isnan(event_recall(np.ones(3), np.zeros(3)))


def test_episodes_that_touch_no_event_count_per_day():
    # 14 rows at one a minute are 14 / 1440 of a day, with the one false episode [7, 9).
    rate = false_episodes_per_day(ALERTS, LABELS, rate_hz=ROW_A_MINUTE, gap_minutes=2)

    assert rate == pytest.approx(1440 / 14)


@pytest.mark.parametrize(("gap_minutes", "episodes"), [(1, 3), (2, 3), (3, 2), (4, 1)])
def test_runs_closer_than_the_gap_are_one_episode(gap_minutes, episodes):
    #                  0  1  2  3  4  5  6  7
    alerts = np.array([1, 0, 1, 0, 0, 1, 0, 0])
    quiet = np.zeros(1440)
    day = np.concatenate([alerts, quiet])[:1440]

    rate = false_episodes_per_day(day, quiet, rate_hz=ROW_A_MINUTE, gap_minutes=gap_minutes)

    assert rate == pytest.approx(episodes)


def test_an_episode_with_an_event_between_its_runs_is_not_false():
    alerts = np.array([1, 0, 0, 1])
    labels = np.array([0, 1, 0, 0])

    assert false_episodes_per_day(alerts, labels, rate_hz=ROW_A_MINUTE, gap_minutes=10) == 0.0
    assert false_episodes_per_day(alerts, labels, rate_hz=ROW_A_MINUTE, gap_minutes=1) == pytest.approx(2 * 1440 / 4)


def test_rows_that_cannot_be_counted_are_refused():
    with pytest.raises(ConfigError, match=r"as many rows as labels \(2\)"):
        event_recall(np.zeros(3), np.zeros(2))
    with pytest.raises(ConfigError, match=r"as many rows as labels \(2\)"):
        recall_at_budget(np.zeros(3), np.zeros(2), 1, 1)
    with pytest.raises(ConfigError, match="at least one row"):
        false_episodes_per_day(np.zeros(0), np.zeros(0), rate_hz=1)
    with pytest.raises(ConfigError, match="rate_hz"):
        false_episodes_per_day(np.zeros(3), np.zeros(3), rate_hz=0)


def test_delay_is_counted_in_rows_from_the_start_of_each_event():
    delays = detection_delays(ALERTS, LABELS)

    assert delays[0] == 1
    assert math.isnan(delays[1])
    assert detection_delays(np.ones(3), np.zeros(3)).tolist() == []


def test_points_are_counted_one_by_one():
    # Three alerting rows, one of them labelled; five labelled rows; two of nine calm rows alert.
    assert point_precision_recall(ALERTS, LABELS) == (pytest.approx(1 / 3), pytest.approx(1 / 5))
    assert false_alarm_rate(ALERTS, LABELS) == pytest.approx(2 / 9)


def test_points_that_are_not_there_have_no_share():
    precision, recall = point_precision_recall(np.zeros(3), np.zeros(3))

    assert math.isnan(precision)
    assert math.isnan(recall)
    assert math.isnan(false_alarm_rate(np.ones(3), np.ones(3)))


def one_day(**spans):
    """A day of calm minutes with runs of ``height`` at ``start``: s<start>=(length, height)."""
    scores = np.zeros(1440)
    for name, (length, height) in spans.items():
        scores[int(name[1:]) : int(name[1:]) + length] = height
    return scores


def test_recall_at_a_budget_is_that_of_the_lowest_threshold_the_budget_bears():
    labels = one_day(s100=(10, 1), s600=(10, 1), s1000=(10, 1)) > 0
    # Events peak at 9, 6 and 3; false episodes at 7, 5 and 4.
    scores = one_day(s105=(2, 9), s605=(2, 6), s1005=(2, 3), s300=(5, 7), s800=(5, 5), s1200=(5, 4))

    recalls = [recall_at_budget(scores, labels, ROW_A_MINUTE, budget) for budget in (0, 1, 2, 3)]

    assert recalls == [pytest.approx(1 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 1.0]


def test_an_alarm_that_is_always_on_finds_nothing_within_a_budget():
    labels = one_day(s100=(10, 1)) > 0

    assert recall_at_budget(np.ones(1440), labels, ROW_A_MINUTE, 1) == 0.0
    assert math.isnan(recall_at_budget(np.ones(1440), np.zeros(1440), ROW_A_MINUTE, 1))


def test_score_that_is_not_a_number_alerts_at_every_threshold():
    labels = one_day(s100=(10, 1)) > 0
    scores = one_day(s105=(1, np.nan), s700=(1, 2.0))

    assert recall_at_budget(scores, labels, ROW_A_MINUTE, 0) == 0.0
    assert recall_at_budget(scores, labels, ROW_A_MINUTE, 1) == 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=80), st.integers(0, 500))
def test_recall_at_a_budget_is_reached_by_some_threshold_and_rises_with_the_budget(rows, budget):
    scores, labels = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])

    recall = recall_at_budget(scores, labels, ROW_A_MINUTE, budget)

    if not labels.any():
        assert math.isnan(recall)
        return
    reachable = [
        event_recall(scores >= threshold, labels)
        for threshold in [*np.unique(scores), 9.0]
        if false_episodes_per_day(scores >= threshold, labels, ROW_A_MINUTE) <= budget
    ]
    assert recall in reachable
    assert recall <= recall_at_budget(scores, labels, ROW_A_MINUTE, budget + 100)
