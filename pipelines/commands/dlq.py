"""``latentstream dlq``."""

from __future__ import annotations

import argparse
from collections import Counter, deque
from typing import Any

from pipelines.commands.addresses import find_kafka
from pipelines.commands.output import as_lines, say, show
from pipelines.dead_letters import DeadLetter
from pipelines.kafka.read_all import read_all
from pipelines.records import OutputRecord
from pipelines.stream_file import load_stream


def list_(args: argparse.Namespace) -> int:
    """Count a stream's dead letters by reason, and show the last ones with their place."""
    stream = load_stream(args.stream)
    counts: Counter[str] = Counter()
    last: deque[dict[str, Any]] = deque(maxlen=args.last)
    for record in read_all(find_kafka(args.bootstrap, stream), stream.outputs.dead_letters):
        letter = DeadLetter.from_record(OutputRecord(record.key, record.value, list(record.headers)))
        counts[letter.code] += 1
        last.append(_describe(letter))
    total = sum(counts.values())
    if args.output == "json":
        show({"topic": stream.outputs.dead_letters, "total": total, "codes": counts, "last": list(last)}, "json")
    elif not total:
        say(f"no dead letters in {stream.outputs.dead_letters}")
    else:
        by_code = [{"code": code, "count": count} for code, count in counts.most_common()]
        say("\n".join([*as_lines(by_code), *(["", *as_lines(list(last))] if last else [])]))
    return 0


def _describe(letter: DeadLetter) -> dict[str, Any]:
    return {
        "record": f"{letter.topic}[{letter.partition}]@{letter.offset}",
        "code": letter.code,
        "bytes": None if letter.value is None else len(letter.value),
        "message": letter.message,
    }
