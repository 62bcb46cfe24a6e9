from __future__ import annotations

import pytest

from ae_model.exceptions import ConfigError
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.offsets import start_offsets, until_offsets

# Nothing listens here: what these tests ask for needs no broker.
NOWHERE = KafkaSettings("127.0.0.1:1")


def test_offsets_are_read_from_json_and_from_mappings() -> None:
    for given in ('{"0": 12, "1": 0}', {0: 12, 1: 0}, {"0": 12, "1": 0}):
        assert start_offsets(NOWHERE, "t", [0, 1], None, given) == {0: 12, 1: 0}
        assert until_offsets(NOWHERE, "t", [0, 1], given) == {0: 12, 1: 0}


def test_no_until_is_no_stop() -> None:
    assert until_offsets(NOWHERE, "t", [0], None) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tomorrow", "offsets: expected earliest, latest, an ISO time"),
        ("{not json", "offsets: expected JSON such as"),
        ('{"0": "x"}', "offsets: expected JSON such as"),
        ('{"7": 1}', "offsets: expected partitions [0, 1] and offsets from 0. Received: {7: 1}."),
        ('{"0": -1, "1": 3}', "offsets: expected partitions [0, 1] and offsets from 0. Received: {0: -1, 1: 3}."),
        ('{"0": 1}', "until: expected an offset for every partition. Received: none for [1]."),
    ],
)
def test_offsets_that_make_no_sense_are_refused(given: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        until_offsets(NOWHERE, "t", [0, 1], given)

    assert str(caught.value).startswith(expected)
