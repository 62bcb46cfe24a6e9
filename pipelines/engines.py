"""Which engine runs the graph, and what each one needs by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from ae_model.exceptions import ConfigError
from pipelines.flink import flink_flags
from pipelines.prism import INSTALL, find_prism

BOUNDED_ENGINES = ("FnApiRunner",)
ENGINES = ("FnApiRunner", "PrismRunner", "FlinkRunner", "PortableRunner", "DataflowRunner")


@dataclass(frozen=True)
class Engine:
    """A runner by name, with the flags it cannot do without.

    Args:
        name: Beam's name of the runner.
        flags: to put before the user's own, which win.
    """

    name: str
    flags: tuple[str, ...] = ()


def make_options(beam_args: Sequence[str], runner: str | None = None, *, bounded: bool = True) -> PipelineOptions:
    """Beam's options with one engine named: the one given, else the one in Beam's flags, else FnApiRunner.

    Raises:
        ConfigError: as ``choose_engine``.
    """
    given = runner or PipelineOptions(list(beam_args)).view_as(StandardOptions).runner or "FnApiRunner"
    engine = choose_engine(given, list(beam_args), bounded=bounded)
    return PipelineOptions([*engine.flags, *beam_args], runner=engine.name)


def choose_engine(runner: str, beam_args: list[str], *, bounded: bool) -> Engine:
    """The engine asked for, or a refusal with its reason.

    Args:
        runner: Beam's name, with or without ``Runner``.
        beam_args: Beam's own flags, as the user gave them.
        bounded: whether the input ends.

    Raises:
        ConfigError: the runner is unknown, means two engines, or cannot run what was asked.
    """
    name = _full_name(runner)
    if name in ("DirectRunner", "SwitchingDirectRunner"):
        raise ConfigError(
            "--runner: expected one engine. Received: --runner=DirectRunner, which is Prism for some graphs and "
            "FnApiRunner for others. Name the one you mean: --runner=FnApiRunner or --runner=PrismRunner."
        )
    if name not in ENGINES:
        raise ConfigError(f"--runner: expected one of {', '.join(ENGINES)}. Received: --runner={runner}.")
    if name in BOUNDED_ENGINES and not bounded:
        raise ConfigError(
            f"--until: expected latest, a time or offsets with --runner={name}, which runs bounded jobs only. "
            "Received: no --until. Add --until latest, or run on --runner=PrismRunner."
        )
    if name == "PrismRunner":
        return Engine(name, _prism_flags(beam_args, bounded=bounded))
    return Engine(name, flink_flags(beam_args) if name == "FlinkRunner" else ())


def _full_name(runner: str) -> str:
    known = {name.lower(): name for name in (*ENGINES, "DirectRunner", "SwitchingDirectRunner")}
    low = runner.lower()
    return known.get(low) or known.get(low + "runner") or runner


def _prism_flags(beam_args: list[str], *, bounded: bool) -> tuple[str, ...]:
    """Workers in this process, so that its meters count; the program on this machine, so that none is downloaded."""
    flags = ("--environment_type=LOOPBACK", *(() if bounded else ("--streaming",)))
    if any(arg.startswith(("--prism_location", "--job_endpoint")) for arg in beam_args):
        return flags
    found = find_prism()
    if found is None:
        raise ConfigError(
            "--runner=PrismRunner: expected its program on the PATH, in ~/go/bin or in --prism_location. Received: "
            f"none. Run: {INSTALL}"
        )
    return (*flags, f"--prism_location={found}")
