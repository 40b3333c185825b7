"""Choose the backbone by the data: their language, a probe on a few hundred of them, and the time there is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Examples, Index, share_of_english
from rehead.data.labels import strata
from rehead.data.splits import stratified
from rehead.evaluation.likelihood import even_loss
from rehead.models import loading
from rehead.models.heads import build
from rehead.models.model_inputs import encode_inputs
from rehead.runtime import hardware, progress
from rehead.runtime.errors import FetchError
from rehead.training import depth_search
from rehead.training.config import TrainingConfig
from rehead.training.features import forward_flops, store_for, trunk_pass

# Of a shared trunk pass over some examples, cut to some tokens, each backbone's probe is judged by parts in turn.
_EXAMPLES, _TOKENS = 400, 96
_FOLDS = 5
# Texts are taken to be English where this share of them are. Of six English sets 95 to 100 % are guessed to be, of a
# German one none.
_ENGLISH = 0.8
# Trunk pass, a training that is worth it and test take about this many times a trunk pass at the full speed of
# the matrix product. Where that is more than the budget, a smaller backbone is taken.
_PASSES = 4.0
# A little less than even odds. Where a probe of the smallest is surer of each example than that, a larger one has
# nothing to gain. One that errs on one in a hundred has: of 1,031 messages mpnet gets 4 wrong, MiniLM 9, both trained.
_SURE = 0.995
# Characters a token, in English and in most other languages that are written with an alphabet.
_CHARACTERS = 4.0


@dataclass(frozen=True)
class BackboneChoice:
    """The backbone to use, and why.

    Attributes:
        name: see `rehead.models.loading.locate`.
        losses: calibrated held-out log loss of each backbone's probe; empty where there was nothing to choose.
    """

    name: str
    losses: dict[str, float] = field(default_factory=dict)


def choose_backbone(train: Examples, config: TrainingConfig) -> BackboneChoice:
    """Return one of the backbones that suit the examples.

    Where the head alone is trained, that is the smallest unless a larger one's probe is better beyond chance. Where
    layers are, it is the largest unless its probe is worse beyond chance: trained, larger ones gain more. With probes
    that are as good as each other (ironic messages), MiniLM's last four layers reach 70.8 %, mpnet's 74.7.

    Raises:
        FetchError: the smallest cannot be had.
    """
    names = _suitable(train, config)
    if len(names) == 1:
        return BackboneChoice(names[0])
    rows = _some(train, config.seed)
    some = train.take(rows)
    # Whether more than the head is likely to be trained.
    trains = train.images is None and (config.auto_trains_layers or config.tune not in ("auto", "head"))
    losses: dict[str, npt.NDArray[np.float64]] = {}
    for name in names:
        try:
            found = _losses(name, some, train, config)
        except FetchError as error:
            if name == names[0]:
                raise
            progress.warn(f"{name} is not tried: {error}")
            continue
        if found is None:  # those that follow are larger
            progress.say(f"{name} is not tried: it would take more than the budget of {config.budget:g} s (`budget`)")
            break
        losses[name] = found
        if trains and found.max() < _SURE * even_loss(train.labels):
            break
    chosen = names[0]
    if not losses:
        return BackboneChoice(chosen)
    for name in list(losses)[1:]:
        gain = losses[chosen] - losses[name]
        chance = gain.std(ddof=1) / np.sqrt(len(gain))
        if gain.mean() >= -chance if trains else gain.mean() > chance:
            chosen = name
    means = {name: float(values.mean()) for name, values in losses.items()}
    shown = ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
    why = ""
    if means[chosen] > min(means.values()):
        why = "; as good within the error, it gains more in training" if trains else "; no larger one is surely better"
    progress.say(f"base {chosen}: probes on {len(rows)} {train.what} have held-out losses of {shown}{why}")
    return BackboneChoice(chosen, means)


def _suitable(train: Examples, config: TrainingConfig) -> list[str]:
    """Return the backbones to choose from, the smallest first, which is there or is fetched."""
    if train.images is not None:
        names = ["efficientnet-lite0", "efficientnet-lite2"]
    elif share_of_english(train.texts, config.seed) >= _ENGLISH:
        names = ["minilm", "mpnet"]
    else:
        return ["multilingual-e5-small"]
    return names[:1] if config.preset == "quick" else names


def _some(train: Examples, seed: int) -> Index:
    """Return rows to choose on, stratified, in order."""
    if len(train) <= _EXAMPLES:
        return np.arange(len(train))
    share = _EXAMPLES / len(train)
    return stratified(strata(train.labels), seed, (1 - share, 0.0, share)).test


def _losses(name: str, some: Examples, train: Examples, config: TrainingConfig) -> npt.NDArray[np.float64] | None:
    """Return (n,) held-out losses of a probe on the mean of the last layer; None where the backbone is too slow."""
    base = loading.load(name, len(some.label_names), config.seed, frozen=True)
    frozen = base.frozen()
    encoded = encode_inputs(base, some.inputs, min(_TOKENS, config.max_length), "truncate", [[0]] * len(some))
    if some.images is None:
        tokens = sum(min(config.max_length, 2 + len(text) / _CHARACTERS) for text in train.texts)
        flops = forward_flops(base, int(tokens), 0, len(base.layers))
    else:
        flops = forward_flops(base, int(encoded.tokens.sum()), 0, len(base.layers)) * len(train) / len(some)
    if _PASSES * flops / hardware.product_speed(base.frozen_dtype) > config.budget:
        return None
    depth = len(base.layers)
    features = trunk_pass(
        frozen, encoded.ids, depths=[depth], pooling="mean", store=store_for(frozen), label=f"trying {name}"
    )
    head = build(base, "mean", len(some.label_names), config.seed)
    divided = depth_search.in_parts(some.labels, _FOLDS, config.seed)
    return depth_search.held_out_losses(head, encoded.by_text(features.seen), some.labels, divided)
