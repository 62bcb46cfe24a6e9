import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.evaluation import event_recall, events, false_episodes_per_day
from ae_model.exceptions import ConfigError

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
    with pytest.raises(ConfigError, match="at least one row"):
        false_episodes_per_day(np.zeros(0), np.zeros(0), rate_hz=1)
    with pytest.raises(ConfigError, match="rate_hz"):
        false_episodes_per_day(np.zeros(3), np.zeros(3), rate_hz=0)
