"""The parts of a report by themselves: sections, tables, what meets by key, signals made of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_model.config import FrameContract
from ae_model.exceptions import ConfigError
from ae_model.frames import cut
from pipelines.evaluation import alerts, denoising
from pipelines.evaluation.codes import SampleForm
from pipelines.evaluation.inputs import class_of_frames, match
from pipelines.evaluation.markdown import as_markdown, write_table
from pipelines.evaluation.report import Report
from pipelines.evaluation.section import Column, Numbers, Section, known, set_against
from pipelines.sample_files import NpzSamples
from pipelines.samples import Recording

COLUMNS = (
    Column("count", "frames", ",d", "sum", leading=True, shared=True),
    Column("score", "VUS-PR", leading=True),
    Column("cut", "threshold", ".4g", None),
)


def make_section(**scores: tuple[float | None, float | None]) -> Section:
    """Entities with the scores of the model and of PCA."""
    entities: dict[str, dict[str, Numbers]] = {
        name: {"model": {"count": 1000, "score": mine, "cut": 1.5}, "baseline": {"count": 1000, "score": other}}
        for name, (mine, other) in scores.items()
    }
    return Section("alerts", "Alerts", "How to read.", COLUMNS, entities)


def test_entities_are_averaged_or_added_up_and_gaps_left_out() -> None:
    section = make_section(a=(0.5, 0.25), b=(None, 0.75))

    assert section.mean == {
        "model": {"count": 2000, "score": 0.5, "cut": None},
        "baseline": {"count": 2000, "score": 0.5, "cut": None},
    }
    assert section.pairs("score") == [(0.5, 0.25)]


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (
            {"a": (0.5, 0.25), "b": (0.5, 0.6)},
            "In mean VUS-PR the model is better than PCA: 0.500 for the model, 0.425 for PCA; "
            "the model wins 1 and loses 1 of 2 entities.",
        ),
        ({"a": (0.25, 0.5)}, "In VUS-PR PCA is better than the model: 0.250 for the model, 0.500 for PCA."),
        ({"a": (0.5, 0.5)}, "In VUS-PR the model and PCA are equal: 0.500 for the model, 0.500 for PCA."),
        ({"a": (0.5, None)}, ""),
    ],
)
def test_sentence_says_who_is_better(scores: dict[str, tuple[float, float]], sentence: str) -> None:
    assert set_against(make_section(**scores), "score", "VUS-PR") == sentence


def test_lower_may_be_better() -> None:
    sentence = set_against(make_section(a=(0.2, 0.3)), "score", "NRMSE", higher_is_better=False)

    assert sentence.startswith("In NRMSE the model is better than PCA")


def test_report_reads_as_text_and_as_markdown() -> None:
    section = make_section(a=(0.5, 0.25), b=(0.75, 0.5))
    section.notes.append("A note.")

    text = as_markdown("Evaluation of pump", {"data": "pump.npz::test"}, [section], {"scores": "scores.png"})

    assert text == (
        "# Evaluation of pump\n\n- data: pump.npz::test\n\n## Alerts\n\n- A note.\n\n"
        "| mean of 2 entities | model |   PCA |\n"
        "| ------------------ | ----: | ----: |\n"
        "| frames (sum)       | 2,000 | 2,000 |\n"
        "| VUS-PR             | 0.625 | 0.375 |\n\n"
        "| entity | frames | VUS-PR: model / PCA |\n"
        "| ------ | -----: | ------------------: |\n"
        "| a      |  1,000 |       0.500 / 0.250 |\n"
        "| b      |  1,000 |       0.750 / 0.500 |\n\n"
        "How to read.\n\n## Pictures\n\n![scores](scores.png)\n"
    )


def test_report_names_what_answered_for_each_recording() -> None:
    models = {"a": "pump.own.a version 1", "b": "pump version 2", "c": "pump version 2"}

    alone = Report("pump", {"data": "x"}, [], {"a": "pump version 1"}).as_text()
    several = Report("pump", {"data": "x"}, [], models)

    assert alone == "# Evaluation of pump\n\n- data: x\n- model: pump version 1\n"
    assert several.as_text() == (
        "# Evaluation of pump\n\n- data: x\n- model of a: pump.own.a version 1\n"
        "- model of 2 recordings: pump version 2\n"
    )
    assert several.as_json() == {"stream": "pump", "data": "x", "models": models, "pictures": {}}


def test_a_bar_in_a_name_does_not_part_a_cell() -> None:
    assert write_table([["a|b", "x"], ["c", "y"]])[0] == "| a\\|b | x |"


def test_numbers_that_are_not_finite_are_no_json() -> None:
    assert [known(value) for value in (1.5, float("nan"), float("inf"))] == [1.5, None, None]


def test_model_worse_than_chance_is_called_so() -> None:
    numbers: Numbers = {"events": 5, "vus_pr": 0.1, "auc_pr": 0.1, "false_episodes_per_day": 2.0}

    section = alerts.make_section({"a": {"model": numbers, "random": {"vus_pr": 0.2}}})

    assert section.notes == [
        "The numbers rest on 5 events of 1 entity.",
        "The model ranks no better than a random score: VUS-PR 0.100 against 0.200.",
    ]


def test_alarm_that_is_always_on_is_called_so() -> None:
    numbers: Numbers = {"events": 1, "vus_pr": 0.3, "auc_pr": 0.3, "event_recall": 1.0, "false_alarm_rate": 0.99}
    roles = {"model": {**numbers, "false_episodes_per_day": 0.0}, "random": {"vus_pr": 0.2}}

    section = alerts.make_section({"a": roles, "b": roles})

    assert section.notes == [
        "The numbers rest on 2 events of 2 entities.",
        "No entity has 2 events or more: read the mean, and none of them by itself.",
        "The model alerts for 99% of the unlabelled time: its recall and its few false episodes mean nothing.",
    ]


def test_recordings_meet_by_key() -> None:
    a, b, other = (make_recording(key) for key in ("a", "b", "c"))

    assert match([a, b], [b, other, a], "labels") == {"a": a, "b": b}
    assert match([a], [other], "labels") == {"a": other}
    with pytest.raises(
        ConfigError, match=r"labels: expected one for each of 2 .* Received: none for a; there are b, c"
    ):
        match([a, b], [b, other], "labels")


def make_recording(key: str) -> Recording:
    return Recording(f"{key}.npz::x", key, NpzSamples(Path(f"{key}.npz"), "x", 1, 1))


def test_class_of_a_frame_is_that_of_its_last_row() -> None:
    contract = FrameContract(length=3, hop=2, channels=("a",))

    assert class_of_frames(np.array([0, 1, 2, 3, 4, 5]), 6, contract, "y").tolist() == [2, 4]
    assert class_of_frames(np.array([7, 8]), 6, contract, "y").tolist() == [7, 8]


@given(rows=st.integers(0, 40), length=st.integers(1, 8), hop=st.integers(1, 8))
def test_frames_are_joined_to_the_signal_they_were_cut_from(rows: int, length: int, hop: int) -> None:
    contract = FrameContract(length=length, hop=min(hop, length), channels=("a", "b"))
    signal = np.random.default_rng(rows).normal(size=(rows, 2)).astype(np.float32)
    frames = cut(signal, length, contract.hop)
    joiner = denoising.SignalJoiner(rows, contract)

    for number, frame in enumerate(frames):
        joiner.add(np.array([number]), frame[None])

    covered = (len(frames) - 1) * contract.hop + length if len(frames) else 0
    np.testing.assert_allclose(joiner.read()[:covered], signal[:covered], atol=1e-6)
    assert not joiner.read()[covered:].any()


def test_samples_are_stored_as_their_records_hold_them() -> None:
    samples = np.array([[0.5, -1.0]], np.float32)

    assert SampleForm("int16", 32768.0).store(samples).tolist() == [[16384, -32768]]
    assert SampleForm("uint8").store(np.array([[254.6]], np.float32)).dtype == np.uint8
    assert SampleForm().store(samples) is samples
