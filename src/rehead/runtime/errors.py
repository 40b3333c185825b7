"""What can go wrong, as exceptions. A message is one line: what, where (file, row, field), how to mend it.

Every error that a user can cause is a `RheadError`; the command line prints its message and exits with 2.
Anything else that escapes is a fault of rehead's own.
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
    """Ctrl-C at a moment when something can be said of what was kept; not an error."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that says something, or its class where it says nothing."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return lines[0] if lines else type(error).__name__
