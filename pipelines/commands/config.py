"""``latentstream config``."""

from __future__ import annotations

import argparse
import json

import yaml

from pipelines.commands.output import say, show
from pipelines.stream_file import StreamFile, load_stream


def check(args: argparse.Namespace) -> int:
    """Show a stream file as it is understood, defaults filled in."""
    plain = load_stream(args.stream).model_dump(mode="json")
    if args.output == "json":
        show(plain, "json")
    else:
        say(yaml.safe_dump(plain, sort_keys=False, width=100).rstrip())
    return 0


def schema(args: argparse.Namespace) -> int:
    """Print the JSON schema, for editors; JSON in either form of output."""
    say(json.dumps(StreamFile.model_json_schema(), indent=None if args.output == "json" else 2))
    return 0
