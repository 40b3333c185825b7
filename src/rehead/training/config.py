"""Say what is to be trained and how, as the user asked for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rehead.runtime.errors import SettingError
from rehead.training.loop import Recipe

# The number of last layers that `auto` trains. Of mpnet's twelve they reach what six do: 93.6 and 93.3
# against 94.3 % of the test of 755 reviews, one run each, where all twelve reach 93.2 (docs/results/recipes.md); what
# enters them is kept, so that a step costs a third.
LAST = 4
# Between two strategies, in the name of the mean of what they learned.
AND = " and "
# How much is tried; see `strategies.planned`.
PRESETS = ("quick", "balanced", "best")
# Seconds that a fit may take with each of them, unless said otherwise.
BUDGETS = {"quick": 120.0, "balanced": 600.0, "best": 3600.0}


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Attributes:
        base: see `rehead.models.loading.locate`.
        tune: `head`, `last-K` with K layers, `contrastive`, `lora`, `full`, or `auto`.
        preset: one of `PRESETS`: what `auto` tries.
        depth: number of layers to keep, or "auto".
        pool: one of `rehead.models.heads.POOLINGS`, or "auto".
        max_length: longest text, or window of one, in tokens.
        long: what becomes of longer texts; see `rehead.models.tokenization.encode`.
        views: of each training image, how many are learned from; see `rehead.models.image_transforms.Transform.pixels`.
            None for what suits the preset, see `rehead.training.encoding.encode`.
        average_views: whether as many views of an image are averaged in validation and prediction, too.
        ngrams: whether word and character n-grams may stand beside the head, where they help.
        epochs, batch_size, learning_rate: of the layers' training; None for what suits the strategy.
        label_smoothing: see `rehead.training.objective`.
        class_weight: see `rehead.training.weights`.
        budget: seconds that the fit may take in all; with `auto` no strategy is begun that would take longer.
        seed: for everything random.
    """

    base: str
    tune: str = "auto"
    preset: str = "balanced"
    depth: int | str = "auto"
    pool: str = "auto"
    max_length: int = 512
    long: str = "truncate"
    views: int | None = None
    average_views: bool = False
    ngrams: bool = True
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    label_smoothing: float = 0.0
    class_weight: str | Mapping[str, float] | None = None
    budget: float = BUDGETS["balanced"]
    seed: int = 0

    @property
    def fixed_depth(self) -> int | None:
        """Return the number of layers to keep, or None where it is to be measured.

        Raises:
            SettingError: it is no number, or too small for the strategy.
        """
        if self.depth == "auto":
            return None
        least = least_depth(self.tune)
        if not isinstance(self.depth, int) or self.depth < least:
            raise SettingError(
                f"`depth` must be auto or a number of layers, {least} or more with `tune={self.tune!r}`, "
                f"not {self.depth!r}"
            )
        return self.depth

    @property
    def learns_whole_inputs(self) -> bool:
        """Whether layers can be trained: on texts in one piece and images in one view."""
        return self.long != "chunks" and not self.average_views

    @property
    def auto_trains_layers(self) -> bool:
        """Whether `auto` may train more than the head."""
        return self.tune == "auto" and self.preset != "quick" and self.learns_whole_inputs

    def checked(self) -> TrainingConfig:
        """Return the same; raise SettingError where parts of it contradict each other."""
        check_tune(self.tune)
        if self.tune not in ("head", "auto"):
            if self.long == "chunks":
                raise SettingError(
                    f"`long='chunks'` goes with `tune='head'`, not {self.tune}: layers are trained on texts in one "
                    "piece; use `long='head-tail'`"
                )
            if self.average_views:
                raise SettingError(
                    f"`average_views` goes with `tune='head'`, not {self.tune}: layers are trained on one augmentation "
                    "at a time"
                )
        return self

    def adjusted(self, recipe: Recipe) -> Recipe:
        """Return a strategy's recipe with what the user asked for in its place."""
        asked = {name: getattr(self, name) for name in ("epochs", "batch_size", "learning_rate")}
        asked = {name: value for name, value in asked.items() if value is not None}
        return replace(recipe, **asked, label_smoothing=self.label_smoothing, seed=self.seed)


def trained_layers(tune: str, depth: int) -> int:
    """Return how many of `depth` layers are trained: 0 for `head`, K for `last-K`, all for `lora` and `full`.

    `contrastive` trains two thirds: with 8 reviews a class and mpnet 91.5 and 91.8 % of the test are right then, 90.8
    and 89.8 with all layers, 83.0 and 83.3 with the last four (two draws); of MiniLM's six four do as well as all.
    """
    if tune == "contrastive":
        return -(-2 * depth // 3)
    if tune in ("head", "auto"):
        return 0
    if tune in ("lora", "full"):
        return depth
    return int(tune.removeprefix("last-"))


def check_tune(tune: str) -> None:
    """Raise SettingError where there is no such strategy."""
    if tune not in ("auto", "head", "contrastive", "lora", "full") and not re.fullmatch(r"last-[1-9]\d{0,3}", tune):
        raise SettingError(
            "`tune` must be auto, head, contrastive, lora, full or last-K with a number for K (last-1, last-2, ...), "
            f"not {tune!r}"
        )


def least_depth(tune: str) -> int:
    """Return how many layers have to be kept at least."""
    return max(1, trained_layers(tune, 1))
