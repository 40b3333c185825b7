"""One training run from end to end: load the base, pass the trunk, solve the probe, train the tail.

Sees training and validation examples only.
"""

import re
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead import hardware, progress
from rehead.bases import loading
from rehead.bases.cut import Base, truncate
from rehead.bases.tokens import Encoded, encode
from rehead.data.examples import Examples, Index
from rehead.errors import SettingError
from rehead.heads import Head, build, check_pooling, default_pooling, describe, parameters, set_linear
from rehead.tuning import probe
from rehead.tuning.features import Features, trunk_pass
from rehead.tuning.loop import History, Recipe, Tokens, tail_logits, tail_modules, train_tail

# The depth is chosen on this many examples at most, so that the others pass only as many blocks as it needs;
# a probe's ranking of depths changes little beyond (docs/concepts.md).
DEPTH_TRAIN = 800
DEPTH_VALIDATION = 400


@dataclass(frozen=True)
class Settings:
    """What to tune and how.

    Attributes:
        base: see `rehead.bases.loading.locate`.
        tune: `head`, or `last-K` with K blocks.
        depth: number of blocks to keep, or "auto".
        pool: one of `rehead.heads.POOLINGS`, or "auto".
        max_length: longest text in tokens.
        recipe: of the tail's training.
        seed: for everything random.
    """

    base: str
    tune: str
    depth: int | str
    pool: str
    max_length: int
    recipe: Recipe
    seed: int


@dataclass(frozen=True)
class Finetuned:
    """A trained classifier and how it came about.

    Attributes:
        base: with `depth` blocks, float32.
        head: the trained head.
        depth, cut, blocks_before_cut: kept blocks, frozen blocks, blocks of the published model.
        validation_logits: (n_validation, n_classes) float32.
        truncated: how many texts of training and validation were too long.
        depth_profile: validation log loss of the probe at each depth; empty unless the depth was searched.
        history: of the tail; None where only the head was trained.
        replaced: the line that says what was replaced.
        seconds: by stage.
        flops: of trunk pass and tail.
    """

    base: Base
    head: Head
    depth: int
    cut: int
    blocks_before_cut: int
    validation_logits: npt.NDArray[np.float32]
    truncated: int
    depth_profile: dict[int, float]
    history: History | None
    replaced: str
    parameters: int
    seconds: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0


def tail_blocks(tune: str) -> int:
    """How many blocks are trained: 0 for `head`, K for `last-K`.

    Raises:
        SettingError: it is neither.
    """
    if tune == "head":
        return 0
    match = re.fullmatch(r"last-([1-9]\d{0,3})", tune)
    if not match:
        raise SettingError(f"--tune must be head or last-K with a number for K (last-1, last-2, ...), not {tune!r}")
    return int(match.group(1))


def finetune(train: Examples, validation: Examples, settings: Settings) -> Finetuned:
    """Trains a classifier; `validation` chooses regularisation, depth and epoch.

    Raises:
        SettingError, BaseModelError, FetchError: before anything is computed.
    """
    k = tail_blocks(settings.tune)
    clock = _Clock()
    fixed_depth = _checked_depth(settings, k)
    n_classes = len(train.label_names)
    base = loading.load(settings.base, n_classes, settings.seed, fixed_depth)
    pooling = default_pooling(base) if settings.pool == "auto" else settings.pool
    check_pooling(pooling, base.family.causal)
    if k > len(base.blocks):
        raise SettingError(f"--tune last-{k} needs {k} blocks, base {settings.base!r} has {len(base.blocks)}")
    clock.stop("load")

    texts, labels = [*train.texts, *validation.texts], np.concatenate([train.labels, validation.labels])
    encoded = encode(base, texts, settings.max_length)
    if encoded.texts_cut:
        progress.warn(
            f"{encoded.texts_cut:,} of {len(texts):,} texts have more tokens than fit and lose "
            f"{int(encoded.tokens_cut.sum()):,} in all at their ends (--max-length)"
        )
    frozen = base.with_products_in(hardware.native_dtype())
    head = build(base, pooling, n_classes, settings.seed)
    run = _Run(base, frozen, head, encoded, labels, len(train), n_classes, settings.seed, clock)

    depth, profile = fixed_depth or len(base.blocks), {}
    found: dict[int, Tensor] = {}
    if settings.depth == "auto" and len(base.blocks) > max(k, 1):
        depth, profile, found = run.choose_depth(shallowest=max(k, 1))
        truncate(base, depth)
        truncate(frozen, depth)
        progress.say(f"depth {depth} of {base.blocks_before_cut} blocks: the probe is as good as at any depth")
    cut = depth - k
    trained = tail_modules(base, head, cut, depth) if k else head.linear
    trainable = sum(weight.numel() for weight in set(trained.parameters()))
    replaced = describe(base, head, base.architectures, trainable)
    progress.say(replaced)

    features = run.features(depth, cut if k else None, found)
    history = None
    logits = run.solve_probe(features.pooled)
    if k and features.tokens is not None:
        history, logits = run.train_tail(features, cut, depth, settings.recipe)
    return Finetuned(
        base=base,
        head=head,
        depth=depth,
        cut=cut,
        blocks_before_cut=base.blocks_before_cut,
        validation_logits=logits,
        truncated=encoded.texts_cut,
        depth_profile=profile,
        history=history,
        replaced=replaced,
        parameters=parameters(base, head),
        seconds=clock.seconds,
        flops=run.trunk_flops + (history.flops if history else 0.0),
    )


def _checked_depth(settings: Settings, k: int) -> int | None:
    if settings.depth == "auto":
        return None
    if not isinstance(settings.depth, int) or settings.depth < max(k, 1):
        raise SettingError(
            f"--depth must be auto or a number of blocks, {max(k, 1)} or more with --tune {settings.tune}, "
            f"not {settings.depth!r}"
        )
    return settings.depth


class _Clock:
    """Seconds by stage, each from the end of the stage before it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"load": 0.0, "trunk": 0.0, "probe": 0.0, "tail": 0.0}
        self._last = time.perf_counter()

    def stop(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now


@dataclass
class _Run:
    """The state of one training run: training examples come first, then validation examples."""

    base: Base
    frozen: Base
    head: Head
    encoded: Encoded
    labels: Index
    n_train: int
    n_classes: int
    seed: int
    clock: _Clock
    trunk_flops: float = 0.0

    def choose_depth(self, shallowest: int) -> tuple[int, dict[int, float], dict[int, Tensor]]:
        """Returns the depth, the loss at each, and the pooled features at that depth by row."""
        generator = np.random.default_rng(self.seed)
        train = np.sort(generator.permutation(self.n_train)[:DEPTH_TRAIN])
        held_out = np.sort(generator.permutation(np.arange(self.n_train, len(self.labels)))[:DEPTH_VALIDATION])
        rows = np.concatenate([train, held_out])
        depths = range(shallowest, len(self.base.blocks) + 1)
        found = trunk_pass(
            self.frozen,
            self.encoded.ids.take(torch.from_numpy(rows)),
            depths=depths,
            pooling=self.head.pooling,
            label=f"trunk pass, {len(rows):,} texts to every depth",
        )
        self.trunk_flops += found.forward_flops
        self.clock.stop("trunk")
        projected = self._projected(found.pooled)
        n = len(train)
        depth, profile = probe.choose_depth(
            projected[:n],
            self.labels[train],
            (projected[n:], self.labels[held_out]),
            self.n_classes,
            self.head.linear.bias is not None,
            depths,
        )
        self.clock.stop("probe")
        chosen = found.pooled[:, list(depths).index(depth)]
        return depth, profile, dict(zip(rows.tolist(), chosen, strict=True))

    def features(self, depth: int, cut: int | None, found: dict[int, Tensor]) -> Features:
        """Pooled features of all rows at `depth`, and token states at the cut; computes what is not yet there."""
        everything = range(len(self.labels))
        missing = list(everything) if cut is not None else [row for row in everything if row not in found]
        rows = torch.tensor(missing, dtype=torch.int64)
        ids = self.encoded.ids.take(rows)
        result = trunk_pass(self.frozen, ids, depths=[depth], pooling=self.head.pooling, cut=cut)
        self.trunk_flops += result.forward_flops
        pooled = torch.empty(len(self.labels), 1, result.pooled.shape[2])
        for row, state in found.items():
            pooled[row, 0] = state
        pooled[rows] = result.pooled
        self.clock.stop("trunk")
        return Features(pooled, result.tokens, result.forward_flops)

    def solve_probe(self, pooled: Tensor) -> npt.NDArray[np.float32]:
        """Writes the solved linear layer into the head; returns validation logits."""
        n = self.n_train
        projected = self._projected(pooled)[:, 0]
        validation = (projected[n:], self.labels[n:])
        intercept = self.head.linear.bias is not None
        solved = probe.solve(projected[:n], self.labels[:n], validation, self.n_classes, intercept)
        set_linear(self.head, {"weight": torch.from_numpy(solved.weight), "bias": torch.from_numpy(solved.bias)})
        self.clock.stop("probe")
        logits: npt.NDArray[np.float32] = projected[n:] @ solved.weight.T + solved.bias
        return logits

    def train_tail(
        self, features: Features, cut: int, depth: int, recipe: Recipe
    ) -> tuple[History, npt.NDArray[np.float32]]:
        """Trains the tail in place; returns its history and validation logits."""
        assert features.tokens is not None
        rows = torch.arange(len(self.labels))
        labels = torch.from_numpy(self.labels)
        train, held_out = (
            Tokens(features.tokens.take(part), labels[part]) for part in (rows[: self.n_train], rows[self.n_train :])
        )
        history = train_tail(self.base, self.head, train, held_out, cut, depth, recipe)
        logits = tail_logits(self.base, self.head, held_out.states, cut, depth)
        self.clock.stop("tail")
        return history, logits.numpy()

    def _projected(self, pooled: Tensor) -> npt.NDArray[np.float32]:
        """What the head's linear layer sees; (n, n_depths, width)."""
        with torch.inference_mode():
            projected: npt.NDArray[np.float32] = self.head.projection(pooled).numpy()
        return projected
