"""Model folders: export one, publish it whole or not at all, and find it again.

    models/<name>/1/        manifest.json  saved_model.pb  variables/  assets/  schema.pbtxt  README.md
    models/<name>/2/
    models/<name>/CURRENT   the number of the version to use

A version folder is written under a name of its own, synced and renamed, so it is
absent or complete whenever the program is stopped. CURRENT is replaced last.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_model.calibration import Threshold
from ae_model.card import write_card
from ae_model.config import Missing, require
from ae_model.exceptions import ArtifactError
from ae_model.frames import usable
from ae_model.manifest import (
    CARD,
    GOLDEN,
    MANIFEST,
    PICTURES,
    SCHEMA,
    UNPUBLISHED,
    Manifest,
    TrainingRecord,
    schema_text,
)
from ae_model.scopes import EVERY_KEY, Scope
from ae_model.scratch import scratch_folder
from ae_model.verify import describe, files, verify

if TYPE_CHECKING:
    from ae_model.training import Fitted

__all__ = ["Facts", "current", "export", "promote", "publish", "resolve", "verify", "versions"]

CURRENT = "CURRENT"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Facts:
    """What an artifact says of itself beyond what was fitted.

    Args:
        name: the model's name.
        created: when, ISO 8601 in UTC.
        data: what it was trained on, as the person who trained it named it.
        frames: how many frames went to ``training``, ``validation`` and ``calibration``.
        threshold: the cut-off on the score.
        metrics: by ``model`` and ``baseline``, numbers on frames that training never saw.
        batch_frames: frames per call that suit it best.
        scope: for which keys it answers.
    """

    name: str
    created: str
    data: str
    frames: dict[str, int]
    threshold: Threshold
    metrics: dict[str, dict[str, float]]
    batch_frames: int = 512
    scope: Scope = EVERY_KEY


def export(
    folder: Path,
    fitted: Fitted,
    facts: Facts,
    golden: NDArray[np.float32],
    pictures: Mapping[str, bytes] = MappingProxyType({}),
) -> Manifest:
    """Write a model folder that no one uses yet; ``publish`` gives it a version.

    Args:
        folder: where; absent or empty.
        fitted: the trained pair.
        facts: what else its manifest says.
        golden: (n, length, channels) frames in own units; with their outputs they travel in the
            folder, and each load checks that it computes the same.
        pictures: PNG files by name, which the model card shows.

    Raises:
        ArtifactError: the folder holds something, there are no golden frames, or a fact is not finite.
    """
    _check_export(folder, facts, golden, fitted.contract.missing)
    fitted.graph.save(str(folder))
    (folder / GOLDEN).parent.mkdir(exist_ok=True)
    np.savez(folder / GOLDEN, **_golden(fitted, golden))
    for name, content in pictures.items():
        (folder / PICTURES / name).write_bytes(content)
    (folder / SCHEMA).write_text(schema_text(fitted.contract), encoding="utf-8")
    manifest = _manifest(fitted, facts)
    (folder / CARD).write_text(write_card(manifest, tuple(pictures)), encoding="utf-8")
    manifest = replace(manifest, files={path: describe(folder / path) for path in files(folder)})
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def publish(candidate: Path, models_dir: Path, name: str, *, promoted: bool = True) -> int:
    """Copy an exported folder to the next free version, and point CURRENT to it.

    Args:
        candidate: the exported folder.
        models_dir: folder of all models.
        name: of the model.
        promoted: False leaves CURRENT where it is, for a version that a gate refused.

    Returns:
        The version. Stopped at any point, the version is absent or complete.

    Raises:
        ArtifactError: the candidate fails its checks, or was exported under another name.
    """
    manifest = verify(candidate)
    if manifest.name != name:
        raise ArtifactError(f"model {candidate}: expected name {name}. Received: name={manifest.name}.")
    home = _home(models_dir, name)
    home.mkdir(parents=True, exist_ok=True)
    # Not a number, so that no reader takes it for a version.
    with scratch_folder(home, ".publishing-") as temporary:
        _copy(candidate, temporary, manifest)
        version = _claim(temporary, home, manifest)
    if promoted:
        promote(models_dir, name, version)
    return version


def promote(models_dir: Path, name: str, version: int) -> None:
    """Point CURRENT to a version, in one step for all who read it.

    Raises:
        ArtifactError: there is no such version.
    """
    home = resolve(models_dir, name, version).parent
    temporary = home / f".{CURRENT}-{uuid.uuid4().hex}"
    try:
        _write(temporary, f"{version}\n".encode())
        os.replace(temporary, home / CURRENT)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(home)


def versions(models_dir: Path, name: str) -> list[int]:
    """The published versions, rising; none where there is no such model."""
    home = _home(models_dir, name)
    if not home.is_dir():
        return []
    return sorted(int(entry.name) for entry in home.iterdir() if entry.name.isdecimal() and entry.is_dir())


def current(models_dir: Path, name: str) -> int:
    """The version that CURRENT points to.

    Raises:
        ArtifactError: there is no such model, or no version was promoted.
    """
    path = _home(models_dir, name) / CURRENT
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        found = versions(models_dir, name)
        next_step = f"Run `latentstream models promote {name} {found[-1]}`." if found else f"Train {name} first."
        raise ArtifactError(
            f"models {models_dir}: expected the number of a version in {name}/{CURRENT}. "
            f"Received: {type(exc).__name__}, versions={found}. {next_step}"
        ) from exc


def resolve(models_dir: Path, name: str, version: int | None = None) -> Path:
    """The folder of a version; of the current one without a number. Its content is not checked here.

    Raises:
        ArtifactError: there is none.
    """
    number = current(models_dir, name) if version is None else version
    path = _home(models_dir, name) / str(number)
    if not (path / MANIFEST).is_file():
        raise ArtifactError(
            f"models {models_dir}: expected one of the versions of {name}. Received: version={number}, "
            f"versions={versions(models_dir, name)}."
        )
    return path


def _home(models_dir: Path, name: str) -> Path:
    require(_NAME.fullmatch(name) is not None, "name", "letters, digits, '.', '_' and '-'", name)
    return Path(models_dir) / name


def _check_export(folder: Path, facts: Facts, golden: NDArray[np.float32], missing: Missing) -> None:
    _home(folder, facts.name)
    if folder.exists() and any(folder.iterdir()):
        raise ArtifactError(f"export {folder}: expected an absent or empty folder. Received: one that holds files.")
    if len(golden) == 0 or not usable(golden, missing).all():
        raise ArtifactError(f"export {folder}: expected usable golden frames. Received: shape={golden.shape}.")


def _golden(fitted: Fitted, frames: NDArray[np.float32]) -> dict[str, Any]:
    said = {"frames": frames, **{f"expected_{name}": values for name, values in vars(fitted.infer(frames)).items()}}
    if fitted.prior is None:
        return said
    noise = np.random.default_rng(0).standard_normal((len(frames), len(fitted.code_mean))).astype(np.float32)
    return {**said, "noise": noise, "expected_sampled": fitted.sample(noise)}


def _manifest(fitted: Fitted, facts: Facts) -> Manifest:
    import keras
    import tensorflow as tf

    libraries = {"keras": keras.__version__, "numpy": np.__version__, "tensorflow": tf.__version__}
    return Manifest(
        name=facts.name,
        version=UNPUBLISHED,
        created=facts.created,
        contract=fitted.contract,
        network=fitted.config,
        threshold=facts.threshold,
        formula=fitted.formula,
        codes=fitted.code_format,
        scaling=fitted.scaling,
        training=TrainingRecord(facts.data, facts.frames, fitted.history),
        metrics=facts.metrics,
        files={},
        libraries={**libraries, "python": platform.python_version()},
        batch_frames=facts.batch_frames,
        scope=facts.scope,
        code_use=fitted.code_use,
    )


def _copy(candidate: Path, folder: Path, manifest: Manifest) -> None:
    for path in manifest.files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        _write(folder / path, (candidate / path).read_bytes())


def _claim(temporary: Path, home: Path, manifest: Manifest) -> int:
    while True:
        version = max(versions(home.parent, home.name), default=0) + 1
        _write(temporary / MANIFEST, replace(manifest, version=version).to_json().encode())
        for folder in [temporary, *(path for path in temporary.rglob("*") if path.is_dir())]:
            _sync(folder)
        try:
            os.rename(temporary, home / str(version))
        except OSError as exc:
            # Somebody else published this number in the meantime.
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            _sync(home)
            return version


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
