"""One file of the feature cache: features of a number of texts, written once and never changed.

A safetensors file that holds `keys`, `dense/NAME`, and `ragged/NAME` with `offsets/NAME` for where each text begins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rehead.models.sequences import Ragged
from rehead.runtime import files, interrupts, progress
from rehead.runtime.errors import first_line

_KEYS, _DENSE, _RAGGED, _OFFSETS = "keys", "dense/", "ragged/", "offsets/"


@dataclass
class Segment:
    """Features of n texts, in memory or in a mapped file.

    Attributes:
        keys: (n, 16) uint8.
        dense: (n, width) each.
        ragged: n sequences of (length, width) each.
        path: of the file; None in memory.
    """

    keys: NDArray[np.uint8]
    dense: Mapping[str, Tensor]
    ragged: Mapping[str, Ragged]
    path: Path | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.dense or name in self.ragged

    @property
    def nbytes(self) -> int:
        tensors = [
            *self.dense.values(),
            *(part for each in self.ragged.values() for part in (each.values, each.offsets)),
        ]
        return self.keys.nbytes + sum(tensor.nbytes for tensor in tensors)

    def renew(self) -> None:
        """Tells `cache_room.trim` that the file is in use."""
        if self.path:
            with suppress(OSError):  # not ours, or gone: what is mapped can be read all the same
                os.utime(self.path)

    def write(self, path: Path) -> None:
        """Writes it whole or not at all, whatever kills this process.

        Raises:
            OSError, SafetensorError: the folder cannot be written to, or the disk is full.
        """
        tensors = {_KEYS: torch.from_numpy(np.array(self.keys))}
        tensors |= {_DENSE + name: values.contiguous() for name, values in self.dense.items()}
        for name, sequences in self.ragged.items():
            tensors[_RAGGED + name] = sequences.values.contiguous()
            # Features of one pass share their offsets; safetensors refuses tensors that share memory.
            tensors[_OFFSETS + name] = sequences.offsets.clone()
        with files.new_file(path) as partial:
            save_file(tensors, partial)


def open_segment(path: Path) -> Segment | None:
    """Maps a file: reads its header, keys and offsets, and nothing of the features themselves.

    Returns:
        None where it is gone, cannot be read, or is damaged, as by a full disk or a copy that was broken off. A damaged
        file is removed, and that is said. What was changed without a change in length is not found out.
    """
    try:
        with interrupts.deferred(), safe_open(path, "pt") as file:
            # On the CPU these are views of the mapped file, not copies.
            return _checked(path, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, RuntimeError):  # the second is what torch raises where there is no such file any more
        return None
    except (SafetensorError, KeyError, ValueError) as error:
        progress.warn(f"{path} is damaged ({first_line(error)}); it is removed and its features are computed again")
        with suppress(OSError):
            path.unlink()
        return None


def _checked(path: Path, tensors: dict[str, Tensor]) -> Segment:
    keys = tensors[_KEYS]
    dense = {name.removeprefix(_DENSE): values for name, values in tensors.items() if name.startswith(_DENSE)}
    ragged = {
        name.removeprefix(_RAGGED): Ragged(values, tensors[_OFFSETS + name.removeprefix(_RAGGED)])
        for name, values in tensors.items()
        if name.startswith(_RAGGED)
    }
    whole = (
        keys.dtype == torch.uint8
        and keys.shape[1:] == (16,)
        and all(values.dim() == 2 and len(values) == len(keys) for values in dense.values())
        and all(_is_whole(sequences, len(keys)) for sequences in ragged.values())
    )
    if not whole:
        raise ValueError("its parts do not fit each other")
    return Segment(keys.numpy(), dense, ragged, path)


def _is_whole(sequences: Ragged, n: int) -> bool:
    values, offsets = sequences.values, sequences.offsets
    return (
        values.dim() == 2
        and offsets.dtype == torch.int64
        and offsets.shape == (n + 1,)
        and offsets[[0, -1]].tolist() == [0, len(values)]
        and bool((sequences.lengths >= 0).all())
    )
