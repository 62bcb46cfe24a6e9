"""The command ``latentstream``: reads the arguments, runs one verb, and turns errors into exit codes.

Nothing heavy is imported before the verb is known, so that ``--help`` comes at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import nullcontext

from pipelines.commands.arguments import build_parser
from pipelines.commands.failures import find_cause, one_line
from pipelines.quiet import set_loudness, silenced

EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the entry point of ``latentstream``.

    Returns:
        the exit code; see ae_model.exceptions, and 70 for a fault of the program.
    """
    args = parse(sys.argv[1:] if argv is None else list(argv))
    set_loudness(args.verbose)
    module, _, verb = args.call.partition(":")
    try:
        with nullcontext() if args.verbose else silenced():
            commands = importlib.import_module(f"pipelines.commands.{module}")
        return int(getattr(commands, verb)(args))
    except KeyboardInterrupt as exc:
        # A run that was told twice to stop knows by which signal.
        return 128 + exc.args[0] if exc.args else EXIT_INTERRUPTED
    except Exception as exc:
        return report(exc, verbose=args.verbose)


def parse(argv: list[str]) -> argparse.Namespace:
    """Arguments of the verb; what is left over is Beam's, for the verbs that run Beam."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not args.takes_beam_flags:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.beam_args = tuple(rest)
    return args


def report(exc: BaseException, *, verbose: bool) -> int:
    """Say on stderr what went wrong, and give the exit code."""
    cause = find_cause(exc)
    if verbose:
        traceback.print_exception(exc)
    if cause is not None:
        print(f"error: {one_line(cause)}", file=sys.stderr)
        return cause.exit_code
    where = "above" if verbose else save_traceback(exc)
    print(f"error: internal: {type(exc).__name__}: {one_line(exc)} Traceback: {where}", file=sys.stderr)
    return EXIT_INTERNAL


def save_traceback(exc: BaseException) -> str:
    """Path of a file that keeps the traceback for whoever mends the program."""
    with tempfile.NamedTemporaryFile("w", prefix="latentstream-", suffix=".log", delete=False) as file:
        traceback.print_exception(exc, file=file)
    return file.name


if __name__ == "__main__":
    sys.exit(main())
