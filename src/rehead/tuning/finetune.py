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
from rehead.heads import Head, build, candidates, check_pooling, describe, parameters, part_of_both, set_linear
from rehead.tuning import probe
from rehead.tuning.features import Features, trunk_pass
from rehead.tuning.loop import History, Recipe, Tokens, tail_logits, tail_modules, train_tail

# Depth and pooling are chosen on so many examples at most, so that the others pass only the blocks that are kept;
# a probe's ranking of depths changes little beyond.
SEARCH_TRAIN = 800
SEARCH_VALIDATION = 400


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
        profile: validation log loss of the probe by pooling and depth; empty where both were given.
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
    profile: dict[str, dict[int, float]]
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
    if settings.pool != "auto":
        check_pooling(settings.pool, base.family.causal)
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
    run = _Run(base, encoded, labels, len(train), n_classes, settings.seed, clock)
    depths = [fixed_depth] if fixed_depth else list(range(max(k, 1), len(base.blocks) + 1))
    poolings = list(candidates(base.family.causal)) if settings.pool == "auto" else [settings.pool]
    found = run.search(depths, poolings) if len(depths) * len(poolings) > 1 else _Found(poolings[0], depths[0])
    depth, cut = found.depth, found.depth - k
    run.truncate(depth)
    if found.profile:
        progress.say(f"kept {depth} of {base.blocks_before_cut} blocks and {found.pooling} pooling, as good as any")
    head = run.head(found.pooling)
    trained = tail_modules(base, head, cut, depth) if k else head.linear
    trainable = sum(weight.numel() for weight in set(trained.parameters()))
    replaced = describe(base, head, base.architectures, trainable)
    progress.say(replaced)

    features = run.features(head, found, cut if k else None)
    history = None
    logits = run.solve_probe(head, features.pooled)
    if k:
        history, logits = run.train_tail(head, features, cut, depth, settings.recipe)
    return Finetuned(
        base=base,
        head=head,
        depth=depth,
        cut=cut,
        blocks_before_cut=base.blocks_before_cut,
        validation_logits=logits,
        truncated=encoded.texts_cut,
        profile=found.profile,
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


@dataclass(frozen=True)
class _Found:
    """Which pooling and depth to use, what each would have lost, and pooled features by row that are known already."""

    pooling: str
    depth: int
    profile: dict[str, dict[int, float]] = field(default_factory=dict)
    pooled: dict[int, Tensor] = field(default_factory=dict)


class _Run:
    """The state of one training run: training examples come first, then validation examples."""

    def __init__(
        self, base: Base, encoded: Encoded, labels: Index, n_train: int, n_classes: int, seed: int, clock: _Clock
    ) -> None:
        self.base = base
        self.frozen = base.with_products_in(hardware.native_dtype())
        self.encoded = encoded
        self.labels = labels
        self.n_train = n_train
        self.n_classes = n_classes
        self.seed = seed
        self.clock = clock
        self.trunk_flops = 0.0

    def head(self, pooling: str) -> Head:
        return build(self.base, pooling, self.n_classes, self.seed)

    def truncate(self, depth: int) -> None:
        truncate(self.base, depth)
        if self.frozen is not self.base:
            truncate(self.frozen, depth)

    def search(self, depths: list[int], poolings: list[str]) -> _Found:
        """Solves a probe for each depth and pooling on some of the rows."""
        generator = np.random.default_rng(self.seed)
        train = np.sort(generator.permutation(self.n_train)[:SEARCH_TRAIN])
        held_out = np.sort(generator.permutation(np.arange(self.n_train, len(self.labels)))[:SEARCH_VALIDATION])
        rows = np.concatenate([train, held_out])
        passed = trunk_pass(
            self.frozen,
            self.encoded.ids.take(torch.from_numpy(rows)),
            depths=depths,
            pooling="both" if len(poolings) > 1 else poolings[0],
            label=f"trunk pass, {len(rows):,} texts to every depth",
        )
        self.base.model.to("cpu")  # where the head is solved, if the trunk pass had it elsewhere
        self.trunk_flops += passed.forward_flops
        self.clock.stop("trunk")
        parts = {poolings[0]: passed.pooled}
        if len(poolings) > 1:
            parts = {pooling: part_of_both(passed.pooled, pooling) for pooling in poolings}
        probes = {}
        with progress.bar(f"probing {len(depths)} depths", len(depths) * len(poolings)) as advance:
            for pooling, pooled in parts.items():
                head = self.head(pooling)
                for i, depth in enumerate(depths):
                    probes[pooling, depth] = self._probe(head, pooled[:, i], rows, len(train), probe.RANKED)
                    advance(1)
        self.clock.stop("probe")
        pooling, depth = probe.shallowest(probes)
        profile = {name: {d: probes[name, d].log_loss for d in depths} for name in poolings}
        chosen = parts[pooling][:, depths.index(depth)]
        return _Found(pooling, depth, profile, dict(zip(rows.tolist(), chosen, strict=True)))

    def features(self, head: Head, found: _Found, cut: int | None) -> Features:
        """Pooled features of all rows, and token states at the cut if there is one; computes what is not known."""
        everything = range(len(self.labels))
        missing = list(everything) if cut is not None else [row for row in everything if row not in found.pooled]
        rows = torch.tensor(missing, dtype=torch.int64)
        ids = self.encoded.ids.take(rows)
        result = trunk_pass(self.frozen, ids, depths=[found.depth], pooling=head.pooling, cut=cut)
        self.base.model.to("cpu")
        self.trunk_flops += result.forward_flops
        pooled = torch.empty(len(self.labels), result.pooled.shape[2])
        for row, state in found.pooled.items():
            pooled[row] = state
        pooled[rows] = result.pooled[:, 0]
        self.clock.stop("trunk")
        return Features(pooled, result.tokens, result.forward_flops)

    def solve_probe(self, head: Head, pooled: Tensor) -> npt.NDArray[np.float32]:
        """Writes the solved linear layer into the head; returns validation logits."""
        solved = self._probe(head, pooled, np.arange(len(self.labels)), self.n_train, probe.CONVERGED)
        set_linear(head, {"weight": torch.from_numpy(solved.weight), "bias": torch.from_numpy(solved.bias)})
        self.clock.stop("probe")
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = head(pooled[self.n_train :]).numpy()
        return logits

    def _probe(self, head: Head, pooled: Tensor, rows: Index, n_train: int, tolerance: float) -> probe.Probe:
        """Solves on pooled features (n, width) of `rows`, of which the first `n_train` are for training."""
        with torch.inference_mode():
            seen_by_linear = head.projection(pooled).numpy()
        labels = self.labels[rows]
        held_out = (seen_by_linear[n_train:], labels[n_train:])
        intercept = head.linear.bias is not None
        return probe.solve(seen_by_linear[:n_train], labels[:n_train], held_out, self.n_classes, intercept, tolerance)

    def train_tail(
        self, head: Head, features: Features, cut: int, depth: int, recipe: Recipe
    ) -> tuple[History, npt.NDArray[np.float32]]:
        """Trains the tail in place; returns its history and validation logits."""
        assert features.tokens is not None
        rows = torch.arange(len(self.labels))
        labels = torch.from_numpy(self.labels)
        train, held_out = (
            Tokens(features.tokens.take(part), labels[part]) for part in (rows[: self.n_train], rows[self.n_train :])
        )
        history = train_tail(self.base, head, train, held_out, cut, depth, recipe)
        logits = tail_logits(self.base, head, held_out.states, cut, depth)
        self.clock.stop("tail")
        return history, logits.numpy()
