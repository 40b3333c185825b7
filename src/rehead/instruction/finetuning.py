"""Fine-tuning of a language model on tokenised conversations: last layers, LoRA, or all weights."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from importlib.metadata import version

from torch import nn

from rehead.instruction.answering import Answering, Answers, trained_part
from rehead.instruction.tokens import ConversationTokens
from rehead.models.adapters import Adapters
from rehead.models.loading import digest_of_weights
from rehead.models.text_backbone import TextBackbone
from rehead.runtime import hardware, progress
from rehead.training import lora
from rehead.training.checkpoint import Checkpoint, Resumption
from rehead.training.config import trained_layers
from rehead.training.features import store_for, trunk_pass
from rehead.training.inputs import Computed, Kept
from rehead.training.loop import History, Recipe, train

_LEARNING_RATES = {"lora": 1e-3, "full": 5e-5}
_RATE_OF_LAYERS = 2e-4
# Epochs without a lower validation loss, after which a training ends.
_PATIENCE = 2


@dataclass(frozen=True)
class Settings:
    """How a language model is fine-tuned.

    Attributes:
        tune: `last-K`, `lora` or `full`.
        style: see `rehead.instruction.styles`.
        max_length: of a conversation, in tokens.
    """

    base: str
    tune: str
    style: str
    max_length: int
    recipe: Recipe
    seed: int


@dataclass(frozen=True)
class Tuned:
    """A training that has come to its end.

    Attributes:
        adapters: of `lora`; their effect is in the base's weights already.
        seconds: that it took.
    """

    adapters: Adapters | None
    history: History
    seconds: float


def usual_rate(tune: str) -> float:
    """Return the learning rate that suits a strategy, at its highest."""
    return _LEARNING_RATES.get(tune, _RATE_OF_LAYERS)


def finetune(
    base: TextBackbone,
    settings: Settings,
    examples: ConversationTokens,
    validation: ConversationTokens,
    resumption: Resumption | None = None,
    deadline: float | None = None,
) -> Tuned:
    """Train the base in place, in float32 weights.

    Args:
        deadline: on the clock of time.perf_counter; the training ends by then, see `rehead.training.loop.train`.

    Raises:
        Interrupted: Ctrl-C during the training.
        SettingError: what is to be resumed was begun with something else.
    """
    begun = time.perf_counter()
    config, trained_base, cut = None, base, 0
    trained: nn.Module
    if settings.tune == "lora":
        trained_base = lora.copy_of(base, hardware.native_dtype())
        trained, config = lora.attach(trained_base, settings.seed)
    else:
        cut = 0 if settings.tune == "full" else len(base.layers) - trained_layers(settings.tune, len(base.layers))
        trained = trained_part(base, cut)
    answering = Answering(
        trained_base, cut, trained, *(_entering(trained_base, part, cut) for part in (examples, validation))
    )
    progress.say(f"training {settings.tune}: {sum(weight.numel() for weight in answering.weights()):,} weights")
    recipe = replace(settings.recipe, patience=_PATIENCE)
    checkpoint = None if resumption is None else _checkpoint(base, settings, cut, (examples, validation), resumption)
    history = train(answering, recipe, checkpoint, deadline)
    trained_base.model.to("cpu")
    adapters = None if config is None else lora.merge(trained_base, base, config)
    return Tuned(adapters, history, time.perf_counter() - begun)


def _entering(base: TextBackbone, tokens: ConversationTokens, cut: int) -> Answers:
    """Return conversations with the inputs of the trained layers: states that are kept, or the text."""
    if not cut:
        return Answers(tokens, Computed(base, tokens.ids, 0))
    frozen = base.frozen()
    states = trunk_pass(frozen, tokens.ids, depths=[], pooling="mean", cut=cut, store=store_for(frozen)).tokens
    return Answers(tokens, Computed(frozen, tokens.ids, cut) if states is None else Kept(states))


def _checkpoint(
    base: TextBackbone,
    settings: Settings,
    cut: int,
    parts: tuple[ConversationTokens, ConversationTokens],
    resumption: Resumption,
) -> Checkpoint:
    versions = [version(package) for package in ("rehead", "torch", "transformers", "peft")]
    identity = [settings, cut, digest_of_weights(base.folder), hardware.native_dtype(), versions]
    digest = hashlib.sha256(repr(identity).encode())
    for tokens in parts:
        for values in (tokens.ids.values, tokens.ids.offsets, tokens.learned.values):
            digest.update(values.numpy().tobytes())
    return Checkpoint(resumption.folder, settings.tune, digest.hexdigest(), resumption.resume)
