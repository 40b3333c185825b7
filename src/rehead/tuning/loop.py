"""Trains the tail: blocks [cut, depth), final norm and head, from the token states kept at the cut.

The head starts from the solved probe (LP-FT: Kumar et al., ICLR 2022, arXiv 2202.10054). AdamW, linear
warm-up and cosine decay, gradient clipping; after each epoch the validation loss is measured, and the weights
with the lowest one are kept, the probe's own included.
"""

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rehead import hardware, progress
from rehead.bases.cut import Base, needed_mask, normalise, run_blocks
from rehead.bases.ragged import Ragged
from rehead.heads import Head, pool, resolved
from rehead.tuning.features import TOKEN_BUDGET, batches, forward_flops


@dataclass(frozen=True)
class Recipe:
    """How the tail is trained.

    Attributes:
        epochs: passes over the training examples.
        batch_size: examples a step.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW; on matrices only.
        warmup: share of the steps over which the learning rate rises.
        clip: largest norm of the gradient.
        seed: for the order of the examples and for dropout.
    """

    epochs: int = 5
    batch_size: int = 8
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Tokens:
    """Token states at the cut, with the class of each text.

    Attributes:
        states: n sequences of (length, hidden_size).
        labels: (n,) int64.
    """

    states: Ragged
    labels: Tensor


@dataclass(frozen=True)
class History:
    """What the training did.

    Attributes:
        validation_losses: before the first epoch and after each.
        best_epoch: whose weights were kept; 0 is the solved probe with the pretrained blocks.
        flops: forward and backward operations in the tail's blocks.
    """

    validation_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    flops: float = 0.0


def tail_modules(base: Base, head: Head, cut: int, depth: int) -> nn.ModuleList:
    """What the tail trains."""
    return nn.ModuleList([*base.blocks[cut:depth], base.norm, head])


def tail_logits(base: Base, head: Head, states: Ragged, cut: int, depth: int) -> Tensor:
    """Token states of n texts at the cut → logits (n, n_classes) float32 on the CPU, without gradients."""
    device = hardware.device()
    logits = torch.empty(len(states), head.linear.out_features)
    with torch.inference_mode(), _autocast(device):
        for rows in batches(states.lengths, TOKEN_BUDGET):
            batch, mask = states.padded(rows)
            logits[rows] = _forward(base, head, batch.to(device), mask.to(device), cut, depth).cpu()
    return logits


def _forward(base: Base, head: Head, states: Tensor, mask: Tensor, cut: int, depth: int) -> Tensor:
    """Right-padded states at the cut (n, length, hidden_size) → logits (n, n_classes) float32."""
    hidden = normalise(base, run_blocks(base, states.float(), needed_mask(base, mask), cut, depth))
    pooled = pool(hidden.float(), mask, resolved(head.pooling, base.family.causal))
    with torch.autocast(states.device.type, enabled=False):
        logits: Tensor = head(pooled)
    return logits


def train_tail(
    base: Base, head: Head, train: Tokens, validation: Tokens, cut: int, depth: int, recipe: Recipe
) -> History:
    """Trains in place and leaves the weights with the lowest validation loss in `base` and `head`."""
    device = hardware.device()
    modules = tail_modules(base, head, cut, depth).to(device)
    for weight in base.model.parameters():
        weight.requires_grad_(False)
    weights = [weight.requires_grad_(True) for weight in modules.parameters()]
    steps_an_epoch = math.ceil(len(train.labels) / recipe.batch_size)
    optimizer = _optimizer(modules, recipe)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _schedule(step, steps_an_epoch * recipe.epochs, recipe.warmup)
    )
    losses = [_mean_loss(base, head, validation, cut, depth)]
    best, best_epoch = copy.deepcopy(modules.state_dict()), 0
    order = torch.Generator().manual_seed(recipe.seed)
    tokens = int(train.states.lengths.sum())
    with torch.random.fork_rng(), progress.bar("training the tail", tokens * recipe.epochs) as advance:
        torch.manual_seed(recipe.seed)
        for epoch in range(1, recipe.epochs + 1):
            modules.train()
            for rows in torch.randperm(len(train.labels), generator=order).split(recipe.batch_size):
                states, mask = train.states.padded(rows)
                with _autocast(device):
                    logits = _forward(base, head, states.to(device), mask.to(device), cut, depth)
                loss = nn.functional.cross_entropy(logits, train.labels[rows].to(device))
                loss.backward()
                nn.utils.clip_grad_norm_(weights, recipe.clip)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
                advance(int(mask.sum()))
            modules.eval()
            losses.append(_mean_loss(base, head, validation, cut, depth))
            if losses[-1] < losses[best_epoch]:
                best, best_epoch = copy.deepcopy(modules.state_dict()), epoch
    modules.load_state_dict(best)
    base.model.requires_grad_(False)
    head.requires_grad_(False)
    flops = 3 * recipe.epochs * forward_flops(base, tokens, cut, depth)  # backward costs twice the forward pass
    return History(losses, best_epoch, flops)


def _optimizer(modules: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [weight for weight in modules.parameters() if weight.dim() > 1]
    vectors = [weight for weight in modules.parameters() if weight.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def _schedule(step: int, steps: int, warmup: float) -> float:
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _mean_loss(base: Base, head: Head, data: Tokens, cut: int, depth: int) -> float:
    logits = tail_logits(base, head, data.states, cut, depth)
    return float(nn.functional.cross_entropy(logits.double(), data.labels))


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=hardware.native_dtype() == torch.bfloat16)
