"""What a benchmark measured: rounds of two legs, and the figures that may be told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

QUARTERS = (25, 50, 75, 100)


@dataclass(frozen=True)
class Leg:
    """One leg of one round.

    Args:
        frames: how many went through.
        wall_s: seconds on the clock.
        cpu_s: seconds of processor time of this process, all threads.
    """

    frames: int
    wall_s: float
    cpu_s: float

    @property
    def us_per_frame(self) -> float:
        """By the clock."""
        return 1e6 * self.wall_s / self.frames

    @property
    def cpu_us_per_frame(self) -> float:
        """By processor time, which other tenants of the machine change less."""
        return 1e6 * self.cpu_s / self.frames


@dataclass(frozen=True)
class BenchReport:
    """Rounds of both legs, and what memory did while the topic drained.

    Args:
        bare: one leg per round.
        stream: likewise.
        rss_mb: resident memory through the last stream leg, in MiB, evenly spaced in time.
        backlog_mb: values in the topic, in MiB.
    """

    bare: list[Leg]
    stream: list[Leg]
    rss_mb: list[float]
    backlog_mb: float

    @property
    def ratios(self) -> list[float]:
        """Speed of the stream over that of the bare model by the clock, round by round."""
        return [b.us_per_frame / s.us_per_frame for s, b in zip(self.stream, self.bare, strict=True)]

    @property
    def cpu_ratios(self) -> list[float]:
        """The same by processor time."""
        return [b.cpu_us_per_frame / s.cpu_us_per_frame for s, b in zip(self.stream, self.bare, strict=True)]

    @property
    def overhead_us(self) -> float:
        """What the stream adds to a frame, in microseconds by the clock; median of the rounds."""
        return median(s.us_per_frame - b.us_per_frame for s, b in zip(self.stream, self.bare, strict=True))

    @property
    def rss_at(self) -> dict[int, float]:
        """Memory in MiB when 25, 50, 75 and 100 % of the drain's time were over."""
        last = len(self.rss_mb) - 1
        return {share: self.rss_mb[round(last * share / 100)] for share in QUARTERS}

    @property
    def rss_growth_mb(self) -> float:
        """Median memory of the last quarter of the drain less that of the second quarter."""
        quarter = max(1, len(self.rss_mb) // 4)
        return median(self.rss_mb[-quarter:]) - median(self.rss_mb[quarter : 2 * quarter] or self.rss_mb)

    def as_json(self) -> dict[str, Any]:
        """Figures for ``-o json``."""
        return {
            "rounds": len(self.ratios),
            "frames": self.stream[0].frames,
            "bare": _figures(self.bare),
            "stream": _figures(self.stream),
            "ratio": round(median(self.ratios), 3),
            "ratio_range": [round(min(self.ratios), 3), round(max(self.ratios), 3)],
            "cpu_ratio": round(median(self.cpu_ratios), 3),
            "overhead_us_per_frame": round(self.overhead_us, 2),
            "backlog_mb": round(self.backlog_mb),
            "rss_mb": {f"{share}%": round(mb) for share, mb in self.rss_at.items()},
            "rss_growth_mb": round(self.rss_growth_mb, 1),
        }

    def as_text(self) -> str:
        """The same as a table, for a person."""
        found = self.as_json()
        low, high = found["ratio_range"]
        lines = [
            f"{'leg':<8}{'frames/s':>12}{'us/frame':>12}{'CPU us/frame':>16}",
            *(_row(name, found[name]) for name in ("bare", "stream")),
            "",
            f"ratio     {found['ratio']:.3f}, from {low:.3f} to {high:.3f} in {found['rounds']} rounds; "
            f"{found['cpu_ratio']:.3f} by processor time",
            f"overhead  {found['overhead_us_per_frame']:.2f} us a frame",
            f"backlog   {found['backlog_mb']:,} MiB in {found['frames']:,} frames",
            "memory    "
            + ", ".join(f"{mb:,} MiB at {share}" for share, mb in found["rss_mb"].items())
            + " of the drain",
        ]
        return "\n".join(lines)


def _figures(legs: Sequence[Leg]) -> dict[str, float]:
    def middle(figure: Callable[[Leg], float]) -> float:
        return round(median(figure(leg) for leg in legs), 2)

    return {
        "frames_per_s": round(median(1e6 / leg.us_per_frame for leg in legs)),
        "us_per_frame": middle(lambda leg: leg.us_per_frame),
        "cpu_us_per_frame": middle(lambda leg: leg.cpu_us_per_frame),
    }


def _row(name: str, leg: dict[str, float]) -> str:
    return f"{name:<8}{leg['frames_per_s']:>12,}{leg['us_per_frame']:>12.2f}{leg['cpu_us_per_frame']:>16.2f}"
