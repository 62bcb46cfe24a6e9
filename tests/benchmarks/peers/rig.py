"""A broker on one core and its topics, the models, and each leg as a process on another core."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cases import MODELS, SHAPES, Case
from environments import find_python

from infra.local import kafka
from pipelines.bench import PARTITIONS, fill_topic, publish_bench_model
from pipelines.kafka.client import KafkaSettings
from pipelines.kafka.offsets import create_topics
from pipelines.stream_file import load_stream

LEGS = Path(__file__).parent / "legs"


@dataclass(frozen=True)
class Place:
    """Where all legs work.

    Args:
        folder: of models and stream files.
        bootstrap: the broker.
        frames: by topic.
    """

    folder: Path
    bootstrap: str
    frames: Mapping[str, int]


@contextmanager
def prepared(cases: Sequence[Case], topics: Mapping[str, tuple[int, int]]) -> Iterator[Place]:
    """A broker with all topics filled and all models trained, as long as the block; nothing is left behind."""
    used = {case.topic: topics[case.topic] for case in cases}
    with tempfile.TemporaryDirectory(prefix="latentstream-peers-") as temporary:
        folder = Path(temporary)
        with on_core(_cores()[-1]):
            broker = kafka.start(folder / "kafka")
        try:
            place = Place(folder, broker.bootstrap, {name: frames for name, (frames, _) in used.items()})
            for case in cases:
                prepare(case, place)
            for name, (frames, poison) in used.items():
                fill_topic(_topic(name), KafkaSettings(place.bootstrap), frames, poison)
            yield place
        finally:
            kafka.stop(folder / "kafka")


def prepare(case: Case, place: Place) -> None:
    """The case's stream file, its topics, and its model, unless another case trained it."""
    path = _stream_path(case, place)
    path.write_text(yaml.safe_dump(describe(case, place)), encoding="utf-8")
    stream = load_stream(str(path))
    topics = [stream.input.topic, *stream.outputs.topics, "bench.out"]
    create_topics(KafkaSettings(place.bootstrap), dict.fromkeys(topics, PARTITIONS))
    models = place.folder / case.model
    if not (models / stream.name).is_dir():
        models.mkdir(exist_ok=True)
        publish_bench_model(stream, models)


def describe(case: Case, place: Place) -> dict[str, Any]:
    """The stream file: codes and nothing else, unless the case says so."""
    length, channels = SHAPES[case.model]
    document: dict[str, Any] = {
        "name": "bench",
        "input": {"topic": _topic(case.topic), "channels": channels, "partitions": PARTITIONS},
        "frame": {"length": length},
        "model": MODELS[case.model],
        "outputs": {"denoised": None, "alerts": None, **case.outputs},
        "kafka": {"bootstrap": place.bootstrap},
    }
    if case.parquet:
        document["outputs"]["parquet"] = str(place.folder / "parquet")
    return document


class Leg:
    """A case as a process, which makes a pass whenever it is asked to."""

    def __init__(self, case: Case, place: Place) -> None:
        """Start it on the first core, and wait until its model is loaded."""
        frames = place.frames[case.topic]
        given = {
            "bootstrap": place.bootstrap,
            "topic": _topic(case.topic),
            "out": "bench.out",
            "models": str(place.folder / case.model),
            "stream": str(_stream_path(case, place)),
            "frames": frames,
            "partitions": PARTITIONS,
            "shape": SHAPES[case.model],
            "batch": read_batch(place.folder / case.model),
        }
        self._log = (place.folder / f"{case.script}-{case.topic}.log").open("a")
        with on_core(_cores()[0]):
            self._process = subprocess.Popen(
                [str(find_python(case.environment)), str(LEGS / f"{case.script}.py"), json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0"},
            )
        # The batch was measured at export, and differs from run to run.
        self.versions: dict[str, str] = {**self._read()["versions"], "batch": str(given["batch"])}

    def run(self) -> dict[str, float]:
        """One pass: frames, wall_s and cpu_s."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a leg ended: {Path(self._log.name).read_text(encoding='utf-8')[-20000:]}")
        return dict(json.loads(line))


@contextmanager
def started(cases: Sequence[Case], place: Place) -> Iterator[dict[str, Leg]]:
    """All legs, one started after the other."""
    with ExitStack() as stack:
        legs = {}
        for case in cases:
            legs[case.name] = Leg(case, place)
            stack.callback(legs[case.name].close)
        yield legs


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started in the block stays on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def read_batch(models: Path) -> int:
    """The batch size that was measured at export."""
    found = json.loads((models / "bench" / "1" / "manifest.json").read_text(encoding="utf-8"))
    return int(found["batch_frames"])


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def _topic(name: str) -> str:
    return f"bench.{name}.frames.v1"


def _stream_path(case: Case, place: Place) -> Path:
    words = [case.model, case.topic, *map(str, case.outputs.values()), *(["parquet"] if case.parquet else [])]
    return place.folder / f"{'-'.join(words)}.yaml"
