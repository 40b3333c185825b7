"""Times parts of the engine with one idea on and off; prints one line of JSON. `ideas.py` runs it.

It replaces functions inside rehead, so it is no example of how to use it.

    python benchmarks/idea_timings.py TRAIN.csv VALIDATION.csv
"""

import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from labelled import read

from rehead.models import heads, loading, packing
from rehead.models.backbone import Backbone
from rehead.models.sequences import Ragged
from rehead.models.tokenization import encode
from rehead.runtime import hardware
from rehead.training import probe
from rehead.training import tail as tail_module
from rehead.training.feature_cache import Pieces
from rehead.training.features import Features, store_for, trunk_pass
from rehead.training.inputs import Computed, Kept
from rehead.training.loop import Recipe, train
from rehead.training.tail import Classification, Labelled, Tail

# Blocks of the base, and of what a depth search may keep of it.
WHOLE, HALF = 30, 12
# The last block is trained.
CUT = WHOLE - 1
# Texts a batch, without packing.
PADDED = 8


def main() -> None:
    (texts, kinds), (held_out_texts, held_out_kinds) = (read(Path(file)) for file in sys.argv[1:3])
    labels = torch.tensor([kind == "spam" for kind in [*kinds, *held_out_kinds]]).long()
    base = loading.load("smollm2", n_classes=2, seed=0)
    fast = base.frozen_in(torch.bfloat16)
    ids = encode(base, [*texts, *held_out_texts], max_length=512).ids
    with patch.object(hardware, "keep_freed_memory", lambda: None):  # first: it stays for the rest of the process
        _pass(fast, ids.take(torch.arange(PADDED)))  # what is set up on first use is nobody's
        given_back = _seconds(lambda: _pass(fast, ids))
    ideas = [*_of_the_pass(base, fast, ids, given_back), *_of_the_rest(base, fast, ids, labels, len(texts))]
    losses = _losses(base, fast, ids, labels, len(texts))
    print(json.dumps({"ideas": ideas, "losses": losses, "versions": {"torch": torch.__version__}}))


def _of_the_pass(base: Backbone, fast: Backbone, ids: Ragged, given_back: float) -> list[dict[str, Any]]:
    hardware.keep_freed_memory()
    whole = _seconds(lambda: _pass(fast, ids))
    by_length = ids.take(torch.argsort(ids.lengths))
    with patch.object(packing, "_SHORT", 0):
        fused = _seconds(lambda: _pass(fast, ids))
    plain = base.with_products_in(torch.bfloat16)
    with patch.object(packing, "_MULTIPLE", 1):
        odd_rows = _seconds(lambda: _pass(fast, ids))
    return [
        _idea("matrix products in bf16", "float32", whole, _seconds(lambda: _pass(base, ids))),
        _idea("weights laid out once", "at each product", whole, _seconds(lambda: _pass(plain, ids))),
        _idea("numbers of tokens that are multiples of 16", "as they come", whole, odd_rows),
        _idea("texts end to end", "padded, 8 a batch, as they come", whole, _seconds(lambda: _padded(plain, ids))),
        _idea("texts end to end", "padded, 8 of a length", whole, _seconds(lambda: _padded(plain, by_length))),
        _idea("memory of freed tensors kept", "given back to the system", whole, given_back),
        _idea("plain products for short texts' attention", "torch's fused kernel", whole, fused),
        _idea(
            "one token in the last block of 30",
            "all tokens",
            _seconds(lambda: trunk_pass(fast, ids, depths=[WHOLE], pooling="last")),
            whole,
        ),
        _idea(f"depth {HALF}", f"all {WHOLE} blocks", _seconds(lambda: _pass(fast, ids, HALF)), whole),
    ]


def _of_the_rest(
    base: Backbone, fast: Backbone, ids: Ragged, labels: torch.Tensor, n_train: int
) -> list[dict[str, Any]]:
    computing, reading = (_seconds(lambda: _kept(fast, ids)) for _ in range(2))
    _, tokens = _kept(fast, ids)
    trained, training = _copy(base), torch.arange(n_train)
    tail = Tail.of_blocks(trained, heads.build(trained, "last", 2, seed=0), CUT, WHOLE)
    from_states = _labelled(tokens, labels, training)
    from_texts = Labelled(Computed(fast, ids.take(training), CUT), labels[training])
    few, recipe = _labelled(tokens, labels, torch.arange(PADDED)), Recipe(epochs=1)

    def epoch(examples: Labelled) -> float:
        return _seconds(lambda: train(Classification(tail, examples, few, recipe), recipe))

    epoch(few)
    last_token = epoch(from_states)
    with patch.object(tail_module, "is_family_head", lambda pooling: False):
        all_tokens = epoch(from_states)
    with patch.object(packing, "_MULTIPLE", 1):
        odd_rows = epoch(from_states)
    return [
        _idea("features in the cache", "computed", reading, computing),
        _idea("an epoch of the last block from kept states", "from the texts", last_token, epoch(from_texts)),
        _idea("one token in the trained block", "all tokens", last_token, all_tokens),
        _idea("the same, numbers of tokens that are multiples of 16", "as they come", last_token, odd_rows),
    ]


def _losses(base: Backbone, fast: Backbone, ids: Ragged, labels: torch.Tensor, n_train: int) -> dict[str, list[float]]:
    """Validation loss before training the last block and after each epoch."""
    pooled, tokens = _kept(fast, ids)
    everything = torch.arange(len(labels))
    examples, held_out = (_labelled(tokens, labels, rows) for rows in (everything[:n_train], everything[n_train:]))
    losses = {}
    for start in ("solved", "at random"):
        trained = _copy(base)
        head = heads.build(trained, "last", 2, seed=0)
        torch.nn.init.normal_(head.linear.weight, std=0.02)
        if start == "solved":
            solved = _solve(pooled, labels, n_train)
            heads.set_linear(head, {"weight": torch.from_numpy(solved.weight), "bias": torch.from_numpy(solved.bias)})
        tail = Tail.of_blocks(trained, head, CUT, WHOLE)
        recipe = Recipe(epochs=5, patience=5)
        losses[start] = train(Classification(tail, examples, held_out, recipe), recipe).validation_losses
    return losses


def _kept(base: Backbone, ids: Ragged) -> tuple[probe.Array, Pieces]:
    """Pooled features, and token states at the cut; computed once, then read."""
    features = trunk_pass(base, ids, depths=[WHOLE], pooling="last", cut=CUT, store=store_for(base))
    assert features.tokens is not None
    return features.pooled[0].numpy(), features.tokens


def _labelled(tokens: Pieces, labels: torch.Tensor, rows: torch.Tensor) -> Labelled:
    return Labelled(Kept(tokens.take(rows)), labels[rows])


def _copy(base: Backbone) -> Backbone:
    """With weights of its own, which may be trained."""
    return replace(base, model=copy.deepcopy(base.model))


def _pass(base: Backbone, ids: Ragged, depth: int = WHOLE) -> Features:
    return trunk_pass(base, ids, depths=[depth], pooling="mean")


def _padded(base: Backbone, ids: Ragged) -> None:
    """The Transformers model's own forward pass, on padded batches."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for rows in torch.arange(len(ids)).split(PADDED):
            texts = [ids.take(row[None]).values for row in rows]
            padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
            lengths = ids.lengths[rows]
            mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
            base.body(input_ids=padded, attention_mask=mask, use_cache=False)


def _solve(pooled: probe.Array, labels: torch.Tensor, n_train: int) -> probe.Probe:
    classes = labels.numpy()
    held_out = pooled[n_train:], classes[n_train:]
    return probe.solve(pooled[:n_train], classes[:n_train], held_out, n_classes=2, intercept=False)


def _idea(idea: str, instead: str, seconds_with: float, seconds_without: float) -> dict[str, Any]:
    return {"idea": idea, "instead": instead, "with": seconds_with, "without": seconds_without}


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
