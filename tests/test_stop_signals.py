"""The first signal drains, the second one ends a run at once, with that signal's exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pipelines.cli import main
from pipelines.commands import doctor
from pipelines.kafka.source import clear_drain, is_draining
from pipelines.stream import drain_on_signals


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    clear_drain()
    yield
    clear_drain()


def test_first_signal_asks_for_a_drain_and_the_old_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with drain_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)

    assert is_draining()
    assert signal.getsignal(signal.SIGTERM) is before


def run_and_break(*numbers: signal.Signals) -> None:
    """A run that gets these signals, and breaks on its way out."""
    with drain_on_signals():
        try:
            for number in numbers:
                os.kill(os.getpid(), number)
        finally:
            raise RuntimeError("a client was closed while it was asked")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_is_the_reason_whatever_breaks_on_the_way_out(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        run_and_break(number, number)

    assert caught.value.args == (number,)


def test_error_without_a_second_signal_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="a client was closed"):
        run_and_break(signal.SIGTERM)


@pytest.mark.parametrize(("reason", "code"), [((), 130), ((signal.SIGINT,), 130), ((signal.SIGTERM,), 143)])
def test_exit_code_is_that_of_the_signal(reason: tuple[int, ...], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt(*reason)

    monkeypatch.setattr(doctor, "doctor", interrupted)

    assert main(["doctor"]) == code
