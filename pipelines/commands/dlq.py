"""``latentstream dlq``."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from ae_model.config import hint
from ae_model.exceptions import ConfigError
from pipelines.commands.addresses import find_kafka
from pipelines.commands.output import as_lines, say, show
from pipelines.dead_letters import CODES, DeadLetter
from pipelines.dlq import read_letters, replay_letters
from pipelines.frames_out import whole_file
from pipelines.kafka.offsets import parse_time
from pipelines.kafka.sink import close_sinks
from pipelines.stream_file import load_stream

# A person sees this much of a value; --out has all of it.
SHOWN_BYTES = 64


def list_(args: argparse.Namespace) -> int:
    """Count a stream's dead letters by reason, and show the last ones with their place."""
    stream = load_stream(args.stream)
    topic = stream.outputs.dead_letters
    found = read_letters(find_kafka(args.bootstrap, stream), topic)
    letters = list(found.letters.values())
    counts = Counter(letter.code for letter in letters)
    last = [_describe(letter) for letter in letters[len(letters) - min(args.last, len(letters)) :]]
    if args.output == "json":
        totals = {"topic": topic, "total": len(letters), "replayed": len(found.replayed), "foreign": found.foreign}
        show({**totals, "codes": counts, "last": last}, "json")
    elif not letters:
        say(f"no dead letters in {topic}")
    else:
        by_code = [{"code": code, "count": count} for code, count in counts.most_common()]
        say("\n".join([*as_lines(by_code), *(["", *as_lines(last)] if last else [])]))
    return 0


def show_(args: argparse.Namespace) -> int:
    """Show one dead letter with its record's key, value and headers."""
    stream = load_stream(args.stream)
    found = read_letters(find_kafka(args.bootstrap, stream), stream.outputs.dead_letters)
    place = f"{stream.input.topic}[{args.place.replace('@', ']@')}"
    letter = found.letters.get(place)
    if letter is None:
        raise ConfigError(
            f"dead letter: expected PARTITION@OFFSET of one in {stream.outputs.dead_letters}, as `latentstream dlq "
            f"list` shows them. Received: {args.place}."
        )
    if args.out:
        with whole_file(Path(args.out)) as temporary:
            temporary.write_bytes(letter.value or b"")
    show({**_describe_whole(letter), "replayed": place in found.replayed}, args.output)
    return 0


def replay(args: argparse.Namespace) -> int:
    """Send dead letters to the input once more, and count what became of them."""
    if args.code not in (None, *CODES):
        near = hint(args.code, set(CODES))
        raise ConfigError(f"--code: expected one of {', '.join(sorted(CODES))}. Received: --code={args.code}.{near}")
    stream = load_stream(args.stream)
    since_ms = None if args.since is None else parse_time(args.since)
    kafka = find_kafka(args.bootstrap, stream)
    try:
        show(replay_letters(stream, kafka, code=args.code, since_ms=since_ms, dry_run=args.dry_run), args.output)
    finally:
        close_sinks()
    return 0


def _describe(letter: DeadLetter) -> dict[str, Any]:
    return {
        "record": letter.place,
        "code": letter.code,
        "bytes": None if letter.value is None else len(letter.value),
        "message": letter.message,
    }


def _describe_whole(letter: DeadLetter) -> dict[str, Any]:
    return {
        **_describe(letter),
        "stage": letter.stage,
        "stream": letter.pipeline,
        "timestamp": letter.timestamp,
        "attempt": letter.attempt,
        "key": _text(letter.key),
        "value": "in the input topic" if letter.by_reference else _text(letter.value),
        "headers": {name: _text(value) for name, value in letter.headers},
    }


def _text(value: bytes | None) -> str | None:
    """Bytes as a person can read them: text where they are, else hexadecimal; cut."""
    if value is None:
        return None
    cut = "..." if len(value) > SHOWN_BYTES else ""
    try:
        text = value[:SHOWN_BYTES].decode()
    except UnicodeDecodeError:
        text = ""
    return (text if text.isprintable() and text else value[:SHOWN_BYTES].hex()) + cut
