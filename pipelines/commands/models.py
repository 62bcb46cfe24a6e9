"""``latentstream models``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ae_model import artifact, manifest
from ae_model.exceptions import ArtifactError
from ae_model.naming import name_network
from pipelines.commands.output import show


def list_(args: argparse.Namespace) -> int:
    """One line per version, the served one marked."""
    models = Path(args.models)
    names = sorted(path.name for path in models.iterdir() if path.is_dir()) if models.is_dir() else []
    rows = [_row(models, name, version) for name in names for version in artifact.versions(models, name)]
    show(rows or {"models": 0, "folder": str(models)}, args.output)
    return 0


def _row(models: Path, name: str, version: int) -> dict[str, Any]:
    found = manifest.read(artifact.resolve(models, name, version))
    return {
        "name": name,
        "version": version,
        "serves": artifact.current(models, name) == version,
        "layer": found.scope.layer,
        "key": found.scope.key,
        "created": found.created,
        "network": found.network.network,
        "latent": found.network.latent,
        "threshold": found.threshold.value,
    }


def show_(args: argparse.Namespace) -> int:
    """The manifest; in text without the long lists."""
    found = manifest.read(artifact.resolve(Path(args.models), args.name, args.version))
    show(found if args.output == "json" else summary(found), args.output)
    return 0


def summary(found: manifest.Manifest) -> dict[str, Any]:
    """What a person asks of a model first."""
    length, channels = found.contract.shape
    return {
        "model": f"{found.name} version {found.version}",
        "scores": f"layer {found.scope.layer}" + (f", key {found.scope.key}" if found.scope.key else ""),
        "created": found.created,
        "frames": f"{length} x {channels} at {found.contract.rate_hz or '-'} Hz",
        "network": name_network(found.contract, found.network),
        "threshold": f"{found.threshold.value:.6g} ({found.threshold.asked})",
        "trained on": found.training.data,
        "frames used": found.training.frames,
        **{f"metrics {name}": values for name, values in found.metrics.items()},
    }


def promote_(args: argparse.Namespace) -> int:
    """Serve another version, after checking it."""
    return _serve(args, args.version)


def rollback_(args: argparse.Namespace) -> int:
    """Serve the version before the present one."""
    models = Path(args.models)
    present = artifact.current(models, args.name)
    before = [version for version in artifact.versions(models, args.name) if version < present]
    if not before:
        raise ArtifactError(f"model {args.name}: expected a version before {present}. Received: none.")
    return _serve(args, before[-1])


def _serve(args: argparse.Namespace, version: int) -> int:
    models = Path(args.models)
    artifact.verify(artifact.resolve(models, args.name, version))
    artifact.promote(models, args.name, version)
    show({"name": args.name, "serves": version}, args.output)
    return 0
