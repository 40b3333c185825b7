"""rehead: put a classification head on a pretrained model and fine-tune it, in seconds.

The public names, loaded when first used, so that `import rehead` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rehead.analysis.explanation import explain as explain
    from rehead.analysis.inspection import inspect as inspect
    from rehead.artifact.explanation import Explanation as Explanation
    from rehead.classifier import Classifier as Classifier
    from rehead.comparison.compare import compare as compare
    from rehead.comparison.results import ComparisonResult as ComparisonResult
    from rehead.comparison.search import SearchResult as SearchResult
    from rehead.comparison.search import search as search
    from rehead.data.preparation import DataConfig as DataConfig
    from rehead.evaluation.decisions import DecisionConfig as DecisionConfig
    from rehead.evaluation.evaluation import Evaluation as Evaluation
    from rehead.instruction.instruct import instruct as instruct
    from rehead.instruction.results import InstructionResult as InstructionResult
    from rehead.instruction.writer import Writer as Writer
    from rehead.runtime.errors import ArtifactError as ArtifactError
    from rehead.runtime.errors import BaseModelError as BaseModelError
    from rehead.runtime.errors import DataError as DataError
    from rehead.runtime.errors import FetchError as FetchError
    from rehead.runtime.errors import RheadError as RheadError
    from rehead.runtime.errors import SettingError as SettingError
    from rehead.training.callbacks import Callback as Callback
    from rehead.workflows.evaluate import evaluate as evaluate
    from rehead.workflows.fit import fit as fit
    from rehead.workflows.results import EvaluateResult as EvaluateResult
    from rehead.workflows.results import FitResult as FitResult

_HOMES = {
    "Classifier": "rehead.classifier",
    "Callback": "rehead.training.callbacks",
    "compare": "rehead.comparison.compare",
    "ComparisonResult": "rehead.comparison.results",
    "search": "rehead.comparison.search",
    "SearchResult": "rehead.comparison.search",
    "fit": "rehead.workflows.fit",
    "DataConfig": "rehead.data.preparation",
    "DecisionConfig": "rehead.evaluation.decisions",
    "Evaluation": "rehead.evaluation.evaluation",
    "FitResult": "rehead.workflows.results",
    "EvaluateResult": "rehead.workflows.results",
    "Explanation": "rehead.artifact.explanation",
    "evaluate": "rehead.workflows.evaluate",
    "inspect": "rehead.analysis.inspection",
    "explain": "rehead.analysis.explanation",
    "instruct": "rehead.instruction.instruct",
    "InstructionResult": "rehead.instruction.results",
    "Writer": "rehead.instruction.writer",
    "RheadError": "rehead.runtime.errors",
    "ArtifactError": "rehead.runtime.errors",
    "BaseModelError": "rehead.runtime.errors",
    "DataError": "rehead.runtime.errors",
    "FetchError": "rehead.runtime.errors",
    "SettingError": "rehead.runtime.errors",
}

__all__ = [*_HOMES, "load"]


def load(folder: str) -> "Classifier":
    """Load a saved classifier; the same as `Classifier.load`."""
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


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
