"""Be a scikit-learn estimator around backbone and head."""

from __future__ import annotations

import functools
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from rehead.artifact import explanation, hub
from rehead.artifact.artifact import Artifact, NetworkArtifact, NgramArtifact, Reference
from rehead.artifact.loading import load_artifact
from rehead.artifact.manifest import RECIPE, Manifest
from rehead.artifact.saving import Sidecar, save_artifact
from rehead.data.containers import inputs_of
from rehead.data.duplicates import content_hashes, drop_duplicates
from rehead.data.examples import Dropped, Examples, require_learnable, without_empty, without_weightless
from rehead.data.images import ImageInput, require_usable
from rehead.data.labels import Labels, are_right, classes_among, ids_among, restored, strata, warn_of_alike
from rehead.data.splits import stratified
from rehead.evaluation import baselines, likelihood
from rehead.evaluation.baselines import Baselines
from rehead.evaluation.evaluation import Evaluation, evaluate_predictions
from rehead.models.registry import AUTO, TFIDF
from rehead.models.tokenization import LONG
from rehead.runtime import progress
from rehead.runtime.errors import DataError, SettingError
from rehead.training import ngrams_alone, parallel
from rehead.training.backbone_choice import choose_backbone
from rehead.training.callbacks import METRICS, Callback, Callbacks, MetricsLog, following
from rehead.training.checkpoint import Resumption
from rehead.training.config import AND, BUDGETS, PRESETS, TrainingConfig
from rehead.training.encoding import EncodedData, encode
from rehead.training.finetune import Limits, TrainedClassifier, TrainedNetwork, finetune
from rehead.training.ngrams_alone import NgramData, TrainedNgrams
from rehead.training.strategies import Candidate

_Method = TypeVar("_Method", bound=Callable[..., Any])
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


def _weighs(value: Any) -> bool:
    return isinstance(value, Real) and float(value) >= 0


# Of the parameters of `Classifier`. What `tune`, `depth` and `pool` may be depends on the backbone and on each other,
# and is checked where it is known.
_CONSTRAINTS = {
    "max_length": _whole(1),
    "epochs": _whole(1).or_none(),
    "batch_size": _whole(1).or_none(),
    "views": _whole(1).or_none(),
    "random_state": _Constraint(
        lambda value: value is None or isinstance(value, np.random.RandomState) or _whole(0).holds(value),
        "a whole number from 0, a RandomState or None",
    ),
    "learning_rate": _positive("above 0").or_none(),
    "label_smoothing": _Constraint(
        lambda value: isinstance(value, Real) and 0 <= float(value) < 1, "from 0 to below 1"
    ),
    "long": _one_of(LONG),
    "class_weight": _Constraint(
        lambda value: value in (None, "balanced") or (isinstance(value, Mapping) and all(map(_weighs, value.values()))),
        "balanced, None or a dictionary of weights from 0 by label",
    ),
    "budget": _positive("a number of seconds above 0").or_none(),
    "preset": _one_of(PRESETS),
    "verbose": _Constraint(lambda value: value in (0, 1, 2), "0, 1 or 2"),
}


def _with_progress(method: _Method) -> _Method:
    """Let a method show what the estimator's `verbose` asks for."""

    @functools.wraps(method)
    def shown(self: Classifier, *args: Any, **kwargs: Any) -> Any:
        with progress.shown(self.verbose):
            return method(self, *args, **kwargs)

    return cast(_Method, shown)


class Classifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator):  # type: ignore
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
        class_weight: "balanced" lets each class weigh the same, whatever its number of examples; a dictionary says how
            much the examples of each label weigh, 1 where it says nothing; None lets all examples weigh the same.
        budget: seconds that a fit with `tune="auto"` may take; None for two minutes, ten minutes and an hour by preset.
        random_state: an integer; the same one gives the same classifier on the same machine. With a RandomState,
            or None for numpy's own, each fit is another.
        verbose: 1 shows progress bars, in a terminal and, where ipywidgets is installed, in a notebook; 2 also says
            what is done and chosen; 0 shows neither.

    Attributes:
        classes_: (n_classes,) the labels, in the order of the columns of `predict_proba`.
        depth_, pool_: what was chosen; None with base "tfidf".
        validation_log_loss_: on the examples held out of `fit`.
        history_: the strategies that were tried, in order, each with `tune`, `loss`, `seconds` and, where layers were
            trained, the `history` of its epochs; empty after loading.
        n_features_in_, feature_names_in_: 1, and the column's name; only where X was a table.
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
        class_weight: str | Mapping[Any, float] | None = None,
        budget: float | None = None,
        views: int | None = None,
        average_views: bool = False,
        random_state: int | np.random.RandomState | None = 0,
        verbose: int = 0,
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
        self.verbose = verbose

    @_with_progress
    def fit(
        self,
        X: Sequence[Any],
        y: Sequence[Any],
        sample_weight: npt.ArrayLike | None = None,
        *,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Train on texts, or images, and their labels, of which an eighth is held out for validation.

        Repeated texts (up to white space and case) are used once, empty ones not at all; see `dropped_`.

        Args:
            X: n texts, also as one column of a data frame or an array (n, 1); or n images: `pathlib.Path`s of their
                files, images of Pillow's, or arrays (height, width, 3) of uint8.
            y: n labels. Where a text may have several: n collections of labels, or an array (n, n_classes) of 0 and 1.
            sample_weight: (n,) how much each example counts, in what is learned and in what judges it; those of weight
                0 are not used. None lets all count the same.
            callbacks: learn of each step, epoch and candidate of the training.

        Raises:
            DataError: X is not a sequence of texts, or there is too little to learn from.
            SettingError, BaseModelError, FetchError: the classifier cannot be set up.
        """
        begun, config = time.perf_counter(), self.config()
        inputs = self._read(X, reset=True)
        if y is None:
            raise DataError("Classifier requires y to be passed, but the target y is None")
        classes, ids = classes_among(y)
        warn_of_alike(classes)
        everything = _examples(inputs, ids, classes, sample_weight)
        filled, empty = without_empty(everything)
        weighty, weightless = without_weightless(filled)
        unique, repeated = drop_duplicates(weighty)
        dropped = empty | weightless | repeated
        require_learnable(unique)
        split = stratified(strata(unique.labels), config.seed, (1 - _VALIDATION_SHARE, _VALIDATION_SHARE, 0.0))
        if not len(split.validation):
            raise DataError(f"X: {len(unique)} different texts are too few to hold some out; give 10 or more a class")
        train, validation = unique.take(split.train), unique.take(split.validation)
        data = self.prepare(train, validation, config)
        limits = Limits(begun + data.config.budget) if data.config.tune == "auto" else None
        with following(callbacks, vars(data.config)) as callback:
            result = self.fit_encoded(data, baselines.learn(train, validation), limits, refits=True, callback=callback)
            self.classes_ = classes
            self.dropped_: Dropped = dropped
            callback.on_end(self)
        for candidate in result.candidates:
            if candidate.history and candidate.history.lost_rows:
                rows = ", ".join(map(str, train.lines[candidate.history.lost_rows].tolist()))
                message = f"{candidate.tune}: {candidate.history.stopped} on rows {rows} of X; lower `learning_rate`"
                warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return self

    @_with_progress
    def prepare(
        self, train: Examples, validation: Examples, config: TrainingConfig | None = None
    ) -> EncodedData | NgramData:
        """Return the examples as `fit_encoded` takes them, with the base loaded where there is one.

        Args:
            config: what `config` returns, where that was called before; each call may draw another seed.
        """
        if self.base == TFIDF:
            return NgramData(config or self.config(), train, validation)
        return self.encode(train, validation, config)

    def encode(self, train: Examples, validation: Examples, config: TrainingConfig | None = None) -> EncodedData:
        """Load the pretrained base and encode the examples, as `rehead.training.estimate` takes them, too."""
        config = config or self.config()
        if config.base == AUTO:
            choose = partial(choose_backbone, train, config)
            config = replace(config, base=parallel.of_first(choose).name)
        return encode(train, validation, config)

    @_with_progress
    def fit_encoded(
        self,
        data: EncodedData | NgramData,
        baseline: Baselines,
        limits: Limits | None = None,
        resumption: Resumption | None = None,
        *,
        refits: bool = False,
        callback: Callback | None = None,
    ) -> TrainedClassifier:
        """Train on what `prepare` made of examples; `fit` without its checks and its split.

        Args:
            baseline: learned from the same examples; it may stand beside the head, or be the classifier.
            limits, resumption, refits, callback: see `rehead.training.finetune.finetune`.
        """
        result: TrainedNetwork | TrainedNgrams
        log = MetricsLog()
        both = Callbacks([log, callback]) if callback else log
        if isinstance(data, NgramData):
            result = ngrams_alone.learn_ngrams(data, baseline, both, refits=refits)
        else:
            result = finetune(data, baseline if self.ngrams else None, limits, resumption, both, refits=refits)
        self._metrics = log.text()
        validation = data.validation
        self.classes_ = np.array(data.train.label_names)
        self.history_: list[Candidate] = result.candidates
        self.depth_, self.pool_ = result.structure.depth, result.structure.pool
        self.validation_log_loss_ = float(likelihood.losses(result.validation_logits, validation.labels).mean())
        seen = content_hashes([*data.train.inputs, *validation.inputs])
        manifest = self._manifest(result, data)
        self._artifact: Artifact
        if isinstance(result, TrainedNgrams):
            reference = Reference.of(result.regression, seen)
            self._artifact = NgramArtifact(regression=result.regression, manifest=manifest, reference=reference)
        else:
            assert isinstance(data, EncodedData)
            if refits:  # what the classifier has to beat learns from all examples, whether or not the layers could
                assert baseline.strength is not None  # it was learned just now
                once = data.train.take(np.arange(0, data.n_train, data.views))
                baseline = baselines.relearn(once.followed_by(validation), baseline.strength)
            reference = Reference.of(baseline, seen)
            self._artifact = NetworkArtifact(
                backbone=result.base, head=result.head, manifest=manifest, reference=reference, adapters=result.adapters
            )
        # The longest reach as far as a window of attention does.
        if validation.images is None:
            self._sample: list[str] | list[ImageInput] = sorted(validation.texts, key=len)[-_VERIFIED_TEXTS:]
        else:
            self._sample = validation.images[:_VERIFIED_TEXTS]
        return result

    @_with_progress
    def predict_proba(self, X: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Return the probability of each class for each text.

        Args:
            X: n texts or images, as for `fit`.

        Returns:
            (n, n_classes) float64, columns in the order of `classes_`; rows add up to 1 unless a text may have several
            labels.
        """
        check_is_fitted(self)
        return self._artifact.scores(self._read(X)).probabilities

    def predict_log_proba(self, X: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Return the logarithm of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def decision_function(self, X: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Return the log odds of each class against the rest, (n, n_classes); of two classes the second's, (n,)."""
        probabilities, multilabel = self.predict_proba(X), self._artifact.multilabel
        scores = likelihood.log_odds(likelihood.logits_of(probabilities, multilabel), multilabel)
        return scores if multilabel or scores.shape[1] != 2 else scores[:, 1]

    @_with_progress
    def transform(self, X: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Return what the head sees of each text or image: embeddings, (n, width)."""
        check_is_fitted(self)
        inputs = self._read(X)
        features = self._artifact.predictor(label=None).scores(inputs, keep_features=True).features
        return np.empty((0, self._n_features_out), np.float32) if features is None else features

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

    def evaluate(self, X: Sequence[Any], y: Sequence[Any], sample_weight: npt.ArrayLike | None = None) -> Evaluation:
        """Measure on labelled texts or images, beside the baselines; arguments as of `fit`.

        Raises:
            DataError: a label is none of `classes_`.
        """
        check_is_fitted(self)
        test = _examples(self._read(X), ids_among(self.classes_, y), self.classes_, sample_weight)
        predictions = self._artifact.predictions(test, self._artifact.scores(test.inputs))
        return evaluate_predictions(predictions, self._artifact.rule)

    def score(self, X: Sequence[Any], y: Sequence[Any], sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the share of examples that are predicted as labelled, which may be of all types that `fit` takes."""
        check_is_fitted(self)
        if self._artifact.multilabel:
            labels: npt.NDArray[Any] = ids_among(self.classes_, y)
        else:
            classes, ids = classes_among(y)
            labels = classes[ids] if ids.ndim == 1 else ids
        test = _examples(self._read(X), labels, self.classes_, sample_weight)
        return float(np.average(are_right(labels, self.predict(X)), weights=test.weights))

    def explain(self, text: str) -> explanation.Explanation:
        """Return what each word of a text contributes to its prediction; see `rehead.artifact.explanation`."""
        check_is_fitted(self)
        return explanation.explain(self._artifact, text)

    @property
    def partial_fit(self) -> NoReturn:
        """Say why there is none: what is learned is chosen by all examples together."""
        raise AttributeError("Classifier has no `partial_fit`; give `fit` the old and the new examples together")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False  # but for a single column
        tags.classifier_tags.multi_label = True
        tags.transformer_tags.preserves_dtype = []  # it is float32
        return tags

    @property
    def _n_features_out(self) -> int:
        return self._artifact.width

    def _read(self, X: Sequence[Any], *, reset: bool = False) -> list[str] | list[ImageInput]:
        """Return texts or images; of a table, remember or check its column as scikit-learn does."""
        if len(getattr(X, "shape", ())) == 2 and (reset or hasattr(self, "n_features_in_")):
            validate_data(self, X, reset=reset, skip_check_array=True)
        return inputs_of(X)

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
        log = {} if self._artifact.folder else {METRICS: self._metrics}
        save_artifact(complete, Path(folder), log | dict(documents or {}), self._sample, sidecars)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load what `save` wrote.

        Raises:
            ArtifactError: the folder is not a saved classifier.
        """
        return cls._of(load_artifact(Path(folder)))

    def save_pretrained(
        self, save_directory: str | Path, *, repo_id: str | None = None, push_to_hub: bool = False, **options: Any
    ) -> str | None:
        """Save the classifier as a folder, as `save` does.

        Args:
            save_directory: see `save`.
            push_to_hub: whether it is then put on the model hub, too.
            repo_id: see `push_to_hub`; the folder's name if None.
            options: of `push_to_hub`.

        Returns:
            The URL of the commit, where it was put on the hub.
        """
        self.save(save_directory)
        return self.push_to_hub(repo_id or Path(save_directory).name, **options) if push_to_hub else None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """Load a saved classifier from a folder, or from the model hub where there is no such folder.

        Both are checked alike: every file has the checksum that it was saved with, and nothing in it is run.

        Args:
            pretrained_model_name_or_path: a folder, or the name of a repository.
            revision: branch, tag or commit; the others are huggingface_hub's.

        Raises:
            ArtifactError: it is not a saved classifier, or it cannot be fetched.
        """
        if Path(pretrained_model_name_or_path).exists():
            return cls.load(pretrained_model_name_or_path)
        folder = hub.fetch(
            str(pretrained_model_name_or_path),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        # Its files are links into the repository's own folder in the hub's cache.
        return cls._of(load_artifact(folder, home=folder.parents[1]))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Push a classifier with rehead",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
    ) -> str:
        """Save the classifier and put it on the model hub, without `report.html`, which quotes test examples.

        Args:
            repo_id: the name of a repository, which is made where there is none.
            private: whether a new one is; by default as its owner's are.
            token: by default that of `hf auth login`.
            branch: `main` by default.
            create_pr: whether to open a pull request instead.

        Returns:
            The URL of the commit.

        Raises:
            ArtifactError: it cannot be saved, or the hub does not take it.
        """
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "classifier"
            self.save(folder)
            return hub.push(
                folder,
                repo_id,
                commit_message=commit_message,
                private=private,
                token=token,
                revision=branch,
                create_pr=create_pr,
            )

    @classmethod
    def _of(cls, loaded: Artifact) -> Self:
        manifest = loaded.manifest
        asked = ("tune", "depth", "pool", "max_length", "long", "views", "average_views")
        settings = {name: value for name in asked if (value := getattr(manifest, name)) is not None}
        if AND in manifest.tune:
            settings["tune"] = "auto"  # which alone makes means
        model = cls(manifest.base, **settings, **manifest.recipe, random_state=manifest.seed)
        model.classes_ = restored(loaded.labels, manifest.label_type)
        if isinstance(model.class_weight, Mapping):
            labels = dict(zip(loaded.labels, model.classes_.tolist(), strict=True))
            model.class_weight = {labels.get(name, name): weight for name, weight in model.class_weight.items()}
        model.depth_, model.pool_ = manifest.depth, manifest.pool
        model.validation_log_loss_ = manifest.validation_log_loss
        model.dropped_, model.history_ = {}, []
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
            class_weight=self.class_weight
            if self.class_weight is None or isinstance(self.class_weight, str)
            else {str(label): float(weight) for label, weight in self.class_weight.items()},
            budget=BUDGETS[self.preset] if self.budget is None else float(self.budget),
            seed=int(self.random_state)
            if isinstance(self.random_state, Integral)
            else int(check_random_state(self.random_state).randint(2**31)),
        )
        if config.base == TFIDF:
            ngrams_alone.require_no_layers(config)
        return config

    def _manifest(self, result: TrainedClassifier, data: EncodedData | NgramData) -> Manifest:
        import torch

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
            recipe={name: getattr(config, name) for name in RECIPE},
            validation_log_loss=self.validation_log_loss_,
            versions={
                "rehead": version("rehead"),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": version("transformers"),
            },
            max_length=config.max_length if has_network else None,
            long=config.long if has_network else None,
            views=config.views if has_network else None,
            **vars(result.structure),
        )


def _examples(
    inputs: list[str] | list[ImageInput], labels: Labels, classes: npt.NDArray[Any], sample_weight: npt.ArrayLike | None
) -> Examples:
    """Return labelled inputs, whose rows count from 1."""
    texts = [each if isinstance(each, str) else each.name for each in inputs]
    pictures = [each for each in inputs if isinstance(each, ImageInput)] or None
    if pictures:
        require_usable(pictures)
    if len(labels) != len(texts):
        raise DataError(f"X has {len(texts)} texts and y {len(labels)} labels; give one label a text")
    weights = None
    if sample_weight is not None:
        weights = _check_sample_weight(sample_weight, texts, dtype=np.float64, ensure_non_negative=True)
    names, rows = tuple(str(value) for value in classes), np.arange(1, len(texts) + 1)
    return Examples(texts, labels, names, rows, "X", images=pictures, weights=weights)
