"""Keep what low-rank adapters learned, and write it as peft reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Adapters:
    """What low-rank adapters (Hu et al., ICLR 2022, arXiv 2106.09685) learned beside a backbone's own weights.

    Attributes:
        config: peft's.
        tensors: by the names that peft gives them in a file.
    """

    config: Any
    tensors: dict[str, Tensor]

    def save(self, folder: Path, within: str = "") -> None:
        """Write what `peft.PeftModel.from_pretrained` reads, for the backbone of the published model.

        Args:
            within: where in the model that they are for the backbone is, with a dot at its end; it is that model itself
                by default.
        """
        from safetensors.torch import save_file

        folder.mkdir()
        self.config.save_pretrained(folder)
        named = {f"base_model.model.{within}{name}": tensor.contiguous() for name, tensor in self.tensors.items()}
        save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
