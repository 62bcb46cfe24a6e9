"""Flags that are Beam's own: refused when misspelt, which Beam itself would let pass with a warning."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from ae_model.config import hint
from ae_model.exceptions import ConfigError
from pipelines.commands.arguments import build_parser
from pipelines.engines import choose_engine

# Others take flags that only their job server knows.
LOCAL_ENGINES = ("FnApiRunner", "PrismRunner")
# The one flag of another verb that Beam would take for its own.
LABELS = "--labels"


def beam_flags(runner: str, flags: Sequence[str], *, bounded: bool) -> tuple[str, ...]:
    """The flags for a verb without run settings, with the engine among them.

    Raises:
        ConfigError: the engine is refused, or a flag is unknown.
    """
    engine = choose_engine(runner, list(flags), bounded=bounded)
    check_beam_flags(engine.name, flags)
    return (*flags, f"--runner={engine.name}")


def check_beam_flags(runner: str, flags: Sequence[str]) -> None:
    """Refuse what is neither ours nor Beam's.

    Raises:
        ConfigError: a flag is unknown to Beam, or looks like one of ours; the message names the nearest.
    """
    beams = _beam_names()
    for flag in flags:
        name = flag.partition("=")[0]
        if name == LABELS and runner in LOCAL_ENGINES:
            raise ConfigError(
                f"arguments: expected flags of this verb or of Beam's. Received: {flag}, which Beam has for jobs in "
                "Google's cloud. Labels of samples are for `latentstream evaluate`; training sees none."
            )
        if name in beams:
            continue
        near = hint(name, _own_names() | beams)
        if near or runner in LOCAL_ENGINES or not name.startswith("--"):
            raise ConfigError(f"arguments: expected flags of this verb or of Beam's. Received: {flag}.{near}")


def _beam_names() -> set[str]:
    parser = argparse.ArgumentParser(add_help=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return set(parser._option_string_actions)


def _own_names() -> set[str]:
    verbs = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    chosen = [verbs.choices[name] for name in ("train", "run", "score")]
    return {name for verb in chosen for name in verb._option_string_actions}
