"""rehead: put a classification head on a pretrained model and fine-tune it, in seconds.

The public names, loaded when first used, so that `import rehead` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rehead.choosing.hyperparameters import search as search
    from rehead.choosing.workflow import compare as compare
    from rehead.classifier import Classifier as Classifier
    from rehead.errors import ArtifactError as ArtifactError
    from rehead.errors import BaseModelError as BaseModelError
    from rehead.errors import DataError as DataError
    from rehead.errors import FetchError as FetchError
    from rehead.errors import RheadError as RheadError
    from rehead.errors import SettingError as SettingError
    from rehead.explanation import explain as explain
    from rehead.inspection import inspect as inspect
    from rehead.instruction.workflow import instruct as instruct
    from rehead.instruction.writer import Writer as Writer
    from rehead.workflow import evaluate as evaluate
    from rehead.workflow import fit as fit

_HOMES = {
    "Classifier": "rehead.classifier",
    "compare": "rehead.choosing.workflow",
    "search": "rehead.choosing.hyperparameters",
    "fit": "rehead.workflow",
    "evaluate": "rehead.workflow",
    "inspect": "rehead.inspection",
    "explain": "rehead.explanation",
    "instruct": "rehead.instruction.workflow",
    "Writer": "rehead.instruction.writer",
    "RheadError": "rehead.errors",
    "ArtifactError": "rehead.errors",
    "BaseModelError": "rehead.errors",
    "DataError": "rehead.errors",
    "FetchError": "rehead.errors",
    "SettingError": "rehead.errors",
}

__all__ = [*_HOMES, "load"]


def load(folder: str) -> "Classifier":
    """Loads a saved classifier; the same as `Classifier.load`."""
    from rehead.classifier import Classifier

    return Classifier.load(folder)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rehead")
    if name not in _HOMES:
        raise AttributeError(f"module 'rehead' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
