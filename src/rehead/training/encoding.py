"""Turn the examples of a fit into what a backbone reads, training examples first, then validation examples."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from rehead.data.examples import Examples, Index, both
from rehead.data.images import ImageInput
from rehead.data.labels import Labels, Weights, class_counts, is_multilabel
from rehead.models import loading
from rehead.models.backbone import Backbone
from rehead.models.heads import candidates, check_pooling
from rehead.models.model_inputs import encode_inputs as read
from rehead.models.tokenization import Encoded
from rehead.runtime import hardware, progress
from rehead.runtime.errors import SettingError
from rehead.training import feature_cache
from rehead.training.config import TrainingConfig, least_depth
from rehead.training.feature_cache import FeatureStore
from rehead.training.features import are_kept, forward_flops, store_for
from rehead.training.weights import example_weights

# Training examples of a class, at most, that are few.
_FEW = 64
# Views of each image that `auto` averages where there is time. Of 646 ultrasound images 86.8 % are right, with one view
# 85.8; of 1,360 flowers 96.8 and 95.5. Learning from four without averaging is no better (docs/results/images.md).
_VIEWS = 4
# Convolutions reach about this share of the speed of a plain matrix product in float32.
_CONVOLUTIONS_EFFICIENCY = 0.3
# Bytes a second at which features are read back, on a slow disk.
_READING_SPEED = 200e6


@dataclass(frozen=True)
class EncodedData:
    """The examples of a fit as a backbone reads them.

    Attributes:
        config: of the fit.
        base: the backbone in float32; training changes its weights.
        train: with as many rows for each image as there are views of it.
        validation: examples that choose regularisation, depth and epoch.
        encoded: n inputs, those of `train` first.
        labels: (n,) class ids, or (n, n_classes) where a text may have several.
        views: of each training image.
        seconds: that loading and encoding took.
    """

    config: TrainingConfig
    base: Backbone
    train: Examples
    validation: Examples
    encoded: Encoded
    labels: Labels
    views: int
    seconds: float

    @property
    def n_train(self) -> int:
        """The number of training rows; the others are for validation."""
        return len(self.train)

    @property
    def n_classes(self) -> int:
        return len(self.train.label_names)

    @cached_property
    def frozen(self) -> Backbone:
        """The backbone with its matrix products in the machine's fastest type, for what nothing is trained through."""
        return self.base.frozen()

    @cached_property
    def store(self) -> FeatureStore:
        """Where the features of this backbone are kept."""
        return store_for(self.frozen)

    @property
    def depths(self) -> list[int]:
        """What depth may be."""
        config, there = self.config, len(self.base.layers)
        if config.fixed_depth:
            return [config.fixed_depth]
        if self._trains_an_encoder:
            return [there]
        return list(range(least_depth(config.tune), there + 1))

    @property
    def has_few(self) -> bool:
        """Whether there are so few texts of each class that pairs of them say more than the texts alone.

        Images never count as few: what pairs of them say was not measured.
        """
        if is_multilabel(self.labels) or self.train.images is not None:
            return False
        counts = class_counts(self.labels[: self.n_train], self.n_classes)
        return int(counts.max()) <= _FEW * self.views

    @property
    def _trains_an_encoder(self) -> bool:
        """Whether `auto` trains the last layers of an encoder: they are then worth more than leaving them out saves."""
        return self.config.auto_trains_layers and self.base.summary_position == "cls"

    @property
    def candidates(self) -> list[tuple[str, int]]:
        """What pooling and depth may be, together."""
        depths, asked = self.depths, self.config.pool
        if asked == "auto" and self._trains_an_encoder and self.has_few:
            # What sentence encoders were trained to bring together; too few examples to measure what else may do.
            asked = "mean"
        poolings = list(candidates(self.base.summary_position)) if asked == "auto" else [asked]
        of_one_layer = [(pooling, depth) for pooling in poolings if pooling != "layers" for depth in depths]
        # A third, two thirds and all of what depth may be: probes on several layers are wide, and so costly to solve.
        thirds = sorted({depths[-(-len(depths) * third // 3) - 1] for third in (1, 2, 3)})
        of_several = thirds if asked in ("auto", "layers") else []
        return of_one_layer + [("layers", depth) for depth in of_several]

    def truncate(self, depth: int) -> None:
        """Throw away the layers from `depth` on, in both copies of the backbone."""
        self.base.truncate(depth)
        if self.frozen is not self.base:
            self.frozen.truncate(depth)

    def keeps_tokens(self, cut: int) -> bool:
        """Whether token states at the cut are to be kept: reading them is faster than computing, and they fit.

        Where the cache has none, a quarter of the free memory may be taken. What is kept already needs none.
        """
        tokens = int(self.encoded.ids.lengths.sum())
        n_bytes = tokens * self.base.width_at(cut) * hardware.native_dtype().itemsize
        # With as few texts at a time as the tail takes, an accelerator waits for each operation to be launched: 65 ms a
        # step for 29 layers on an H200, far more than reading what they would make.
        if hardware.device().type == "cpu":
            # What a busy machine does now decides nothing: an interrupted fit goes on only if it is computed as before.
            computing = forward_flops(self.base, tokens, 0, cut) / hardware.usual_speed(self.base.frozen_dtype)
            if n_bytes / _READING_SPEED >= computing:
                return False
        fits = feature_cache.has_space_for(n_bytes) or n_bytes < hardware.free_memory() / 4
        return fits or are_kept(self.encoded.ids, cut, self.store)

    @property
    def own_weights(self) -> Weights | None:
        """Return (n,) how much each row counts, whatever its class; None where all count the same."""
        return both(self.train.weights, self.validation.weights)

    def example_weights(self, rows: Index) -> Weights | None:
        """Return weights of some rows as `probe.solve` takes them, or None where all weigh the same."""
        own = self.own_weights
        of_rows = None if own is None else own[rows]
        return example_weights(self.labels[rows], self.train.label_names, self.config.class_weight, of_rows)


def encode(train: Examples, validation: Examples, config: TrainingConfig) -> EncodedData:
    """Load the backbone and turn both parts into what it reads.

    Raises:
        SettingError, BaseModelError, FetchError: the run cannot be set up as it was asked for.
    """
    begun = time.perf_counter()
    config = config.checked()
    # Whether the head alone is trained.
    frozen = config.tune == "head" or (config.tune == "auto" and not config.auto_trains_layers)
    base = loading.load(config.base, len(train.label_names), config.seed, config.fixed_depth, frozen=frozen)
    config = _with_views(config, base, train.images, len(train) + len(validation))
    views = (config.views or 1) if train.images is not None else 1
    rows = train.take(np.repeat(np.arange(len(train)), views))
    if config.pool != "auto":
        check_pooling(config.pool, base.summary_position)
    _check_layers(base, config)
    averaged = range(views if config.average_views else 1)
    chosen = [[view] for _ in range(len(train)) for view in range(views)] + [[*averaged]] * len(validation)
    encoded = read(base, rows.followed_by(validation).inputs, config.max_length, config.long, chosen)
    if encoded.texts_cut:
        progress.warn(
            f"{encoded.texts_cut:,} of {len(rows) + len(validation):,} texts have more tokens than fit and lose "
            f"{int(encoded.tokens_cut.sum()):,} in all (`max_length`, `long`)"
        )
    labels = np.concatenate([rows.labels, validation.labels])
    return EncodedData(config, base, rows, validation, encoded, labels, views, time.perf_counter() - begun)


def _with_views(config: TrainingConfig, base: Backbone, pictures: list[ImageInput] | None, n: int) -> TrainingConfig:
    """Return the same with a number of views: `auto` averages some of each image, unless half the budget is too short.

    They say more than training the last layers does, in less time.

    Args:
        pictures: of the training examples; None of texts.
        n: number of examples that pass.
    """
    if pictures is None and (config.average_views or (config.views or 1) > 1):
        raise SettingError("`views` and `average_views` are for images, and these are texts; leave them out")
    if config.views is not None:
        return config
    if pictures is not None and config.average_views:
        return replace(config, views=_VIEWS)
    if pictures is None or config.tune != "auto" or config.preset == "quick":
        return replace(config, views=1)
    one = read(base, pictures[:1], config.max_length, config.long, [[0]])
    flops = _VIEWS * n * forward_flops(base, int(one.tokens.sum()), 0, len(base.layers))
    seconds = flops / (_CONVOLUTIONS_EFFICIENCY * hardware.product_speed(torch.float32))
    if seconds > config.budget / 2:
        progress.say(f"one augmentation of each image: {_VIEWS} would take about {seconds:.0f} s (`budget`, `views`)")
        return replace(config, views=1)
    return replace(config, views=_VIEWS, average_views=True)


def _check_layers(base: Backbone, config: TrainingConfig) -> None:
    if config.tune == "lora" and not base.takes_adapters:
        raise SettingError(
            f"`tune='lora'` needs linear layers, and those of base {config.base!r} are convolutions; use last-K or full"
        )
    least, there = least_depth(config.tune), len(base.layers)
    if least > there:
        raise SettingError(f"`tune={config.tune!r}` needs {least} layers, base {config.base!r} has {there}")
