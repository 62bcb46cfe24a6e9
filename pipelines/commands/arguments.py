"""Every verb and its arguments; argparse alone, so that ``--help`` needs nothing else."""

from __future__ import annotations

import argparse
from typing import Any

_Verbs = Any  # argparse's own type for a set of sub-commands is private

STREAM = "name of a ready stream, or path of a stream file (YAML)"
DATA = "FILE.npz::ARRAY, FOLDER::ARRAY for every NPZ in it, a Parquet, CSV or WAV file, or a folder of them"
BEAM = "Further flags are Beam's own, written --flag=value: --runner=FlinkRunner --parallelism=2 ..."


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        # Looked up only when asked for: it reads the installed package's files.
        from importlib.metadata import version

        print(f"latentstream {version('latentstream')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="latentstream",
        description="One trained autoencoder, three trusted outputs from Kafka frames: a clean signal, a decodable "
        "code, an explained alert.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for add in (_add_train, _add_run, _add_stop, _add_score, _add_decode, _add_evaluate, _add_sample, _add_models):
        add(verbs)
    for add in (
        _add_topics,
        _add_replay,
        _add_record,
        _add_dlq,
        _add_verify,
        _add_bench,
        _add_doctor,
        _add_config,
        _add_services,
    ):
        add(verbs)
    return parser


def _verb(verbs: _Verbs, name: str, call: str, help: str, *, beam: bool = False) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=help, description=help[0].upper() + help[1:] + ".", epilog=BEAM if beam else None, allow_abbrev=False
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the result")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the libraries log")
    parser.set_defaults(call=call, takes_beam_flags=beam)
    return parser


def _group(verbs: _Verbs, name: str, help: str) -> _Verbs:
    parser = verbs.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
    return parser.add_subparsers(metavar="VERB", required=True)


def _add_models_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", default="models", metavar="DIR", help="folder of models (default: models)")


def _add_model_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model-cache-mib",
        type=_positive,
        default=1024,
        metavar="N",
        help="memory for loaded models in a worker; more are loaded when they are needed (default: 1024)",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1. Received: {text}.")
    return value


def _add_bootstrap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bootstrap",
        metavar="HOST:PORT",
        help="Kafka brokers (default: the stream file's, else those of `services up`)",
    )


def _add_runner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runner", default="FnApiRunner", help="Beam's name of the engine (default: FnApiRunner)")


def _add_train(verbs: _Verbs) -> None:
    parser = _verb(verbs, "train", "train:train", "train a stream's model on recordings and publish it", beam=True)
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    parser.add_argument("--data", required=True, metavar="PATH", help=DATA)
    parser.add_argument("--tensorboard", metavar="DIR", help="folder for losses per epoch, as TensorBoard reads them")
    _add_models_folder(parser)
    _add_runner(parser)


def _add_run(verbs: _Verbs) -> None:
    parser = _verb(verbs, "run", "run:run", "run a stream from Kafka to its outputs", beam=True)
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    parser.add_argument("--until", metavar="WHEN", help='stop at latest, an ISO time, or offsets such as {"0": 120}')
    parser.add_argument("--start", metavar="WHEN", help="start at earliest, latest, an ISO time or offsets")
    parser.add_argument(
        "--from", dest="savepoint", metavar="PATH", help="go on at a savepoint or checkpoint of Flink's"
    )
    parser.add_argument("--model-version", type=int, metavar="N", help="of the model (default: the promoted one)")
    parser.add_argument("--parquet", metavar="DIR", help="folder of Parquet tables (default: the stream file's)")
    parser.add_argument("--no-panel", action="store_true", help="show no figures while it runs")
    _add_models_folder(parser)
    _add_model_cache(parser)
    _add_bootstrap(parser)
    _add_runner(parser)


def _add_stop(verbs: _Verbs) -> None:
    parser = _verb(verbs, "stop", "stop:stop", "end a stream's job on Flink")
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    parser.add_argument("--savepoint", action="store_true", help="keep its state, for `run --from`")
    parser.add_argument(
        "--flink-master", metavar="HOST:PORT", help="REST interface of Flink (default: that of `services up flink`)"
    )


def _add_score(verbs: _Verbs) -> None:
    parser = _verb(verbs, "score", "score:score", "score recordings into Parquet tables", beam=True)
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    parser.add_argument("--data", required=True, metavar="PATH", help=DATA)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    _add_models_folder(parser)
    _add_model_cache(parser)
    _add_runner(parser)


def _add_decode(verbs: _Verbs) -> None:
    parser = _verb(verbs, "decode", "decode:decode", "turn codes back into frames")
    parser.add_argument(
        "stream", metavar="STREAM", nargs="?", help=STREAM + "; its codes, unless one of these is given"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--topic", metavar="T", help="topic of codes")
    source.add_argument("--parquet", metavar="DIR", help="folder of Parquet tables that holds codes")
    parser.add_argument("--out", required=True, metavar="FILE", help="what to write: .npz, .parquet or .wav")
    _add_models_folder(parser)
    _add_bootstrap(parser)


def _add_sample(verbs: _Verbs) -> None:
    parser = _verb(verbs, "sample", "sample:sample", "draw new frames from a stream's variational model")
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    parser.add_argument("--count", type=int, default=64, metavar="N", help="how many frames (default: 64)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="what they follow from (default: 0)")
    parser.add_argument("--out", required=True, metavar="FILE", help="what to write: .npz, .parquet, .wav or .png")
    parser.add_argument("--model-version", type=int, metavar="N", help="of the model (default: the promoted one)")
    _add_models_folder(parser)


def _add_evaluate(verbs: _Verbs) -> None:
    parser = _verb(verbs, "evaluate", "evaluate:evaluate", "measure a model on recordings that training did not see")
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="PATH", help=DATA)
    source.add_argument("--scores", metavar="DIR", help="what `score` or `run` wrote of one recording, for its alerts")
    parser.add_argument(
        "--labels",
        metavar="PATH",
        help="0 or 1 for each row, or a class for each frame; named as data, or PATH::COLUMN of CSV or Parquet",
    )
    parser.add_argument("--reference", metavar="PATH", help="the clean signal of noisy data; named as data")
    parser.add_argument("--out", metavar="DIR", help="folder for report.json, report.md and pictures")
    _add_models_folder(parser)


def _add_models(verbs: _Verbs) -> None:
    group = _group(verbs, "models", "look at models and choose the version to serve")
    for name, help in {
        "list": "list models and their versions",
        "show": "show what a version was trained on and what it reaches",
        "promote": "make a version the one to serve",
        "rollback": "serve the version before the present one",
        "verify": "check a version as it is checked when loaded",
    }.items():
        parser = _verb(group, name, "model_check:verify" if name == "verify" else f"models:{name}_", help)
        _add_models_folder(parser)
        if name != "list":
            parser.add_argument("name", metavar="NAME", help="the stream's name")
        if name == "promote":
            parser.add_argument("version", type=int, metavar="VERSION", help="its number")
        elif name in ("show", "verify"):
            parser.add_argument("version", type=int, nargs="?", metavar="VERSION", help="default: the promoted one")


def _add_topics(verbs: _Verbs) -> None:
    group = _group(verbs, "topics", "the topics of a stream")
    for name, help in {"create": "create those that are not there", "check": "check that all are there"}.items():
        parser = _verb(group, name, f"topics:{name}", help)
        parser.add_argument("stream", metavar="STREAM", help=STREAM)
        _add_bootstrap(parser)


def _add_replay(verbs: _Verbs) -> None:
    parser = _verb(verbs, "replay", "replay:replay_", "send recordings to a topic as their devices would have")
    parser.add_argument("data", metavar="PATH", help=DATA)
    parser.add_argument("--topic", metavar="T", help="where to (default: the stream's input)")
    parser.add_argument("--stream", metavar="STREAM", help=STREAM + " (default: the ready stream that reads the topic)")
    parser.add_argument("--rate", type=float, metavar="R", help="records per second (default: as fast as possible)")
    parser.add_argument("--key", metavar="K", help="of every record (default: the name of each file)")
    parser.add_argument("--start-ms", type=int, metavar="MS", help="event time of the first sample (default: ends now)")
    parser.add_argument(
        "--bad-share", type=float, default=0.0, metavar="S", help="bad records to mix in, per real one (default: 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bad records (default: 0)")
    _add_bootstrap(parser)


def _add_record(verbs: _Verbs) -> None:
    parser = _verb(verbs, "record", "record:record", "write a topic's frames as recordings, to train on")
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make, a file per key; for --data")
    parser.add_argument("--start", default="earliest", metavar="WHEN", help="earliest, an ISO time or offsets")
    parser.add_argument("--until", default="latest", metavar="WHEN", help="latest, an ISO time or offsets")
    _add_bootstrap(parser)


def _add_dlq(verbs: _Verbs) -> None:
    group = _group(verbs, "dlq", "the dead letters of a stream")
    parser = _verb(group, "list", "dlq:list_", "count dead letters by reason and show the last ones")
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    parser.add_argument("--last", type=int, default=10, metavar="N", help="how many to show (default: 10)")
    _add_bootstrap(parser)
    parser = _verb(group, "show", "dlq:show_", "show one dead letter whole")
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    parser.add_argument("place", metavar="PARTITION@OFFSET", help="of its record in the input, as `dlq list` shows it")
    parser.add_argument("--out", metavar="FILE", help="write the record's value there, byte for byte")
    _add_bootstrap(parser)
    parser = _verb(group, "replay", "dlq:replay", "send dead letters to the input once more, each three times at most")
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    parser.add_argument("--code", metavar="CODE", help="only those of this reason, such as frame.size")
    parser.add_argument("--since", metavar="TIME", help="only records of this time or later, such as 2026-01-31T12:00Z")
    parser.add_argument("--dry-run", action="store_true", help="count them and send nothing")
    _add_bootstrap(parser)


def _add_verify(verbs: _Verbs) -> None:
    parser = _verb(verbs, "verify", "verify:verify", "prove that no offset is missing or there twice")
    parser.add_argument("target", metavar="DIR|STREAM", help="folder of Parquet tables, or a stream's topics")
    parser.add_argument("--stream", metavar="STREAM", help="compare the folder with this stream's topics")
    _add_bootstrap(parser)


def _add_bench(verbs: _Verbs) -> None:
    group = _group(verbs, "bench", "measure this machine")
    parser = _verb(group, "stream", "bench:stream", "compare the stream's speed with that of the bare model")
    parser.add_argument("--frames", type=int, metavar="N", help="of 1 KiB each (default: 2000000; 200000 if quick)")
    parser.add_argument("--rounds", type=int, metavar="N", help="of both legs (default: 5; 3 if quick)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames: a minute on a quiet machine")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="Kafka brokers (default: one started for this)")


def _add_doctor(verbs: _Verbs) -> None:
    _verb(verbs, "doctor", "doctor:doctor", "check what this installation needs")


def _add_config(verbs: _Verbs) -> None:
    group = _group(verbs, "config", "stream files")
    parser = _verb(group, "check", "config:check", "check a stream file and show it with its defaults")
    parser.add_argument("stream", metavar="STREAM", help=STREAM)
    _verb(group, "schema", "config:schema", "print the JSON schema of a stream file")


def _add_services(verbs: _Verbs) -> None:
    group = _group(verbs, "services", "Kafka and Flink on this machine")
    for name, help in {"up": "start it", "down": "stop it", "status": "say whether it runs, and where"}.items():
        parser = _verb(group, name, f"services:{name}", help)
        parser.add_argument("service", nargs="?", choices=("kafka", "flink"), default="kafka", help="default: kafka")
        parser.add_argument("--folder", metavar="DIR", help="of its data, settings and log (default: one per user)")
        if name == "up":
            parser.add_argument("--port", type=int, help="0 for any free one (default: Kafka 9092, Flink's page 8081)")
            parser.add_argument("--slots", type=_positive, metavar="N", help="subtasks of Flink (default: the cores)")
