"""What a model folder says of itself: manifest.json, and the schema of its examples."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from ae_model.calibration import Threshold
from ae_model.codes import CodeFormat
from ae_model.config import FrameContract, NetworkConfig, from_mapping
from ae_model.exceptions import ArtifactError, ConfigError
from ae_model.latent import CodeUse
from ae_model.scaling import Scaling
from ae_model.scopes import EVERY_KEY, Scope
from ae_model.score_formula import ScoreFormula

FORMAT = 1
MANIFEST = "manifest.json"
CARD = "README.md"
SAVED_MODEL = "saved_model.pb"
SCHEMA = "schema.pbtxt"
GOLDEN = "assets/golden.npz"
PICTURES = "assets"
# Name of the feature that holds a frame, in tf.Example records.
FEATURE = "frame"
# Version of a folder that was exported and not yet published.
UNPUBLISHED = 0

_ROWS = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s+\]")
_BREAK = re.compile(r",\n\s*")


@dataclass(frozen=True)
class TrainingRecord:
    """What the model was made from.

    Args:
        data: the data, as the person who trained it named them.
        frames: how many frames went to ``training``, ``validation`` and ``calibration``.
        history: per epoch, ``loss`` and ``val_loss``.
    """

    data: str
    frames: dict[str, int]
    history: dict[str, list[float]]


@dataclass(frozen=True)
class FileRecord:
    """One file of the folder as it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """All that can change a score, and where it came from.

    Args:
        format: layout of this file; readers refuse one they do not know.
        name: the model's name.
        version: its version, 1 and up; 0 before it is published.
        created: when, as the caller put it (ISO 8601, UTC).
        contract: what a frame is.
        network: what was trained, and how.
        threshold: the cut-off on the score.
        formula: how errors become the score.
        codes: what a code is on the wire.
        scaling: what the graph does to frames first.
        training: what it was made from.
        metrics: by ``model`` and ``baseline``, numbers on frames that training never saw.
        files: every file of the folder but this one, by path.
        libraries: versions it was written with.
        golden: path of the frames with their expected outputs, checked at each load.
        batch_frames: frames per call that suit it best.
        scope: for which keys it answers; for all, unless the stream asks for a model per key.
        code_use: how much of the code of a variational model carries anything.
    """

    name: str
    version: int
    created: str
    contract: FrameContract
    network: NetworkConfig
    threshold: Threshold
    formula: ScoreFormula
    codes: CodeFormat
    scaling: Scaling
    training: TrainingRecord
    metrics: dict[str, dict[str, float]]
    files: dict[str, FileRecord]
    libraries: dict[str, str]
    golden: str = GOLDEN
    batch_frames: int = 512
    scope: Scope = EVERY_KEY
    code_use: CodeUse | None = None
    format: int = FORMAT

    def to_json(self) -> str:
        """The same text for the same manifest, made to be read by people too.

        Raises:
            ArtifactError: a number in it is not finite.
        """
        mapping = {"format": self.format, **asdict(self)}
        mapping["files"] = {path: mapping["files"][path] for path in sorted(mapping["files"])}
        try:
            return _join_rows(json.dumps(mapping, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"
        except ValueError as exc:
            raise ArtifactError(f"{MANIFEST}: expected finite numbers. Received: {exc}. Check the metrics.") from exc

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what ``to_json`` wrote.

        Raises:
            ArtifactError: it is not JSON, of another format, or a key is missing, unknown or wrong.
        """
        try:
            mapping = json.loads(text)
            _check_format(mapping)
            return cls(**_objects(mapping))
        except (ConfigError, KeyError, TypeError, ValueError) as exc:
            raise ArtifactError(
                f"{MANIFEST}: expected a manifest of format {FORMAT}. Received: {type(exc).__name__}: {exc}. "
                "Export the model again."
            ) from exc


def read(folder: Path) -> Manifest:
    """Read a folder's manifest, and believe it; ``artifact.verify`` checks it against the files.

    Raises:
        ArtifactError: there is none, or it cannot be read.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ArtifactError(
            f"model {folder}: expected a folder with {MANIFEST}. Received: {type(exc).__name__}. "
            "Give models/<name>/<version> as `latentstream train` writes it."
        ) from exc
    return Manifest.from_json(text)


def schema_text(contract: FrameContract) -> str:
    """The TFMD schema of frames as tf.Example records, the same for training and serving.

    Returns:
        A ``tensorflow.metadata.v0.Schema`` in text form: one feature of length * channels floats,
        and a dense tensor (length, channels) made of it.
    """
    length, channels = contract.shape
    return f"""feature {{
  name: "{FEATURE}"
  type: FLOAT
  presence {{ min_fraction: 1.0 }}
  shape {{ dim {{ size: {length * channels} }} }}
}}
tensor_representation_group {{
  key: ""
  value {{
    tensor_representation {{
      key: "{FEATURE}"
      value {{
        dense_tensor {{
          column_name: "{FEATURE}"
          shape {{ dim {{ size: {length} }} dim {{ size: {channels} }} }}
        }}
      }}
    }}
  }}
}}
"""


def _join_rows(text: str) -> str:
    """Put each list of plain values on one line; line breaks inside JSON strings are escaped, so none is touched."""
    return _ROWS.sub(lambda rows: "[" + _BREAK.sub(", ", rows[1]) + "]", text)


def _check_format(mapping: Any) -> None:
    received = mapping.get("format") if isinstance(mapping, dict) else type(mapping).__name__
    if received != FORMAT:
        raise ArtifactError(
            f"{MANIFEST}: expected format {FORMAT}. Received: format={received!r}. "
            "Use the version of latentstream that wrote it, or train again."
        )


def _objects(mapping: dict[str, Any]) -> dict[str, Any]:
    parts = {
        "contract": FrameContract,
        "network": NetworkConfig,
        "threshold": Threshold,
        "formula": ScoreFormula,
        "codes": CodeFormat,
        "scaling": Scaling,
    }
    unknown = set(mapping) - {field.name for field in fields(Manifest)}
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    objects: dict[str, Any] = {key: from_mapping(cls, mapping[key]) for key, cls in parts.items()}
    # Lists stay lists here, as they are in the manifest of a fresh export.
    objects["scope"] = from_mapping(Scope, mapping.get("scope", {}))
    if mapping.get("code_use"):
        objects["code_use"] = from_mapping(CodeUse, mapping["code_use"])
    objects["training"] = TrainingRecord(**mapping["training"])
    objects["files"] = {_inside(path): FileRecord(**record) for path, record in mapping["files"].items()}
    _inside(mapping["golden"])
    return {**mapping, **objects}


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"a path that leaves the folder, {path!r}")
    return path
