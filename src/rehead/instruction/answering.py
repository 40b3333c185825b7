"""Writing answers as a training task: the weights, examples and loss that `rehead.training.loop.train` works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from rehead.instruction.language_model import is_tied, summed_loss
from rehead.instruction.tokens import ConversationTokens
from rehead.models.forward_pass import batches, token_budget
from rehead.models.packing import Packing
from rehead.models.text_backbone import TextBackbone
from rehead.runtime import hardware
from rehead.training.features import training_flops
from rehead.training.inputs import Computed, Inputs, autocast
from rehead.training.loop import unfrozen
from rehead.training.tail import activation_bytes


@dataclass(frozen=True)
class Answers:
    """Conversations with the inputs of the trained layers."""

    tokens: ConversationTokens
    inputs: Inputs


@dataclass(frozen=True)
class Answering:
    """Layers [cut, depth) of a language model that learn to write answers; conversations lie packed, each on its own.

    Attributes:
        trained: holds the weights that change.
    """

    base: TextBackbone
    cut: int
    trained: nn.Module
    examples: Answers
    validation: Answers

    @property
    def lengths(self) -> Tensor:
        """Return (n,) int64, tokens of each conversation."""
        return self.examples.tokens.ids.lengths

    def weights(self) -> list[nn.Parameter]:
        """Move the model to the device and unfreeze the weights that change; return them."""
        self.base.model.to(hardware.device())
        return unfrozen(self.trained, self.base.model)

    def switch(self, *, training: bool) -> None:
        self.base.train(training)

    def weight_of(self, rows: Tensor) -> float:
        """Return the number of learned tokens, by which the added losses are divided."""
        return float(self.examples.tokens.n_learned[rows].sum())

    @cached_property
    def _recompute(self) -> bool:
        return activation_bytes(self.base, self.cut, len(self.base.layers)) > hardware.free_device_memory() / 2

    def loss(self, rows: Tensor) -> Tensor:
        """Return the losses of all learned tokens of these conversations, added up."""
        return losses(self.base, self.examples, rows, self.cut, recompute=self._recompute)

    def validation_losses(self) -> Tensor:
        """Return (1,) the mean loss of a learned token of the validation conversations."""
        return torch.tensor([mean_loss(self.base, self.validation, self.cut)])

    def flops_an_epoch(self) -> float:
        kept = not isinstance(self.examples.inputs, Computed)
        tokens = int(self.lengths.sum())
        blocks = training_flops(self.base, tokens, self.cut, len(self.base.layers), kept=kept)
        learned = int(self.examples.tokens.n_learned.sum())
        return blocks + 6.0 * learned * self.base.hidden_size * int(self.base.config.vocab_size)


def trained_part(base: TextBackbone, cut: int) -> nn.Module:
    """Return the layers from the cut on and the final norm; from 0 on the embedding and the output layer, too."""
    if cut:
        return nn.ModuleList([*base.layers[cut:], base.norm])
    everything = [base.body]
    return nn.ModuleList(everything if is_tied(base) else [*everything, base.model.get_output_embeddings()])


def losses(base: TextBackbone, answers: Answers, rows: Tensor, cut: int, *, recompute: bool = False) -> Tensor:
    """Return the cross-entropy of all learned tokens of these conversations, added up."""
    tokens = answers.tokens
    packing = Packing(tokens.ids.lengths[rows].to(hardware.device()))
    with autocast(hardware.native_dtype() == torch.bfloat16):
        hidden, packing = base.filled(answers.inputs.hidden(rows, packing), packing)
        hidden = base.run_layers(hidden, packing, cut, len(base.layers), recompute=recompute)
        # A token is predicted from the state of the one before it.
        places = tokens.learned.take(rows).values.nonzero().squeeze(1)
        targets = tokens.ids.take(rows).values[places].to(hidden.device)
        states = base.normalise(hidden[(places - 1).to(hidden.device)])
        return summed_loss(base, states, targets)


def mean_loss(base: TextBackbone, answers: Answers, cut: int = 0) -> float:
    """Return the mean cross-entropy a learned token, in evaluation mode; its exponential is the perplexity."""
    was_training = base.model.training
    base.train(False)
    base.model.to(hardware.device())
    total = 0.0
    lengths = answers.tokens.ids.lengths
    order = torch.argsort(lengths, stable=True)
    with torch.inference_mode():
        for places in batches(lengths[order], token_budget(base)):
            total += float(losses(base, answers, order[places], cut))
    base.train(was_training)
    return total / int(answers.tokens.n_learned.sum())
