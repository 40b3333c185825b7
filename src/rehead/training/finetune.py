"""One training run from end to end: load the base, pass the trunk, solve the probe, train what is to be trained.

Sees training and validation examples only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rehead import progress
from rehead.bases.cut import Base
from rehead.heads import Head, build, describe, parameters
from rehead.training.loop import History, Watch
from rehead.training.lora import Adapters
from rehead.training.run import Run
from rehead.training.settings import Resumption, trained_blocks
from rehead.training.stages import Ladder, Stage


@dataclass(frozen=True)
class Finetuned:
    """A trained classifier and how it came about.

    Attributes:
        base: with `depth` blocks, float32.
        head: the trained head.
        tune: the way of tuning that was kept: what was asked for, or what `auto` chose.
        depth, cut, blocks_before_cut: kept blocks, frozen blocks, blocks of the published model.
        validation_logits: (n_validation, n_classes) float32.
        truncated: how many texts of training and validation were too long.
        profile: validation log loss of the probe by pooling and depth; empty where both were given.
        stages: what was tried, in order; the probe first.
        stopped: why `auto` went no further, or None.
        history: of the blocks' training that was kept; None where only the head was trained.
        adapters: of the low-rank training that was kept, whose effect is in the base's weights already.
        replaced: the line that says what was replaced.
        seconds: by stage.
        flops: of trunk pass and training.
        trunk_speed: floating-point operations a second that the trunk pass reached; 0 where all was cached.
    """

    base: Base
    head: Head
    tune: str
    depth: int
    cut: int
    blocks_before_cut: int
    validation_logits: npt.NDArray[np.float32]
    truncated: int
    profile: dict[str, dict[int, float]]
    stages: list[Stage]
    stopped: str | None
    history: History | None
    adapters: Adapters | None
    replaced: str
    parameters: int
    seconds: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0
    trunk_speed: float = 0.0


def finetune(run: Run, resumption: Resumption | None = None, watch: Watch | None = None) -> Finetuned:
    """Trains a classifier; validation chooses regularisation, depth, epoch and, with `auto`, the way of tuning.

    Args:
        watch: of the training of blocks, see `rehead.training.loop.train`.

    Raises:
        Interrupted: Ctrl-C during the training of blocks.
        SettingError: what is to be resumed was begun with something else.
    """
    found = run.search()
    run.truncate(found.depth)
    if found.profile:
        progress.say(f"kept {found.depth} of {run.base.blocks_before_cut} blocks and {found.pooling} pooling")
    head = build(run.base, found.pooling, run.n_classes, run.settings.seed)
    # What the first way of tuning that trains blocks needs is kept in the same pass.
    ways = run.ways
    cut = found.depth - trained_blocks(ways[0], found.depth) if ways else found.depth
    keeps_tokens = bool(ways) and run.keeps_tokens(cut)
    features = run.features(head, cut if keeps_tokens else None)
    logits = run.solve_probe(head, features.seen)
    ladder = Ladder(run, head, found.depth, features, logits, resumption, watch)
    ladder.climb()
    run.clock.stop("tail")
    kept = ladder.kept
    replaced = describe(run.base, head, run.base.architectures, kept.trainable)
    progress.say(replaced)
    return Finetuned(
        base=run.base,
        head=head,
        tune=kept.tune,
        depth=found.depth,
        cut=found.depth - trained_blocks(kept.tune, found.depth),
        blocks_before_cut=run.base.blocks_before_cut,
        validation_logits=ladder.logits,
        truncated=run.encoded.texts_cut,
        profile=found.profile,
        stages=ladder.stages,
        stopped=ladder.stopped,
        history=kept.history,
        adapters=ladder.adapters,
        replaced=replaced,
        parameters=parameters(run.base, head),
        seconds=run.clock.seconds,
        flops=run.trunk_flops + sum(stage.history.flops for stage in ladder.stages if stage.history),
        trunk_speed=run.trunk_flops / run.trunk_seconds if run.trunk_flops else 0.0,
    )
