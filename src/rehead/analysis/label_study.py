"""Study what labels are worth: which of them are probably wrong, and what more of them would bring.

Both by probes on the features of the backbone as it was pretrained, which are in the cache after a fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rehead.artifact.loading import load_artifact
from rehead.data import tables
from rehead.data.containers import Source
from rehead.data.duplicates import drop_duplicates, near_of, with_near
from rehead.data.examples import Examples, named, require_learnable
from rehead.data.preparation import Columns, DataConfig, read_examples
from rehead.evaluation import learning_curve
from rehead.evaluation.label_noise import rank
from rehead.evaluation.learning_curve import Curve
from rehead.runtime import progress
from rehead.runtime.errors import DataError
from rehead.runtime.results import Result, entry
from rehead.training.frozen_probes import Frozen, frozen_features

# Suspects that are shown.
_SHOWN = 20
# A curve of fewer sizes than this is none.
_LEAST_SIZES = 3


@dataclass(frozen=True)
class RankedLabel:
    """A label, and how probably it is wrong.

    Attributes:
        row: where the example stands in the data.
        label: as it stands there.
        suggested: what it may be instead.
        margin: probability of the label less that of the suggested one, by a probe that has not learned from the
            example: from -1, surely wrong, to 1, surely right.
        suspected: whether another class is as probable as it is on average for examples that have that label.
        text: the example, or the name of the image.
    """

    row: int
    label: str
    suggested: str
    margin: float
    suspected: bool
    text: str


@dataclass(frozen=True)
class LabelErrors:
    """Labels that are probably wrong.

    Attributes:
        examined: how many labels were looked at.
        suspected: how many of them are suspected.
        most_suspicious: the first of them, the most suspicious one first.
    """

    examined: int
    suspected: int
    most_suspicious: list[RankedLabel]

    @classmethod
    def among(cls, ranked: list[RankedLabel]) -> LabelErrors:
        """Return what is shown of all labels of some data."""
        return cls(len(ranked), sum(label.suspected for label in ranked), ranked[:_SHOWN])


@dataclass(frozen=True)
class LabelStudy:
    """A study of the labels that a classifier has learned from; there is no curve where they are too few."""

    errors: LabelErrors
    curve: Curve | None


@dataclass(frozen=True)
class _ByModel(Result):
    """What a saved classifier says of the labels of some data.

    Attributes:
        model: the folder of the classifier.
        data: the source.
    """

    model: str
    data: str


@dataclass(frozen=True)
class ModelLabelErrors(_ByModel):
    """Labels of some data that are probably wrong, by the features of a saved classifier's backbone."""

    errors: LabelErrors = entry(merged=True)


@dataclass(frozen=True)
class ModelCurve(_ByModel):
    """A learning curve of some data, by the features of a saved classifier's backbone."""

    curve: Curve = entry(merged=True)


@dataclass(frozen=True)
class LabelReport(Result):
    """A study of labels by a saved classifier: suspected ones, a learning curve, or both."""

    errors: ModelLabelErrors | None = entry(merged=True)
    learning_curve: ModelCurve | None = entry(optional=True)


def label_errors(
    folder: str | Path, sources: DataConfig | Source, output: str | Path | None = None
) -> ModelLabelErrors:
    """Rank the labels of data by how probably they are wrong.

    Args:
        folder: a saved classifier: its base, depth and pooling are used, but none of the weights that were trained,
            which may have learned the wrong labels by heart.
        sources: `data` and the columns are used.
        output: a file that all rows are written to, the most suspicious first.

    Raises:
        RheadError: a child of it, for whatever the user can mend.
    """
    if output is not None:
        tables.require_writable(Path(output))
    examples, frozen, seed = _of_model(folder, sources)
    labels = ranked(examples, frozen, seed)
    if output is not None:
        tables.write(Path(output), [asdict(label) for label in labels])
        progress.say(f"{len(labels):,} rows, the most suspicious first, written to {output}")
    return ModelLabelErrors(str(Path(folder).resolve()), examples.source, LabelErrors.among(labels))


def ranked(examples: Examples, frozen: Frozen, seed: int) -> list[RankedLabel]:
    """Return all labels of the examples, the most suspicious one first."""
    ranking = rank(frozen.out_of_fold(seed, near_of(examples)), examples.labels)
    return [
        RankedLabel(
            row=int(examples.lines[i]),
            label=examples.named(i),
            suggested=named(ranking.suggested[i], examples.label_names),
            margin=round(float(ranking.margin[i]), 4),
            suspected=bool(ranking.is_suspected[i]),
            text=examples.texts[i],
        )
        for i in ranking.order.tolist()
    ]


def study_training(train: Examples, validation: Examples, description: Mapping[str, Any]) -> LabelStudy:
    """Study the labels that a classifier has learned from.

    Args:
        train, validation: the examples.
        description: the classifier's: `base`, `depth`, `pool`, `max_length`, `long`, `seed`.
    """
    examples, seed = train.followed_by(validation), description["seed"]
    frozen = frozen_features(examples, description)
    try:
        drawn = curve(frozen, seed)
    except DataError:
        drawn = None
    return LabelStudy(LabelErrors.among(ranked(examples, frozen, seed)), drawn)


def curve_of_model(folder: str | Path, sources: DataConfig | Source) -> ModelCurve:
    """Return what more labels would bring; arguments and errors as for `label_errors`."""
    examples, frozen, seed = _of_model(folder, sources)
    return ModelCurve(str(Path(folder).resolve()), examples.source, curve(frozen, seed))


def curve(frozen: Frozen, seed: int) -> Curve:
    """Return the learning curve of probes.

    Raises:
        DataError: there are too few examples for one.
    """
    sizes, errors = frozen.errors_by_size(seed)
    if len(sizes) < _LEAST_SIZES:
        raise DataError(f"{len(frozen.labels):,} examples are too few for a learning curve; give 256 or more")
    return learning_curve.fit_curve(sizes, errors, len(frozen.labels))


def _of_model(folder: str | Path, sources: DataConfig | Source) -> tuple[Examples, Frozen, int]:
    sources = DataConfig.of(sources)
    description = load_artifact(Path(folder)).manifest.to_json()
    columns = Columns.of(description)
    examples, _, _, _ = read_examples(sources.data, sources, tuple(description["labels"]), columns)
    (unique,) = with_near(drop_duplicates(examples)[0])
    # A class with one example is suspected whole: no fold that is tested on it has learned it.
    require_learnable(unique, least=1)
    return unique, frozen_features(unique, description), description["seed"]
