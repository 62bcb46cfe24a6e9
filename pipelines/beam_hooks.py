"""Every place where we rely on what Beam does not promise; nothing else may."""

from __future__ import annotations

from apache_beam.runners.worker.statesampler import DEFAULT_SAMPLING_PERIOD_MS, StateSampler

# A bundle ends within this time of its last record, and the worker is looked at 100 times a second.
SAMPLING_PERIOD_MS = 10


def shorten_sampling() -> None:
    """Let bundles end at once; for a worker's process, and harmless when repeated.

    A thread of Beam's notes every 200 ms what the worker is doing, for the metrics
    of a runner, and at the end of each bundle the worker waits for that thread's
    sleep to be over: 100 ms in which nothing is read. Where Beam's insides have
    changed, nothing happens.
    """
    init = StateSampler.__init__
    if init.__defaults__ == (DEFAULT_SAMPLING_PERIOD_MS,):
        init.__defaults__ = (SAMPLING_PERIOD_MS,)
