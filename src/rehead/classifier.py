"""Be a scikit-learn estimator around backbone and head."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from rehead.artifact.artifact import Artifact, NetworkArtifact, NgramArtifact, Reference
from rehead.artifact.loading import load_artifact
from rehead.artifact.manifest import Manifest
from rehead.artifact.saving import Sidecar, save_artifact
from rehead.data.columns import SURROGATE
from rehead.data.duplicates import drop_duplicates, fingerprints
from rehead.data.examples import Dropped, Examples, require_learnable, without_empty
from rehead.data.images import ImageInput, as_image_input, require_usable
from rehead.data.labels import classes_among, restored, strata
from rehead.data.splits import stratified
from rehead.evaluation import baselines, likelihood
from rehead.evaluation.baselines import Baselines
from rehead.models.registry import AUTO, TFIDF
from rehead.models.tokenization import LONG
from rehead.runtime.errors import DataError, SettingError
from rehead.training import ngrams_alone
from rehead.training.backbone_choice import choose_backbone
from rehead.training.checkpoint import Resumption
from rehead.training.config import AND, BUDGETS, PRESETS, TrainingConfig
from rehead.training.encoding import EncodedData, encode
from rehead.training.finetune import Limits, TrainedClassifier, TrainedNetwork, finetune
from rehead.training.ngrams_alone import NgramData, TrainedNgrams

# How many texts' scores are compared after saving.
_VERIFIED_TEXTS = 8
# The share of the examples of `fit` that is held out to choose regularisation, depth and epoch: 10 of 80 parts.
_VALIDATION_SHARE = 0.125


class _Constraint(NamedTuple):
    """What a parameter may be, as a check and in words."""

    holds: Callable[[Any], bool]
    words: str

    def or_none(self) -> _Constraint:
        return _Constraint(lambda value: value is None or self.holds(value), self.words)


def _whole(least: int) -> _Constraint:
    return _Constraint(
        lambda value: isinstance(value, Integral) and int(value) >= least, f"a whole number from {least}"
    )


def _positive(words: str) -> _Constraint:
    return _Constraint(lambda value: isinstance(value, Real) and float(value) > 0, words)


def _one_of(values: tuple[str, ...]) -> _Constraint:
    return _Constraint(lambda value: value in values, f"one of {', '.join(values)}")


# Of the parameters of `Classifier`. What `tune`, `depth` and `pool` may be depends on the backbone and on each other,
# and is checked where it is known.
_CONSTRAINTS = {
    "max_length": _whole(1),
    "epochs": _whole(1).or_none(),
    "batch_size": _whole(1).or_none(),
    "views": _whole(1).or_none(),
    "random_state": _whole(0),
    "learning_rate": _positive("above 0").or_none(),
    "label_smoothing": _Constraint(
        lambda value: isinstance(value, Real) and 0 <= float(value) < 1, "from 0 to below 1"
    ),
    "long": _one_of(LONG),
    "class_weight": _Constraint(lambda value: value in (None, "balanced"), "balanced or None"),
    "budget": _positive("a number of seconds above 0").or_none(),
    "preset": _one_of(PRESETS),
}


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A pretrained model with a classification head in the place of its output layer.

    Args:
        base: a name of the catalogue (`rehead bases`), a Transformers folder, a GGUF file or a hub name; "auto" chooses
            by the language of the texts, a few hundred of the examples, and the budget; "tfidf" takes word and
            character n-grams alone, without a pretrained model, and no setting of one.
        tune: `head` trains the head alone; `last-K` also the last K layers and the final norm; `lora` low-rank
            adapters in all layers; `full` everything; `auto` tries what the preset says and keeps what is best on
            validation after calibration.
        preset: what `auto` tries. `quick`: the head alone, in seconds. `balanced`: the last layers, too. `best`: also
            all weights, with an hour instead of ten minutes.
        ngrams: whether word and character n-grams (of images colours and edges) may stand beside the head where
            validation says that they help. False keeps the saved folder a plain Transformers model where the head is.
        depth: how many of the base's layers to keep; "auto" measures it.
        pool: `last` (decoders), `cls` (encoders), `mean`, `both`, `layers` (of several layers), or "auto", which
            measures them.
        views: of each training image, how many are learned from: as it is, mirrored, and changed at random. None for
            one, or with `tune="auto"`, unless the preset is `quick`, four that are averaged, where there is time.
        average_views: whether as many are averaged in prediction, too.
        max_length: a text with more tokens is long.
        long: `truncate` uses the beginning of a long text, `head-tail` its beginning and its end, `chunks` all of it in
            windows of `max_length` tokens whose features are averaged (with `tune="head"` or "auto").
        epochs, batch_size, learning_rate: of the layers' training; None for what suits the strategy. Without effect
            with `tune="head"`.
        label_smoothing: of the layers' training, from 0 to below 1.
        class_weight: "balanced" lets each class weigh the same, whatever its number of examples; None does not.
        budget: seconds that a fit with `tune="auto"` may take; None for two minutes, ten minutes and an hour by preset.
        random_state: an integer; the same one gives the same classifier on the same machine.

    Attributes:
        classes_: (n_classes,) the labels, in the order of the columns of `predict_proba`.
        depth_, pool_: what was chosen; None with base "tfidf".
        validation_log_loss_: on the examples held out of `fit`.
        dropped_: rows of X that were not used, by reason: {reason: [row, ...]}, rows count from 1.

    Example:
        >>> from rehead import Classifier
        >>> texts = ["win a prize now", "free cash prize", "see you at noon", "lunch at noon?"] * 4
        >>> texts = [f"{text} {i}" for i, text in enumerate(texts)]
        >>> model = Classifier(base="minilm", depth=1).fit(texts, ["spam", "spam", "ham", "ham"] * 4)
        >>> model.predict(["a free prize for you"]).tolist()
        ['spam']
    """

    def __init__(
        self,
        base: str = AUTO,
        *,
        tune: str = "auto",
        preset: str = "balanced",
        ngrams: bool = True,
        depth: int | str = "auto",
        pool: str = "auto",
        max_length: int = 512,
        long: str = "truncate",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        label_smoothing: float = 0.0,
        class_weight: str | None = None,
        budget: float | None = None,
        views: int | None = None,
        average_views: bool = False,
        random_state: int = 0,
    ) -> None:
        self.base = base
        self.tune = tune
        self.preset = preset
        self.ngrams = ngrams
        self.depth = depth
        self.pool = pool
        self.max_length = max_length
        self.long = long
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.budget = budget
        self.views = views
        self.average_views = average_views
        self.random_state = random_state

    def fit(self, X: Sequence[Any], y: Sequence[Any]) -> Self:
        """Train on texts, or images, and their labels, of which an eighth is held out for validation.

        Repeated texts (up to white space and case) are used once, empty ones not at all; see `dropped_`.

        Args:
            X: n texts; or n images: `pathlib.Path`s of their files, images of Pillow's, or arrays (height, width, 3) of
                uint8.
            y: n labels. Where a text may have several: n collections of labels, or an array (n, n_classes) of 0 and 1.

        Raises:
            DataError: X is not a sequence of texts, or there is too little to learn from.
            SettingError, BaseModelError, FetchError: the classifier cannot be set up.
        """
        begun = time.perf_counter()
        inputs = _as_inputs(X)
        texts = [each if isinstance(each, str) else each.name for each in inputs]
        pictures = [each for each in inputs if isinstance(each, ImageInput)] or None
        if pictures:
            require_usable(pictures)
        if len(y) != len(texts):
            raise DataError(f"X has {len(texts)} texts and y {len(y)} labels; give one label a text")
        classes, ids = classes_among(y)
        names = tuple(str(value) for value in classes)
        everything = Examples(texts, ids, names, np.arange(1, len(texts) + 1), "X", images=pictures)
        filled, empty = without_empty(everything)
        unique, repeated = drop_duplicates(filled)
        dropped = empty | repeated
        require_learnable(unique)
        split = stratified(strata(unique.labels), self.random_state, (1 - _VALIDATION_SHARE, _VALIDATION_SHARE, 0.0))
        if not len(split.validation):
            raise DataError(f"X: {len(unique)} different texts are too few to hold some out; give 10 or more a class")
        train, validation = unique.take(split.train), unique.take(split.validation)
        data = self.prepare(train, validation)
        limits = Limits(begun + data.config.budget) if data.config.tune == "auto" else None
        result = self.fit_encoded(data, baselines.learn(train, validation), limits, refits=True)
        for candidate in result.candidates:
            if candidate.history and candidate.history.lost_rows:
                rows = ", ".join(map(str, train.lines[candidate.history.lost_rows].tolist()))
                message = f"{candidate.tune}: {candidate.history.stopped} on rows {rows} of X; lower `learning_rate`"
                warnings.warn(message, ConvergenceWarning, stacklevel=2)
        self.classes_ = classes
        self.dropped_: Dropped = dropped
        return self

    def prepare(self, train: Examples, validation: Examples) -> EncodedData | NgramData:
        """Return the examples as `fit_encoded` takes them, with the base loaded where there is one."""
        if self.base == TFIDF:
            return ngrams_alone.gather_texts(train, validation, self.config())
        return self.encode(train, validation)

    def encode(self, train: Examples, validation: Examples) -> EncodedData:
        """Load the pretrained base and encode the examples, as `rehead.training.estimate` takes them, too."""
        config = self.config()
        if config.base == AUTO:
            config = replace(config, base=choose_backbone(train, config).name)
        return encode(train, validation, config)

    def fit_encoded(
        self,
        data: EncodedData | NgramData,
        baseline: Baselines,
        limits: Limits | None = None,
        resumption: Resumption | None = None,
        *,
        refits: bool = False,
    ) -> TrainedClassifier:
        """Train on what `prepare` made of examples; `fit` without its checks and its split.

        Args:
            baseline: learned from the same examples; it may stand beside the head, or be the classifier.
            limits, resumption, refits: see `rehead.training.finetune.finetune`.
        """
        result: TrainedNetwork | TrainedNgrams
        if isinstance(data, NgramData):
            result = ngrams_alone.learn_ngrams(data, baseline, refits=refits)
        else:
            result = finetune(data, baseline if self.ngrams else None, limits, resumption, refits=refits)
        validation = data.validation
        self.classes_ = np.array(data.train.label_names)
        self.depth_, self.pool_ = result.structure.depth, result.structure.pool
        self.validation_log_loss_ = float(likelihood.losses(result.validation_logits, validation.labels).mean())
        seen = fingerprints([*data.train.inputs, *validation.inputs])
        manifest = self._manifest(result, data)
        self._artifact: Artifact
        if isinstance(result, TrainedNgrams):
            reference = Reference.of(result.regression, seen)
            self._artifact = NgramArtifact(regression=result.regression, manifest=manifest, reference=reference)
        else:
            assert isinstance(data, EncodedData)
            reference = Reference.of(_of_all(data, baseline) if result.refitted else baseline, seen)
            self._artifact = NetworkArtifact(
                backbone=result.base, head=result.head, manifest=manifest, reference=reference, adapters=result.adapters
            )
        # The longest reach as far as a window of attention does.
        if validation.images is None:
            self._sample: list[str] | list[ImageInput] = sorted(validation.texts, key=len)[-_VERIFIED_TEXTS:]
        else:
            self._sample = validation.images[:_VERIFIED_TEXTS]
        return result

    def predict_proba(self, X: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Return the probability of each class for each text.

        Args:
            X: n texts or images, as for `fit`.

        Returns:
            (n, n_classes) float64, columns in the order of `classes_`; rows add up to 1 unless a text may have several
            labels.
        """
        check_is_fitted(self)
        return self._artifact.scores(_as_inputs(X)).probabilities

    def predict(self, X: Sequence[Any]) -> npt.NDArray[Any]:
        """Return a label for each text: the most probable one, or what the classifier's saved rule says.

        A rule's abstention is not heeded here, where every text needs a label; see `predict_proba`.

        Args:
            X: n texts or images, as for `fit`.

        Returns:
            (n,) labels; where a text may have several, (n, n_classes) of 0 and 1, columns in the order of `classes_`.
        """
        probabilities = self.predict_proba(X)
        chosen = self._artifact.rule.without_abstention().choose(probabilities)
        predicted: npt.NDArray[Any] = chosen if self._artifact.multilabel else self.classes_[chosen]
        return predicted

    @property
    def artifact_(self) -> Artifact:
        """What `save` writes."""
        check_is_fitted(self)
        return self._artifact

    def save(
        self,
        folder: str | Path,
        *,
        sidecars: Sequence[Sidecar] = (),
        entries: Mapping[str, Any] | None = None,
        documents: Mapping[str, str] | None = None,
    ) -> None:
        """Save the classifier as a folder; see `rehead.artifact.artifact` for what is in it.

        A classifier that was loaded takes along all that lies in its folder.

        Args:
            folder: a new folder, or one that holds a rehead model already, which is replaced.
            sidecars: what else is written there, such as a fingerprint that later inputs are compared with.
            entries: further entries of rehead.json.
            documents: further text files by name.

        Raises:
            ArtifactError: the folder cannot be written, or what was written does not score as it should.
        """
        check_is_fitted(self)
        named = {"label_type": self.classes_.dtype.kind, **(entries or {})}
        complete = replace(self._artifact, manifest=self._artifact.manifest.with_entries(named))
        save_artifact(complete, Path(folder), documents or {}, self._sample, sidecars)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load what `save` wrote.

        Raises:
            ArtifactError: the folder is not a saved classifier.
        """
        loaded = load_artifact(Path(folder))
        manifest = loaded.manifest
        asked = ("tune", "depth", "pool", "max_length", "long", "views", "average_views")
        settings = {name: value for name in asked if (value := getattr(manifest, name)) is not None}
        if AND in manifest.tune:
            settings["tune"] = "auto"  # which alone makes means
        model = cls(manifest.base, **settings, **manifest.recipe, random_state=manifest.seed)
        model.classes_ = restored(loaded.labels, manifest.label_type)
        model.depth_, model.pool_ = manifest.depth, manifest.pool
        model.validation_log_loss_ = manifest.validation_log_loss
        model.dropped_ = {}
        model._artifact = loaded
        model._sample = loaded.sample
        return model

    def config(self) -> TrainingConfig:
        """Return the constructor's arguments, checked.

        Raises:
            SettingError: one of them makes no sense.
        """
        for name, constraint in _CONSTRAINTS.items():
            value = getattr(self, name)
            if not constraint.holds(value):
                raise SettingError(f"`{name}` must be {constraint.words}, not {value!r}")
        config = TrainingConfig(
            base=self.base,
            tune=self.tune,
            preset=self.preset,
            depth=int(self.depth) if isinstance(self.depth, Integral) else self.depth,
            pool=self.pool,
            max_length=int(self.max_length),
            long=self.long,
            views=None if self.views is None else int(self.views),
            average_views=bool(self.average_views),
            ngrams=bool(self.ngrams),
            epochs=None if self.epochs is None else int(self.epochs),
            batch_size=None if self.batch_size is None else int(self.batch_size),
            learning_rate=self.learning_rate,
            label_smoothing=self.label_smoothing,
            balanced=self.class_weight == "balanced",
            budget=BUDGETS[self.preset] if self.budget is None else float(self.budget),
            seed=int(self.random_state),
        )
        if config.base == TFIDF:
            ngrams_alone.require_no_layers(config)
        return config

    def _manifest(self, result: TrainedClassifier, data: EncodedData | NgramData) -> Manifest:
        import torch
        import transformers

        config, has_network = data.config, isinstance(data, EncodedData)
        return Manifest(
            base=config.base,
            tune=result.tune,
            average_views=config.average_views,
            baseline_factor=result.baseline_factor,
            temperature=result.temperature,
            labels=tuple(data.train.label_names),
            multilabel=data.train.multilabel,
            seed=config.seed,
            recipe={
                "preset": config.preset,
                "ngrams": config.ngrams,
                "epochs": config.epochs,
                "batch_size": config.batch_size,
                "learning_rate": config.learning_rate,
                "label_smoothing": config.label_smoothing,
                "class_weight": self.class_weight,
            },
            validation_log_loss=self.validation_log_loss_,
            versions={
                "rehead": version("rehead"),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
            max_length=config.max_length if has_network else None,
            long=config.long if has_network else None,
            views=config.views if has_network else None,
            **vars(result.structure),
        )


def _of_all(data: EncodedData, baseline: Baselines) -> Baselines:
    """Return the baseline as it is learned from training and validation examples together, as a refitted head is."""
    assert baseline.strength is not None  # it was learned just now
    once = data.train.take(np.arange(0, data.n_train, data.views))
    return baselines.relearn(once.followed_by(data.validation), baseline.strength)


def _as_inputs(X: Sequence[Any]) -> list[str] | list[ImageInput]:
    if isinstance(X, str):
        raise DataError("X is one text; give a list of texts")
    if getattr(X, "ndim", 1) not in (1, 4):
        raise DataError("X has more than one column; give a sequence of texts, such as one column of a table")
    inputs = list(X)
    if inputs and not isinstance(inputs[0], str):
        pictures = [as_image_input(value, number) for number, value in enumerate(inputs, start=1)]
        if None not in pictures:
            return [picture for picture in pictures if picture is not None]
    for number, text in enumerate(inputs, start=1):
        if not isinstance(text, str):
            raise DataError(
                f"X row {number} is a {type(text).__name__}, not a text; give a list of strings, or of images"
            )
        if not text.isascii() and SURROGATE.search(text):
            raise DataError(f"X row {number} holds half a surrogate pair or a byte that is not UTF-8; remove it")
    return inputs
