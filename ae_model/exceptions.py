"""Every error that latentstream raises on purpose.

    LatentstreamError            exit 70
    ├── ConfigError              exit 2   a stream file, flag or argument is wrong
    ├── TrainingError            exit 2   the data cannot train the model asked for
    ├── ConnectError             exit 3   a broker is absent, or a topic or right is missing
    ├── SourceGoneError          exit 4   input offsets or topics that no longer exist
    ├── ArtifactError            exit 5   a model folder is absent, damaged or refused
    ├── DeadLetterBreakerError   exit 6   too large a share of the input is unusable
    ├── SinkError                exit 7   an output could not be written   (retriable)
    └── RecordError              a record becomes a dead letter, the stream goes on
        └── FrameError           its samples are unusable as a frame

A retriable error is raised on, so that the runner repeats the bundle. The others
stop the program at start-up, and on a record they make a dead letter.

Messages read: ``<what> <where>: expected <rule>. Received: <name>=<value>. <next step>``.
"""


class LatentstreamError(Exception):
    """The root of the tree; catch it to catch everything raised on purpose."""

    retriable = False
    exit_code = 70


class ConfigError(LatentstreamError):
    """A stream file, flag or argument breaks a rule."""

    exit_code = 2


class TrainingError(LatentstreamError):
    """The data given cannot train the model asked for."""

    exit_code = 2


class ConnectError(LatentstreamError):
    """A broker cannot be reached, or it denies what was asked."""

    exit_code = 3


class SourceGoneError(LatentstreamError):
    """The input asked for no longer exists."""

    exit_code = 4


class ArtifactError(LatentstreamError):
    """A model folder is absent, damaged, or fails its own checks."""

    exit_code = 5


class DeadLetterBreakerError(LatentstreamError):
    """So much of the input is unusable that going on would hide a fault upstream."""

    exit_code = 6


class SinkError(LatentstreamError):
    """An output could not be written; writing it again may succeed."""

    retriable = True
    exit_code = 7


class RecordError(LatentstreamError):
    """One record cannot be used; ``code`` names the reason in a closed set."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the reason's code beside its message."""
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Pickle with both arguments, which Exception alone would not."""
        return (type(self), (self.code, str(self)))


class FrameError(RecordError):
    """The samples of a record cannot be used as a frame."""
