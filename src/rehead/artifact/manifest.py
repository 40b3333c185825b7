"""rehead.json, which tells what a saved classifier is: read, and checked before anything relies on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rehead.models.config_checks import read_json
from rehead.models.heads import POOLINGS
from rehead.models.registry import TFIDF
from rehead.models.tokenization import LONG
from rehead.runtime.errors import ArtifactError, first_line

FORMAT = 1
DESCRIPTION = "rehead.json"

# What folders do not say that are from before long texts could be anything but cut off, texts have several labels,
# images several views, the means that encoders give the same length, and a baseline beside the head.
_BEFORE = {
    "long": "truncate",
    "multilabel": False,
    "views": 1,
    "average_views": False,
    "means_at_one_length": False,
    "baseline_factor": 0.0,
}
_RECIPE = {"preset", "ngrams", "epochs", "batch_size", "learning_rate", "label_smoothing", "class_weight"}


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _labels(value: Any) -> bool:
    texts = isinstance(value, list) and bool(value) and all(isinstance(label, str) for label in value)
    return texts and len(set(value)) == len(value)


def _recipe(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= _RECIPE


# Most are read back into the constructor of `Classifier`, which checks more.
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "base": _text,
    "tune": _text,
    "pool": lambda value: value in POOLINGS,
    "depth": _whole(1, 10_000),
    "cut": _whole(0, 10_000),
    "blocks_of_base": _whole(1, 10_000),
    "max_length": _whole(1, 10_000_000),
    "long": lambda value: value in LONG,
    "labels": _labels,
    "label_type": lambda value: value in tuple("biufUSO"),
    "multilabel": _flag,
    "views": _whole(1, 1_000),
    "average_views": _flag,
    "means_at_one_length": _flag,
    "baseline_factor": lambda value: _number(value) and 0 <= value <= 1000,  # 5 at most is fitted; 1e38 overflows
    "temperature": lambda value: _number(value) and 0 < value < float("inf"),
    "seed": _whole(0, 2**64),
    "recipe": _recipe,
    "validation_log_loss": _number,
    "versions": lambda value: isinstance(value, dict),
    "weights_sha256": lambda value: _text(value) and len(value) == 64,
    "decisions": lambda value: value is None or isinstance(value, dict),
    "metrics": lambda value: value is None or isinstance(value, dict),
}
_OPTIONAL = {"decisions", "metrics"}
# None in a classifier that has no network.
_OF_NETWORKS = {"pool", "depth", "cut", "blocks_of_base", "max_length", "long", "views"}


def read(folder: Path) -> dict[str, Any]:
    """The description of a saved classifier.

    Raises:
        ArtifactError: there is none, or it is damaged, of another format, or of something else than a classifier.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        what = "no such folder" if not folder.exists() else f"no {DESCRIPTION} in it, so it is not a rehead model"
        raise ArtifactError(f"{folder}: {what}; give a folder that rehead fit -o has written")
    try:
        told = read_json(path)
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path} is damaged ({first_line(error)}); train or copy the model again") from error
    if not isinstance(told, dict):
        raise ArtifactError(f"{path} is damaged (no JSON object); train or copy the model again")
    if "kind" in told:
        raise ArtifactError(f"{folder} is a {str(told['kind'])[:40]}, not a classifier; use rehead generate")
    if told.get("format") != FORMAT:
        version = str(told.get("format"))[:40]
        raise ArtifactError(f"{path} has format {version}, this rehead reads {FORMAT}; update rehead or train again")
    description = {**_BEFORE, **told}
    has_network = description.get("base") != TFIDF
    for name, holds in _CHECKS.items():
        value = description.get(name)
        is_right = holds(value) if has_network or name not in _OF_NETWORKS else value is None
        if (name not in description and name not in _OPTIONAL) or not is_right:
            raise ArtifactError(f"{path}: {name!r} is missing or makes no sense; train or copy the model again")
    return description
