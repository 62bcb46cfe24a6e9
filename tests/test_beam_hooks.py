"""Contracts with the inside of Beam; when one breaks, every bundle ends with a wait."""

from __future__ import annotations

from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.utils.counters import CounterFactory

from pipelines import beam_hooks
from pipelines.kafka import source  # noqa: F401  a worker that reads has the shorter period by importing it


def test_worker_that_reads_looks_at_its_state_often() -> None:
    sampler = StateSampler("step", CounterFactory())

    assert sampler.sampling_period_ms == beam_hooks.SAMPLING_PERIOD_MS


def test_shortening_twice_changes_nothing_more() -> None:
    beam_hooks.shorten_sampling()
    beam_hooks.shorten_sampling()

    assert StateSampler("step", CounterFactory()).sampling_period_ms == beam_hooks.SAMPLING_PERIOD_MS


def test_period_that_is_asked_for_is_kept() -> None:
    assert StateSampler("step", CounterFactory(), 200).sampling_period_ms == 200
