"""From the probe upwards: ways of tuning, each costlier than the one before, as long as they pay.

Each starts from what was kept last. With `auto` it is kept only where it lowers the validation loss by more than one
standard error of the difference; otherwise the weights from before come back.
"""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from rehead import hardware, likelihood, progress
from rehead.bases.loading import fingerprint
from rehead.heads import Head
from rehead.training import lora
from rehead.training.checkpoint import Checkpoint
from rehead.training.features import Features, training_flops
from rehead.training.inputs import Computed, Inputs, Kept
from rehead.training.loop import History, Watch
from rehead.training.lora import Adapters
from rehead.training.run import Run
from rehead.training.settings import Resumption, trained_blocks
from rehead.training.tail import Labelled, Tail, train
from rehead.training.vocabulary import reached_alone

# Training reaches about this share of a plain matrix product's speed: measured on a small language model, where
# optimizer, norms and short batches take the rest.
TRAINING_EFFICIENCY = 0.4
# Seconds that a step takes for each trained block on an accelerator, however little there is to compute: its operations
# have to be launched one by one. 6 ms with `full`, 9 with `lora` (H200).
_LAUNCHING = 0.008


@dataclass(frozen=True)
class Stage:
    """One way of tuning that was tried.

    Attributes:
        tune: `head` for the probe.
        validation_log_loss: with the weights that it ended with.
        seconds: that it took.
        kept: whether its weights are part of the classifier.
        trainable: number of weights that it trained.
        history: of the training; None for the probe.
    """

    tune: str
    validation_log_loss: float
    seconds: float
    kept: bool
    trainable: int
    history: History | None


class Ladder:
    """Goes from the probe to costlier ways of tuning.

    Attributes:
        stages: what was tried, the probe first.
        kept: the last of them that was kept.
        logits: (n_validation, n_classes) float32 of the classifier as it stands.
        adapters: of `lora`, where that was kept.
        stopped: why `auto` went no further.
    """

    def __init__(
        self,
        run: Run,
        head: Head,
        depth: int,
        features: Features,
        logits: npt.NDArray[np.float32],
        resumption: Resumption | None,
        watch: Watch | None = None,
    ) -> None:
        self._run, self._head, self._depth, self._features = run, head, depth, features
        self._resumption, self._watch = resumption, watch
        self._chooses = run.settings.tune == "auto"
        self._targets = run.validation.labels
        self.logits = logits
        self.adapters: Adapters | None = None
        self.stopped: str | None = None
        trainable = sum(weight.numel() for weight in head.linear.parameters())
        self.kept = Stage("head", float(self._losses(logits).mean()), run.clock.seconds["probe"], True, trainable, None)
        self.stages = [self.kept]

    def climb(self) -> None:
        """Tries the ways that were asked for."""
        for way in self._run.ways:
            if self._chooses and not self._has_time(way):
                return
            with self._what_is_reached(way):
                stage = self._try(way)
            self.stages.append(stage)
            if stage.kept:
                self.kept = stage
            elif self._chooses:
                better = self.kept.validation_log_loss - stage.validation_log_loss
                self.stopped = f"{way} gained {max(better, 0):.4f} in validation loss, which is within the noise"
                return

    def _has_time(self, way: str) -> bool:
        run = self._run
        spent = time.perf_counter() - run.clock.begun
        needed = expected_seconds(run, way, self._depth)
        if spent + needed <= run.settings.budget:
            return True
        self.stopped = (
            f"{way} would take about {needed:.0f} s more, and {spent:.0f} of the {run.settings.budget:.0f} s of the "
            "budget are spent (--budget)"
        )
        return False

    def _what_is_reached(self, way: str) -> AbstractContextManager[None]:
        """Where all weights are trained, of the embedding those that these texts reach."""
        run = self._run
        if way != "full" or run.train.pictures is not None:
            return nullcontext()
        return reached_alone(run.base, run.encoded.ids.values)

    def _try(self, way: str) -> Stage:
        run = self._run
        begun = time.perf_counter()
        adapted = None
        if way == "lora":
            copied = lora.copy_of(run.base, hardware.native_dtype())
            adapters, adapted = lora.attach(copied, run.settings.seed)
            tail = Tail.of_adapters(copied, self._head, self._depth, adapters)
        elif way == "full":
            tail = Tail.of_everything(run.base, self._head, self._depth)
        else:
            cut = self._depth - trained_blocks(way, self._depth)
            tail = Tail.of_blocks(run.base, self._head, cut, self._depth)
        progress.say(f"training {way}: {sum(weight.numel() for weight in tail.weights()):,} weights")
        before = [weight.detach().clone() for weight in tail.weights()] if self._chooses else []
        train_inputs, held_out = self._inputs(tail)
        recipe = replace(run.settings.recipe, learning_rate=run.settings.rate_for(way))
        deadline = run.clock.begun + run.settings.budget if self._chooses else None
        checkpoint = self._checkpoint(way, tail, train_inputs)
        history = train(tail, train_inputs, held_out, recipe, checkpoint, deadline, self._watch)
        self._warn_of_lost(way, history)
        logits = tail.logits(held_out.inputs).numpy()
        tail.trained.to("cpu")
        run.base.model.to("cpu")
        kept = not self._chooses or self._is_better(logits)
        if kept:
            self.logits = logits
            merged = None if adapted is None else lora.merge(tail.base, run.base, adapted)
            # They belong to the published weights: where other blocks were trained before, they are no use alone.
            self.adapters = merged if self.kept.tune == "head" else None
        else:
            with torch.no_grad():
                for weight, old in zip(_weights(tail.trained), before, strict=True):
                    weight.copy_(old)
        loss = float(self._losses(logits).mean())
        trainable = sum(weight.numel() for weight in _weights(tail.trained))
        return Stage(way, loss, time.perf_counter() - begun, kept, trainable, history)

    def _inputs(self, tail: Tail) -> tuple[Labelled, Labelled]:
        run = self._run
        everything = torch.arange(len(run.labels))
        labels = torch.from_numpy(run.labels)
        train_rows, held_out_rows = everything[: run.n_train], everything[run.n_train :]

        tokens = self._features.tokens
        n_frozen = sum(read <= tail.cut for read in self._head.reads)
        below = torch.cat(self._features.pooled[:n_frozen], dim=1) if n_frozen else None

        def inputs(rows: torch.Tensor, anew: bool) -> Inputs:
            # Tokens were kept for the first way of tuning; the others begin at the text.
            if tail.cut and tokens is not None:
                return Kept(tokens.take(rows), None if below is None else below[rows])
            base = run.frozen if tail.cut else tail.base
            ids = run.encoded.ids.take(rows)
            return Computed(base, ids, tail.cut, None if below is None else below[rows], anew)

        # Where nothing is kept, views cost no more if they are others in each epoch.
        examples = Labelled(inputs(train_rows, run.views > 1 and not tail.cut), labels[train_rows])
        return examples, Labelled(inputs(held_out_rows, False), labels[held_out_rows])

    def _checkpoint(self, way: str, tail: Tail, examples: Labelled) -> Checkpoint | None:
        if self._resumption is None:
            return None
        run = self._run
        decides = [
            replace(run.settings, budget=0.0),
            fingerprint(run.base.folder),
            # What was measured and chosen so far, which another machine might measure otherwise.
            [tail.cut, tail.depth, self._head.pooling, self.kept.tune],
            [type(examples.inputs).__name__, hardware.native_dtype(), hardware.device().type],
            [version(package) for package in ("rehead", "torch", "transformers", "peft")],
        ]
        digest = hashlib.sha256(repr(decides).encode())
        digest.update(run.labels.tobytes())
        digest.update(run.encoded.ids.digests().tobytes())
        return Checkpoint(self._resumption.folder, way, digest.hexdigest(), self._resumption.resume)

    def _is_better(self, logits: npt.NDArray[np.float32]) -> bool:
        """Lower in validation loss by more than one standard error of the difference."""
        gain = self._losses(self.logits) - self._losses(logits)
        return len(gain) > 1 and float(gain.mean()) > float(gain.std(ddof=1)) / math.sqrt(len(gain))

    def _losses(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(n_validation,) log loss of each example."""
        return likelihood.losses(logits, self._targets)

    def _warn_of_lost(self, way: str, history: History) -> None:
        if history.lost_rows:
            lines = ", ".join(str(line) for line in self._run.train.lines[history.lost_rows].tolist())
            progress.warn(
                f"{way}: the loss was not a number on the batch of rows {lines} of {self._run.train.source}, so the "
                f"training stopped and the weights of epoch {history.best_epoch} are kept; try a lower --learning-rate"
            )


def expected_seconds(run: Run, way: str, depth: int) -> float:
    """What a way of tuning is likely to take, from its operations and the machine's speed."""
    tokens = int(run.encoded.tokens[: run.n_train].sum())
    cut = depth - trained_blocks(way, depth)
    operations = training_flops(run.base, tokens, cut, depth, kept=run.keeps_tokens(cut))
    return training_seconds(run, run.settings.recipe.epochs * operations, depth - cut)


def training_seconds(run: Run, operations: float, blocks: int) -> float:
    """What training so many blocks is likely to take, with so many operations in all epochs together."""
    speed = TRAINING_EFFICIENCY * hardware.product_speed(hardware.native_dtype())
    recipe = run.settings.recipe
    steps = recipe.epochs * math.ceil(run.n_train / recipe.batch_size)
    launching = 0.0 if hardware.device().type == "cpu" else _LAUNCHING * blocks * steps
    return max(operations / speed, launching)


def _weights(trained: nn.Module) -> list[nn.Parameter]:
    return list(dict.fromkeys(trained.parameters()))
