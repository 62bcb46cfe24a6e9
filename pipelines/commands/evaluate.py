"""``latentstream evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

import tensorflow  # noqa: F401  it greets on stderr, which is closed while this module is imported

from ae_model.exceptions import ConfigError
from pipelines.commands.output import note, say, show
from pipelines.evaluate import Question, evaluate_scores, evaluate_stream
from pipelines.evaluation.report import MARKDOWN_FILE, Report
from pipelines.stream_file import load_stream


def evaluate(args: argparse.Namespace) -> int:
    """Measure a model, or scores that it wrote."""
    report = _evaluate(args)
    if args.output == "json":
        show(report, args.output)
    else:
        say(report.as_text().rstrip())
    if args.out:
        note(f"Report and {len(report.pictures)} pictures: {Path(args.out) / MARKDOWN_FILE}")
    return 0


def _evaluate(args: argparse.Namespace) -> Report:
    stream, out = load_stream(args.stream), Path(args.out) if args.out else None
    if args.data:
        return evaluate_stream(Question(stream, args.data, Path(args.models), args.labels, args.reference, out), note)
    if args.labels is None or args.reference:
        raise ConfigError("evaluate --scores: expected --labels, and no --reference. Received: neither or both.")
    report = evaluate_scores(stream, args.scores, args.labels)
    if out is not None:
        report.write(out)
    return report
