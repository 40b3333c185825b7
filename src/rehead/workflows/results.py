"""Hold what a fit or an evaluation gives. `--json`, rehead.json, the report and the model card are views of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rehead.analysis.label_study import LabelStudy
from rehead.classifier import Classifier
from rehead.data.audit import Finding
from rehead.data.examples import Dropped, Examples
from rehead.data.labels import of_class
from rehead.data.preparation import Columns, DataSplits
from rehead.evaluation import likelihood
from rehead.evaluation.baselines import rivals
from rehead.evaluation.evaluation import CalibrationEffect, Evaluation, Predictions
from rehead.evaluation.metrics import MultilabelMetrics, SingleLabelMetrics, measure
from rehead.evaluation.report import write
from rehead.runtime.errors import SettingError
from rehead.runtime.results import Json, Result, entry
from rehead.training.estimate import Plan
from rehead.training.finetune import TrainedClassifier
from rehead.training.loop import History
from rehead.workflows.cross_validation import Fold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table
    from sklearn.calibration import CalibrationDisplay
    from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay

# Lines that are listed of the rows that were not used, for each reason.
_LISTED_LINES = 100


@dataclass(frozen=True, kw_only=True)
class Rows(Result):
    """Rows of the data: read, used and dropped.

    Attributes:
        read: in all sources.
        used: in all parts.
        train, validation, test: in each part.
        dropped: how many rows were not used, by reason.
        dropped_lines: the first of them, by reason.
    """

    read: int
    used: int
    train: int | None = entry(optional=True)
    validation: int | None = entry(optional=True)
    test: int | None = entry(optional=True)
    dropped: dict[str, int]
    dropped_lines: dict[str, list[int]]

    @classmethod
    def of(cls, read: int, dropped: Dropped, **parts: Examples) -> Rows:
        """Count rows: of how many that were read, those in each part by its name."""
        return cls(
            read=read,
            used=sum(map(len, parts.values())),
            **{name: len(part) for name, part in parts.items()},
            dropped={reason: len(lines) for reason, lines in dropped.items()},
            dropped_lines={reason: lines[:_LISTED_LINES] for reason, lines in dropped.items()},
        )


def rows_of(splits: DataSplits) -> Rows:
    """Return how many rows a fit reads and uses."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return Rows.of(splits.rows_read, splits.dropped, **parts)


@dataclass(frozen=True)
class ClassifierSettings:
    """Settings of a classifier, as rehead.json holds them too.

    Attributes:
        base: the pretrained model.
        tune: how it was trained: `head`, `last-K`, `lora`, `full`, or what `auto` chose.
        depth: layers that were kept; None without a pretrained model.
        cut: the layers below this one were left as they were; None likewise.
        pool: how the states of the tokens become one vector; None likewise.
        labels: the classes, in the order of the probabilities.
        multilabel: whether a text may have several labels.
        max_length: tokens that are read of a text at once.
        long: what is done with longer texts.
        seed: of the split and the training.
        blocks_of_base: layers of the pretrained model.
        baseline_factor: what the logits of the baseline are multiplied by beside the head; 0 where it is not there.
        versions: of the packages that trained it.
    """

    base: str
    tune: str
    depth: int | None
    cut: int | None
    pool: str | None
    labels: list[str]
    multilabel: bool
    max_length: int | None
    long: str | None
    seed: int
    blocks_of_base: int | None
    baseline_factor: float
    versions: dict[str, str]

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> ClassifierSettings:
        """Return those of a classifier by the content of its rehead.json."""
        return cls(**{one.name: description[one.name] for one in fields(cls)})


@dataclass(frozen=True)
class Epochs:
    """The epochs of a training of layers.

    Attributes:
        validation_losses: before the first epoch and after each.
        kept: the epoch whose weights were kept; 0 is what the training started from.
        stopped: why before the last epoch; None if it was not.
        lost_rows: of the batch whose loss or gradient was not a finite number.
    """

    validation_losses: list[float]
    kept: int
    stopped: str | None
    lost_rows: list[int]


@dataclass(frozen=True)
class TriedStrategy:
    """A strategy that was tried.

    Attributes:
        tune: the strategy.
        validation_log_loss: after calibration.
        seconds: that it took.
        trainable: number of weights that were trained.
        kept: whether it became the classifier.
        epochs: of its training; None for the head alone.
    """

    tune: str
    validation_log_loss: float
    seconds: float
    trainable: int
    kept: bool
    epochs: Epochs | None


@dataclass(frozen=True)
class TrainingSummary:
    """The course and the outcome of a training.

    Attributes:
        replaced: what was put in the place of the output layer.
        parameters: number of weights.
        profile: calibrated validation log loss of the probe by pooling and depth; empty where both were set.
        epochs: of the training that was kept; None where the head alone was trained.
        stages: the strategies that were tried, in order.
        refitted: whether what was kept has then learned from the validation examples, too.
        stopped: why no further strategy was tried; None where all that was planned was.
        validation: metrics on the validation examples, which chose the settings, so they flatter.
        flops: floating-point operations of trunk pass and training.
        gflops: billions of them a second in the trunk pass; None where its features were in the cache.
        peak_share: that speed as a share of a plain matrix product's; None likewise.
    """

    replaced: str
    parameters: int
    profile: dict[str, dict[int, float]]
    epochs: Epochs | None
    stages: list[TriedStrategy]
    refitted: bool
    stopped: str | None
    validation: SingleLabelMetrics | MultilabelMetrics
    flops: float
    gflops: float | None
    peak_share: float | None


def summary_of(trained: TrainedClassifier, splits: DataSplits) -> TrainingSummary:
    """Return how a classifier came about, and how it does on the validation examples."""
    probabilities = likelihood.probabilities(trained.validation_logits, splits.validation.multilabel)
    return TrainingSummary(
        replaced=trained.replaced,
        parameters=trained.parameters,
        profile=trained.profile,
        epochs=_epochs(trained.history, splits.train),
        stages=[
            TriedStrategy(
                tune=candidate.tune,
                validation_log_loss=candidate.loss,
                seconds=candidate.seconds,
                trainable=candidate.trainable,
                kept=candidate is trained.kept,
                epochs=_epochs(candidate.history, splits.train),
            )
            for candidate in trained.candidates
        ],
        refitted=trained.refitted,
        stopped=trained.stopped,
        validation=measure(probabilities, splits.validation.labels, splits.train.label_names),
        flops=trained.flops,
        gflops=trained.trunk_speed / 1e9 or None,
        peak_share=trained.trunk_share or None,
    )


def _epochs(history: History | None, train: Examples) -> Epochs | None:
    if history is None:
        return None
    lost = train.lines[history.lost_rows].tolist() if history.lost_rows else []
    return Epochs(history.validation_losses, history.best_epoch, history.stopped, lost)


class MeasuredResult(Result):
    """A result with an evaluation, as people look at it: a line, a table in a terminal, a page in a notebook."""

    settings: ClassifierSettings
    evaluation: Evaluation
    predictions: Predictions

    def report(self, file: str | Path | None = None) -> str:
        """Return the HTML report, and write it where a file is named."""
        from rehead.workflows.report_page import draw_report

        page = draw_report(self, self.predictions)
        if file is not None:
            write(Path(file), page.encode())
        return page

    def plot_confusion_matrix(self, ax: Axes | None = None) -> ConfusionMatrixDisplay:
        """Draw how many test examples of each class were taken for which, as scikit-learn draws it.

        Args:
            ax: where; a new figure if None.

        Raises:
            SettingError: the examples may have several labels.
        """
        from sklearn.metrics import ConfusionMatrixDisplay

        names, predicted = self._of_one_label(), self.predictions.probabilities.argmax(1)
        return ConfusionMatrixDisplay.from_predictions(
            names[self.predictions.test.labels], names[predicted], labels=names, ax=ax, xticks_rotation="vertical"
        )

    def plot_calibration(self, ax: Axes | None = None, n_bins: int = 10) -> CalibrationDisplay:
        """Draw how often predictions are right by their probability; see `plot_confusion_matrix`."""
        from sklearn.calibration import CalibrationDisplay

        self._of_one_label()
        probabilities, labels = self.predictions.probabilities, self.predictions.test.labels
        right = probabilities.argmax(1) == labels
        return CalibrationDisplay.from_predictions(right, probabilities.max(1), n_bins=n_bins, name="rehead", ax=ax)

    def plot_roc_curve(self, label: str, ax: Axes | None = None) -> RocCurveDisplay:
        """Draw the receiver operating characteristic of one class against the rest.

        Args:
            label: name of the class.
            ax: see `plot_confusion_matrix`.

        Raises:
            SettingError: there is no such class.
        """
        from sklearn.metrics import RocCurveDisplay

        names = self.predictions.test.label_names
        if label not in names:
            raise SettingError(f"`label` {label!r} is no class; give one of {', '.join(names[:20])}")
        which = names.index(label)
        is_label = of_class(self.predictions.test.labels, which)
        return RocCurveDisplay.from_predictions(is_label, self.predictions.probabilities[:, which], name=label, ax=ax)

    def _of_one_label(self) -> npt.NDArray[np.str_]:
        """Return the names of the classes, of which each example has one."""
        if self.settings.multilabel:
            raise SettingError("examples with several labels have no such figure; `plot_roc_curve` draws one class")
        return np.array(self.predictions.test.label_names)

    def __repr__(self) -> str:
        test, settings = self.evaluation.test, self.settings
        low, high = test.accuracy_ci
        measured = f"{test.accuracy:.2%} accuracy ({low:.2%} to {high:.2%}), macro F1 {test.macro_f1:.4f}"
        tested = f"{test.n:,} test {self.evaluation.what}"
        # A regression on n-grams has no layers that a strategy could train.
        kind = settings.base if settings.pool is None else f"{settings.base}, {settings.tune}"
        return f"{type(self).__name__}({kind}: {measured} on {tested})"

    def __rich__(self) -> Table:
        from rich.table import Table

        shown = Table("", "accuracy", "macro F1", title=repr(self), title_style="", title_justify="left")
        baselines = self.evaluation.baselines or {}
        names = rivals(baselines, self.settings.base, multilabel=self.settings.multilabel)
        for name, measured in [("rehead", self.evaluation.test), *((names[key], baselines[key]) for key in names)]:
            shown.add_row(name, f"{measured.accuracy:.2%}", f"{measured.macro_f1:.4f}")
        return shown

    def _repr_html_(self) -> str:
        """Return the report with its figures in a frame of its own, whose styles are not the notebook's."""
        return f'<iframe srcdoc="{escape(self.report())}" style="width: 100%; height: 40em; border: 0"></iframe>'


@dataclass(frozen=True, kw_only=True, repr=False)
class FitResult(MeasuredResult):
    """A trained classifier with its training and evaluation.

    Attributes:
        model: the classifier.
        folder: where it was saved; None if nowhere.
        data: what it has learned from.
        truncated: how many texts were too long, by part.
        folds: of the cross-validation that has tested it; None where a part that it has not learned from has.
        calibration: what the temperature has done to the test's probabilities; None after a cross-validation.
        findings: of the audit, the gravest first.
        split: how the examples were divided.
        seconds: by stage, and in all.
        label_study: which labels may be wrong, and what more of them would bring; only with a full report.
        report_file: the HTML report's file, where one was written.
        peak_rss_bytes: the most memory that the process has held.
        predictions: for the test examples, which `report` draws.
    """

    model: Classifier = entry(hidden=True)
    folder: str | None = entry("model")
    settings: ClassifierSettings = entry(merged=True)
    data: str
    rows: Rows
    truncated: dict[str, int]
    training: TrainingSummary = entry(merged=True)
    evaluation: Evaluation = entry(merged=True)
    folds: list[Fold] | None
    calibration: CalibrationEffect | None
    findings: list[Finding]
    split: str
    seconds: dict[str, float]
    label_study: LabelStudy | None = entry(optional=True)
    report_file: str | None = entry("report", optional=True)
    peak_rss_bytes: int
    predictions: Predictions = entry(hidden=True)

    def manifest_entries(self, columns: Columns) -> Json:
        """Return what of it stands in rehead.json."""
        whole = self.to_json()
        decisions = whole["decisions"]
        del decisions["test"]
        return {
            "text_column": columns.text,
            "label_column": columns.label,
            "label_separator": columns.separator,
            "data": self.data,
            "rows": whole["rows"],
            "decisions": decisions,
            "metrics": {key: whole[key] for key in ("validation", "test", "baselines", "comparison", "overlap")},
        }


def split_as_json(splits: DataSplits) -> str:
    """Return which rows were in which part, as JSON."""
    named = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    rows = {name: {"source": part.source, "rows": part.lines.tolist()} for name, part in named.items()}
    return json.dumps({"how": splits.how, **rows})


@dataclass(frozen=True, kw_only=True, repr=False)
class EvaluateResult(MeasuredResult):
    """The evaluation of a saved classifier on labelled data.

    Attributes:
        folder: of the classifier.
        data: what it was measured on.
        truncated: how many texts were too long.
        profile: always empty, since nothing was trained.
        epochs: None likewise.
        validation: metrics on the validation examples, when it was trained; None if they were not saved.
        seconds: by stage, and in all.
        flops: floating-point operations of the trunk pass.
        peak_rss_bytes: the most memory that the process has held.
        report_file: the HTML report's file, where one was written.
        predictions: which `report` draws.
    """

    folder: str = entry("model")
    settings: ClassifierSettings = entry(merged=True)
    data: str
    rows: Rows
    truncated: dict[str, int]
    profile: dict[str, dict[int, float]]
    epochs: None
    validation: dict[str, Any] | None
    evaluation: Evaluation = entry(merged=True)
    seconds: dict[str, float]
    flops: float
    peak_rss_bytes: int
    report_file: str | None = entry("report", optional=True)
    predictions: Predictions = entry(hidden=True)


@dataclass(frozen=True)
class FitPlan(Result):
    """An estimate of what a fit takes.

    Attributes:
        data: what it would learn from.
        base: the pretrained model.
        tune: how it would be trained.
    """

    data: str
    base: str
    tune: str
    rows: Rows
    estimate: Plan = entry(merged=True)
