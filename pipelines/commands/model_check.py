"""``latentstream models verify``, apart from the other verbs on models: it alone needs TensorFlow."""

from __future__ import annotations

import argparse
from pathlib import Path

import tensorflow  # noqa: F401  it greets on stderr, which is closed while this module is imported

from ae_model import artifact
from ae_model.model import Detector
from pipelines.commands.output import show


def verify(args: argparse.Namespace) -> int:
    """Check a version: sizes, hashes, operations, signatures, golden frames."""
    found = Detector.load(artifact.resolve(Path(args.models), args.name, args.version)).manifest
    show({"name": found.name, "version": found.version, "files": len(found.files), "ok": True}, args.output)
    return 0
