"""Trains blocks [cut, depth), final norm and head: from the token states kept at the cut, or from the text.

The head starts from the solved probe (LP-FT: Kumar et al., ICLR 2022, arXiv 2202.10054). AdamW, linear
warm-up and cosine decay, gradient clipping; after each epoch the validation loss is measured, and the weights
with the lowest one are kept, the probe's own included.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from rehead import hardware, progress
from rehead.bases.cut import Base
from rehead.bases.packing import Packing
from rehead.errors import Interrupted, first_line
from rehead.heads import Head, halves, is_family_head
from rehead.tuning.checkpoint import Checkpoint, interruptible
from rehead.tuning.features import TOKEN_BUDGET, batches, training_flops
from rehead.tuning.inputs import Computed, Inputs, autocast
from rehead.tuning.objective import Objective

# A step's texts go through in portions of so many tokens, and their gradients add up.
PORTION = 4096
# A run that is killed loses so many seconds at most.
_SECONDS_BETWEEN_CHECKPOINTS = 120.0


@dataclass(frozen=True)
class Recipe:
    """How the weights are trained.

    Attributes:
        epochs: passes over the training examples, at most.
        batch_size: examples a step.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW; on matrices only.
        warmup: share of the steps over which the learning rate rises.
        clip: largest norm of the gradient.
        patience: stop after so many epochs without a lower validation loss.
        label_smoothing, balanced: see `rehead.tuning.objective`.
        seed: for the order of the examples and for dropout.
    """

    epochs: int = 5
    batch_size: int = 8
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    patience: int = 2
    label_smoothing: float = 0.0
    balanced: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Tail:
    """The blocks [cut, depth) of a base with its head, and what of them is trained.

    Attributes:
        trained: holds the weights that change.
    """

    base: Base
    head: Head
    cut: int
    depth: int
    trained: nn.Module

    @classmethod
    def of_blocks(cls, base: Base, head: Head, cut: int, depth: int) -> Tail:
        """Trains the blocks from the cut on, the final norm and the head.

        Where the head reads frozen blocks too, the norm stays as it is: those states are kept as it made them.
        """
        norm = [base.norm] if head.reads[0] > cut else []
        return cls(base, head, cut, depth, nn.ModuleList([*base.blocks[cut:depth], *norm, head]))

    @classmethod
    def of_everything(cls, base: Base, head: Head, depth: int) -> Tail:
        """Trains the embedding too."""
        return cls(base, head, 0, depth, nn.ModuleList([base.backbone, head]))

    def weights(self) -> list[nn.Parameter]:
        """What is trained, each once; unfreezes it, and freezes the rest."""
        wanted = list(dict.fromkeys(self.trained.parameters()))
        self.base.model.requires_grad_(False)
        for weight in wanted:
            weight.requires_grad_(True)
        return wanted

    def forward(self, hidden: Tensor, packing: Packing, below: Tensor | None = None, recompute: bool = False) -> Tensor:
        """Packed states at the cut (T, hidden_size) → logits (n, n_classes) float32.

        Args:
            below: (n, width) what the head reads of frozen blocks, up to the cut.
            recompute: see `run_blocks`.
        """
        pooling = self.head.pooling
        only = pooling if is_family_head(pooling) else None
        parts = halves(pooling, self.base.whole)
        seen = [] if below is None else [below.to(hidden.device)]
        done = self.cut
        for stop in (read for read in self.head.reads if read > self.cut):
            hidden = self.base.run_blocks(hidden, packing, done, stop, only=only, recompute=recompute)
            normed = self.base.normalise(hidden).float()
            seen += [normed] if only else [self.base.pooled(normed, packing, part) for part in parts]
            done = stop
        with torch.autocast(hidden.device.type, enabled=False):
            logits: Tensor = self.head(torch.cat(seen, dim=1))
        return logits

    def logits(self, inputs: Inputs) -> Tensor:
        """Logits of n texts, (n, n_classes) float32 on the CPU, in evaluation mode and without gradients."""
        device = self.to_device()
        result = torch.empty(len(inputs.lengths), self.head.linear.out_features)
        was_training = self.head.training
        self.switch(training=False)
        order = torch.argsort(inputs.lengths, stable=True)
        with torch.inference_mode(), autocast(self._in_bf16):
            for places in batches(inputs.lengths[order], TOKEN_BUDGET):
                rows = order[places]
                packing = Packing(inputs.lengths[rows].to(device))
                below = None if inputs.below is None else inputs.below[rows]
                result[rows] = self.forward(inputs.hidden(rows, packing), packing, below).cpu()
        self.switch(training=was_training)
        return result

    def to_device(self) -> torch.device:
        """Brings what is trained and what is frozen to where it is computed, and says where that is."""
        device = hardware.device()
        self.base.model.to(device)
        self.trained.to(device)
        return device

    def switch(self, *, training: bool) -> None:
        """Turns dropout on or off, in what is frozen too: adapters train beside it."""
        self.base.train(training)
        self.head.train(training)

    @property
    def _in_bf16(self) -> bool:
        return hardware.native_dtype() == torch.bfloat16


@dataclass(frozen=True)
class Labelled:
    """Inputs of n texts with their labels, (n,) or (n, n_classes) int64 (see `rehead.data.labels`)."""

    inputs: Inputs
    labels: Tensor


@dataclass
class History:
    """What the training did.

    Attributes:
        validation_losses: before the first epoch and after each.
        best_epoch: whose weights were kept; 0 is the solved probe with the pretrained blocks.
        stopped: why before the last epoch, or None.
        lost_rows: the training examples of the batch whose loss was not a number.
        flops: forward and backward operations in the blocks.
    """

    validation_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str | None = None
    lost_rows: list[int] = field(default_factory=list)
    flops: float = 0.0


def train(
    tail: Tail,
    examples: Labelled,
    validation: Labelled,
    recipe: Recipe,
    checkpoint: Checkpoint | None = None,
    deadline: float | None = None,
) -> History:
    """Trains in place and leaves the weights with the lowest validation loss.

    Args:
        checkpoint: where the state is kept; None keeps none.
        deadline: on the clock of time.perf_counter; no epoch begins that would end after it, if it takes as long as
            the one before; the first one always begins.

    Raises:
        Interrupted: Ctrl-C; the state was kept if there is a checkpoint.
        SettingError: the checkpoint belongs to another run.
    """
    hardware.keep_freed_memory()
    run = _Training(tail, examples, validation, recipe, checkpoint)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        run.start()
        with interruptible() as interruption:
            run.epochs(interruption, deadline)
    run.finish()
    return run.history


class _Training:
    """One run of `train`."""

    def __init__(
        self, tail: Tail, examples: Labelled, validation: Labelled, recipe: Recipe, checkpoint: Checkpoint | None
    ) -> None:
        self.tail, self.examples, self.validation = tail, examples, validation
        self.recipe, self.checkpoint = recipe, checkpoint
        self.device = tail.to_device()
        self.weights = tail.weights()
        self.optimizer = _optimizer(self.weights, recipe)
        self.steps_an_epoch = math.ceil(len(examples.labels) / recipe.batch_size)
        self.step = 0
        self.history = History()
        self.best: list[Tensor] = []
        self.best_is_current = True
        self.objective = Objective.of(
            examples.labels,
            tail.head.linear.out_features,
            balanced=recipe.balanced,
            label_smoothing=recipe.label_smoothing,
        )
        self.recompute = activation_bytes(tail.base, tail.cut, tail.depth) > hardware.free_memory() / 2
        self.saved_at = time.monotonic()

    def start(self) -> None:
        """Takes up the run on disk, or measures the loss to begin with."""
        state = self.checkpoint.read() if self.checkpoint else None
        if state is None:
            self.history.validation_losses.append(self._validation_loss())
            self.best = [weight.detach().clone() for weight in self.weights]
            return
        tensors, told = state
        self.step = told["step"]
        self.history = History(**told["history"])
        self.best_is_current = "best.0" not in tensors
        best = "weight" if self.best_is_current else "best"
        self.best = [tensors[f"{best}.{i}"].to(self.device) for i in range(len(self.weights))]
        torch.set_rng_state(tensors["random"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"])
        with torch.no_grad():
            for i, weight in enumerate(self.weights):
                weight.copy_(tensors[f"weight.{i}"])
                if f"mean.{i}" in tensors:
                    self.optimizer.state[weight] = {
                        "step": torch.tensor(float(self.step), device=self.device),
                        "exp_avg": tensors[f"mean.{i}"].to(self.device),
                        "exp_avg_sq": tensors[f"square.{i}"].to(self.device),
                    }
        progress.say(f"going on in epoch {self.step // self.steps_an_epoch + 1}")

    def epochs(self, interruption: threading.Event, deadline: float | None) -> None:
        order = torch.Generator().manual_seed(self.recipe.seed)
        n = len(self.examples.labels)
        total = n * self.recipe.epochs
        with progress.bar("training", total) as advance:
            advance(min(total, self.step * self.recipe.batch_size))
            for epoch in range(1, self.recipe.epochs + 1):
                rows = torch.randperm(n, generator=order)
                if epoch < len(self.history.validation_losses):
                    continue  # done before the interruption
                if self._is_over(epoch, deadline):
                    return
                begun = time.perf_counter()
                done = self.step - (epoch - 1) * self.steps_an_epoch
                for batch in rows.split(self.recipe.batch_size)[done:]:
                    if not self._take_step(batch):
                        return
                    advance(len(batch))
                    if interruption.is_set() or time.monotonic() - self.saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
                        self._write_state()
                    self._stop_if(interruption.is_set())
                self._end_epoch(epoch)
                self._stop_if(interruption.is_set())
                self.seconds_an_epoch = time.perf_counter() - begun

    seconds_an_epoch = 0.0

    def _is_over(self, epoch: int, deadline: float | None) -> bool:
        history = self.history
        if history.stopped:
            return True
        if epoch - 1 - history.best_epoch >= self.recipe.patience:
            history.stopped = f"no lower validation loss in {self.recipe.patience} epochs"
        elif deadline is not None and time.perf_counter() + self.seconds_an_epoch > deadline:
            history.stopped = "the time budget was used up"
        return history.stopped is not None

    def _take_step(self, rows: Tensor) -> bool:
        """One step of the optimizer; False where the loss is not a number, and the training is over."""
        factor = _schedule(self.step, self.steps_an_epoch * self.recipe.epochs, self.recipe.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.recipe.learning_rate
        self.tail.switch(training=True)
        lengths = self.examples.inputs.lengths[rows]
        weight_of_batch = self.objective.weight_of(self.examples.labels[rows])
        loss = 0.0
        for portion in batches(lengths, PORTION):
            portion_loss = self._loss(rows[portion], lengths[portion]) / weight_of_batch
            portion_loss.backward()
            loss += portion_loss.item()
        norm = self._clip()
        if not math.isfinite(loss) or not math.isfinite(norm):
            self.history.stopped = "the loss was not a number"
            self.history.lost_rows = rows.tolist()
            return False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.best_is_current = False
        return True

    def _clip(self) -> float:
        """Shortens the gradient to the recipe's norm; returns the norm that it had."""
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if norm > self.recipe.clip:  # torch's `clip_grad_norm_` multiplies by 1 otherwise: a pass through them all
            nn.utils.clip_grads_with_norm_(self.weights, self.recipe.clip, norm)
        return float(norm)

    def _loss(self, rows: Tensor, lengths: Tensor) -> Tensor:
        packing = Packing(lengths.to(self.device))
        with autocast(hardware.native_dtype() == torch.bfloat16):
            inputs = self.examples.inputs
            below = None if inputs.below is None else inputs.below[rows]
            logits = self.tail.forward(inputs.hidden(rows, packing), packing, below, self.recompute)
        return self.objective.total(logits, self.examples.labels[rows].to(self.device))

    def _end_epoch(self, epoch: int) -> None:
        history = self.history
        history.validation_losses.append(self._validation_loss())
        if history.validation_losses[-1] < history.validation_losses[history.best_epoch]:
            history.best_epoch = epoch
            for best, weight in zip(self.best, self.weights, strict=True):
                best.copy_(weight.detach())
            self.best_is_current = True
        self._write_state()

    def _validation_loss(self) -> float:
        logits = self.tail.logits(self.validation.inputs).double()
        return self.objective.without_smoothing().mean(logits, self.validation.labels)

    def _stop_if(self, interrupted: bool) -> None:
        if interrupted:
            kept = "; the same command with --resume goes on from here" if self.checkpoint else ""
            raise Interrupted(f"interrupted after step {self.step:,} of the training{kept}")

    def _write_state(self) -> None:
        if self.checkpoint is None:
            return
        tensors = {"random": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        for i, weight in enumerate(self.weights):
            tensors[f"weight.{i}"] = weight
            if not self.best_is_current:
                tensors[f"best.{i}"] = self.best[i]
            moments = self.optimizer.state.get(weight)
            if moments:
                tensors |= {f"mean.{i}": moments["exp_avg"], f"square.{i}": moments["exp_avg_sq"]}
        try:
            self.checkpoint.write(tensors, {"step": self.step, "history": vars(self.history)})
        except (OSError, SafetensorError) as error:
            progress.warn(
                f"the training goes on without keeping its state: {self.checkpoint.folder} cannot be written to "
                f"({first_line(error)}); free some space there to be able to resume"
            )
            self.checkpoint = None
        self.saved_at = time.monotonic()

    def finish(self) -> None:
        with torch.no_grad():
            for weight, best in zip(self.weights, self.best, strict=True):
                weight.copy_(best)
        self.optimizer.zero_grad(set_to_none=True)
        self.tail.switch(training=False)
        self.tail.base.model.requires_grad_(False)
        self.tail.head.requires_grad_(False)
        tail = self.tail
        tokens = tail.base.tokens_of(self.examples.inputs.lengths) * self.step // self.steps_an_epoch
        kept = not isinstance(self.examples.inputs, Computed)
        self.history.flops = training_flops(tail.base, tokens, tail.cut, tail.depth, kept=kept)


def _optimizer(weights: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    groups = [
        {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [weight for weight in weights if weight.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def _schedule(step: int, steps: int, warmup: float) -> float:
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def activation_bytes(base: Base, cut: int, depth: int) -> float:
    """About what one portion's activations take until its backward pass: in and out of each layer, 6 bytes a value."""
    widths = sum(max(weight.shape) for block in base.blocks[:1] for weight in block.parameters())
    return 6.0 * PORTION * widths * (depth - cut)
