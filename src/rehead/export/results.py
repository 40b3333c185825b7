"""The result of an export: what was written, and how far it is from the classifier."""

from __future__ import annotations

from dataclasses import dataclass

from rehead.runtime.results import Result, entry


@dataclass(frozen=True)
class Difference:
    """The largest differences of an export from the saved classifier.

    Attributes:
        probability: of a probability.
        logit: of a logit, as a share of the text's largest one, or of 1 if that is less.
    """

    probability: float
    logit: float


@dataclass(frozen=True, kw_only=True)
class ExportComparison:
    """How an export differs from the saved classifier.

    Attributes:
        compared: how many texts or images, in batches.
        alone: how many of them alone, too.
        same: how many of them keep their labels, by the classifier's own rule, in the batch and alone.
        agreement: the share of them that do.
        unexplained: the larger difference among the texts whose logits differ by more than the rounding of their terms.
        speed: how many a second in batches, from text to logits.
    """

    compared: int
    alone: int = entry("compared_alone")
    same: int
    agreement: float
    largest_difference: Difference
    unexplained: float = entry(hidden=True)
    speed: float = entry(hidden=True)


@dataclass(frozen=True)
class Speeds:
    """Texts or images a second.

    Attributes:
        export: by the export.
        rehead: by the saved classifier in rehead, in float32.
    """

    export: float
    rehead: float


@dataclass(frozen=True)
class Accuracies:
    """Shares of the test texts that have the right label.

    Attributes:
        export: by the export.
        rehead: by the saved classifier.
    """

    export: float
    rehead: float


@dataclass(frozen=True, kw_only=True)
class ExportResult(Result):
    """What was written, and how far it is from the classifier.

    Attributes:
        model: the classifier's folder.
        output: the folder that was written.
        format: `onnx`, `transformers`, `peft` or `static`.
        int8: whether matrix products are in 8-bit integers.
        base: the pretrained model that the classifier was made of.
        what: what it classifies, `texts` or `images`.
        data: what it was compared on.
        accuracy: on labelled test texts; only of a static model, which is another classifier.
        bytes: size of the model's files.
        seconds: in all.
    """

    model: str
    output: str
    format: str
    int8: bool
    base: str
    what: str
    data: str
    comparison: ExportComparison = entry(merged=True)
    a_second: Speeds
    accuracy: Accuracies | None = entry(optional=True)
    bytes: int
    seconds: dict[str, float]
