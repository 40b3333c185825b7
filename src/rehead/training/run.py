"""What a training run works on: its base, its token ids, the features that the trunk makes of them."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead import hardware, progress
from rehead.bases import loading
from rehead.bases.cut import Base
from rehead.bases.reading import encode
from rehead.bases.tokens import Encoded
from rehead.data.examples import Examples, Index
from rehead.data.labels import Labels, class_counts, is_multilabel
from rehead.errors import SettingError
from rehead.heads import Head, build, candidates, check_pooling, part_of_both, read_after, set_linear
from rehead.training import cache_room, probe, search
from rehead.training.feature_cache import Shelf
from rehead.training.features import Features, are_kept, forward_flops, shelf_for, trunk_pass
from rehead.training.search import Found
from rehead.training.settings import Settings, check_tune, least_depth

# Bytes a second at which features are read back, on a slow disk.
_READING_SPEED = 200e6


class Clock:
    """Seconds by stage, each from the end of the stage before it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"load": 0.0, "trunk": 0.0, "probe": 0.0, "tail": 0.0}
        self.begun = self._last = time.perf_counter()

    def stop(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now


class Run:
    """One training run. Training examples come first, then validation examples.

    Raises:
        SettingError, BaseModelError, FetchError: it cannot be set up as it was asked for.
    """

    def __init__(self, train: Examples, validation: Examples, settings: Settings) -> None:
        check_tune(settings.tune)
        if settings.long == "chunks" and settings.tune not in ("head", "auto"):
            raise SettingError(
                f"--long chunks goes with --tune head, not {settings.tune}: blocks are trained on texts in one piece; "
                "use --long head-tail"
            )
        if settings.average_views and settings.tune not in ("head", "auto"):
            raise SettingError(
                f"--average-views goes with --tune head, not {settings.tune}: blocks are trained on one view at a time"
            )
        self.clock = Clock()
        self.settings = settings
        self.views = settings.views if train.pictures is not None else 1
        self.train, self.validation = train.take(np.repeat(np.arange(len(train)), self.views)), validation
        self.n_train = len(self.train)
        self.n_classes = len(train.label_names)
        self.labels = np.concatenate([self.train.labels, validation.labels])
        depth = _checked_depth(settings)
        self.base = loading.load(settings.base, self.n_classes, settings.seed, depth)
        if settings.pool != "auto":
            check_pooling(settings.pool, self.base.whole)
        self._check_blocks()
        averaged = range(self.views if settings.average_views else 1)
        chosen = [[view] for _ in range(len(train)) for view in range(self.views)] + [[*averaged]] * len(validation)
        inputs = self.train.followed_by(validation).inputs
        self.encoded: Encoded = encode(self.base, inputs, settings.max_length, settings.long, chosen)
        self.trunk_flops = self.trunk_seconds = 0.0
        self._say_truncated()
        self.clock.stop("load")
        self._frozen: Base | None = None
        self._shelf: Shelf | None = None

    @property
    def frozen(self) -> Base:
        """The base with its matrix products in the machine's fastest type, made when it is first needed."""
        if self._frozen is None:
            self._frozen = self.base.frozen_in(hardware.native_dtype())
        return self._frozen

    @property
    def shelf(self) -> Shelf:
        """Where the features of this base are kept."""
        if self._shelf is None:
            self._shelf = shelf_for(self.frozen)
        return self._shelf

    @property
    def ways(self) -> list[str]:
        """The ways of tuning that may be tried, each costlier than the one before."""
        asked = self.settings.tune
        if asked == "auto":
            if self.settings.long == "chunks" or self.settings.average_views:
                return []
            return ["last-1", *(["lora"] if self.base.takes_adapters else []), "full"]
        return [] if asked == "head" else [asked]

    @property
    def depths(self) -> list[int]:
        """What depth may be."""
        fixed = _checked_depth(self.settings)
        return [fixed] if fixed else list(range(least_depth(self.settings.tune), len(self.base.blocks) + 1))

    @property
    def candidates(self) -> list[tuple[str, int]]:
        """What pooling and depth may be, together."""
        auto = self.settings.pool == "auto"
        poolings = list(candidates(self.base.whole)) if auto else [self.settings.pool]
        of_one_block = [(pooling, depth) for pooling in poolings if pooling != "layers" for depth in self.depths]
        of_layers = self._depths_of_layers() if auto or self.settings.pool == "layers" else []
        return of_one_block + [("layers", depth) for depth in of_layers]

    def _depths_of_layers(self) -> list[int]:
        """A third, two thirds and all of what depth may be: such probes are wide, and so costly to solve."""
        depths = self.depths
        return sorted({depths[-(-len(depths) * third // 3) - 1] for third in (1, 2, 3)})

    def truncate(self, depth: int) -> None:
        self.base.truncate(depth)
        if self.frozen is not self.base:
            self.frozen.truncate(depth)

    def search(self) -> Found:
        """Measures what is to be measured of depth and pooling."""
        candidates = self.candidates
        if len(candidates) == 1:
            return Found(*candidates[0])
        depths = sorted({read for pooling, depth in candidates for read in read_after(pooling, depth)})
        rows, n_train = self.sample_rows()
        pooled_as = self.settings.pool if self.settings.pool != "auto" else "both"
        passed = self._pass(rows, depths, pooled_as, f"trunk pass, {len(rows):,} {self.train.what} to all depths")
        self.clock.stop("trunk")
        heads = {
            where: build(self.base, where[0], self.n_classes, self.settings.seed, where[1]) for where in candidates
        }
        features = {}
        for pooling, depth in candidates:
            seen = torch.cat([passed.pooled[depths.index(read)] for read in read_after(pooling, depth)], dim=1)
            features[pooling, depth] = part_of_both(seen, pooling, self.base.whole) if pooled_as == "both" else seen
        labels = self.labels[rows]
        found = search.choose(features, heads, labels, n_train, self._example_weights(labels), self.settings.seed)
        self.clock.stop("probe")
        return found

    def sample_rows(self) -> tuple[Index, int]:
        """Rows that depth and pooling are chosen on, see `search.sample_rows`; of an image its first view."""
        n_held_out = len(self.labels) - self.n_train
        n = self.n_train // self.views
        rows, n_train = search.sample_rows(n, n + n_held_out, self.settings.seed)
        return np.where(rows < n, rows * self.views, rows - n + self.n_train), n_train

    def keeps_tokens(self, cut: int) -> bool:
        """Whether token states at the cut are to be kept: reading them is faster than computing, and there is room.

        Where the cache has none, a quarter of the free memory may be taken. What is kept already needs none.
        """
        tokens = int(self.encoded.ids.lengths.sum())
        n_bytes = tokens * self.base.width_at(cut) * hardware.native_dtype().itemsize
        computing = forward_flops(self.base, tokens, 0, cut) / hardware.product_speed(hardware.native_dtype())
        # With as few texts at a time as the tail takes, an accelerator waits for each operation to be launched: 65 ms a
        # step for 29 blocks on an H200, far more than reading what they would make.
        if hardware.device().type == "cpu" and n_bytes / _READING_SPEED >= computing:
            return False
        has_room = cache_room.room_for(n_bytes) or n_bytes < hardware.free_memory() / 4
        return has_room or are_kept(self.encoded.ids, cut, self.shelf)

    def features(self, head: Head, cut: int | None) -> Features:
        """Pooled features of all rows, and token states at the cut if there is one."""
        result = self._pass(np.arange(len(self.labels)), head.reads, head.pooling, "trunk pass", cut)
        self.clock.stop("trunk")
        return result

    def solve_probe(self, head: Head, pooled: Tensor) -> npt.NDArray[np.float32]:
        """Writes the solved linear layer into the head; returns validation logits."""
        weights = self._example_weights(self.labels[: self.n_train])
        solved = search.solve(head, pooled, self.labels, self.n_train, probe.CONVERGED, weights)
        set_linear(head, {"weight": torch.from_numpy(solved.weight), "bias": torch.from_numpy(solved.bias)})
        self.clock.stop("probe")
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = head(pooled[self.n_train :]).numpy()
        return logits

    def _pass(self, rows: Index, depths: list[int], pooling: str, label: str, cut: int | None = None) -> Features:
        texts = self.encoded.take(torch.from_numpy(rows))
        result = trunk_pass(
            self.frozen, texts.ids, depths=depths, pooling=pooling, cut=cut, shelf=self.shelf, label=label
        )
        result = replace(result, pooled=[texts.by_text(pooled) for pooled in result.pooled])
        self.base.model.to("cpu")  # where the head is solved, if the trunk pass had it elsewhere
        self.trunk_flops += result.forward_flops
        self.trunk_seconds += result.seconds
        return result

    def _example_weights(self, labels: Labels) -> npt.NDArray[np.float64] | None:
        """As `probe.solve` takes them: each class weighs the same, if that is wanted; where a text may have several
        labels, as much as all that is not of the class.
        """
        if not self.settings.recipe.balanced:
            return None
        counts = class_counts(labels, self.n_classes).astype(np.float64)
        if is_multilabel(labels):
            shares = np.where(labels > 0, counts, len(labels) - counts)
            # Of a class that all or none of the examples have, there is one kind only.
            kinds = 1 + ((counts > 0) & (counts < len(labels)))
            return len(labels) / (kinds * shares)
        return (len(labels) / (np.count_nonzero(counts) * counts[labels]))[:, None]

    def _check_blocks(self) -> None:
        if self.settings.tune == "lora" and not self.base.takes_adapters:
            raise SettingError(
                f"--tune lora needs linear layers, and the blocks of base {self.settings.base!r} are convolutions; use "
                "last-K or full"
            )
        least, there = least_depth(self.settings.tune), len(self.base.blocks)
        if least > there:
            raise SettingError(
                f"--tune {self.settings.tune} needs {least} blocks, base {self.settings.base!r} has {there}"
            )

    def _say_truncated(self) -> None:
        if self.encoded.texts_cut:
            progress.warn(
                f"{self.encoded.texts_cut:,} of {len(self.labels):,} texts have more tokens than fit and lose "
                f"{int(self.encoded.tokens_cut.sum()):,} in all (--max-length, --long)"
            )


def _checked_depth(settings: Settings) -> int | None:
    if settings.depth == "auto":
        return None
    least = least_depth(settings.tune)
    if not isinstance(settings.depth, int) or settings.depth < least:
        raise SettingError(
            f"--depth must be auto or a number of blocks, {least} or more with --tune {settings.tune}, "
            f"not {settings.depth!r}"
        )
    return settings.depth
