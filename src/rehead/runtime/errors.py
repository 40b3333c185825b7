"""The exceptions. A message is one line: what, where (file, row, field), how to mend it.

    RheadError                what a user can cause: the command line prints its message and exits with 2
    ├─ DataError
    ├─ BaseModelError
    ├─ FetchError
    ├─ ArtifactError
    └─ SettingError
    KeyboardInterrupt
    └─ Interrupted            exit code 130

Anything else that escapes is a fault of rehead's own, with exit code 1.

A message, and a line of progress, names a parameter as Python does and between backticks, with its value where that
matters: `depth`, `tune='head'`. The command line prints the flag instead (`rehead.cli.flags`).
"""


class RheadError(Exception):
    """The class of every error that rehead raises on purpose."""


class DataError(RheadError, ValueError):
    """The labelled examples cannot be read or cannot be learned from."""


class BaseModelError(RheadError):
    """The pretrained model cannot be found, fetched, trusted or cut."""


class FetchError(RheadError):
    """A package could not be fetched, or is not what it should be."""


class ArtifactError(RheadError):
    """A saved classifier cannot be written, read or trusted."""


class SettingError(RheadError, ValueError):
    """An argument has a value that makes no sense here."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C at a moment when it is known what was kept; not an error."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, or its class where there is none."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return lines[0] if lines else type(error).__name__
