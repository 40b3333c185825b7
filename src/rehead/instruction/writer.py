"""A fine-tuned language model: how it answers, and its folder on disk.

A folder that `transformers.AutoModelForCausalLM.from_pretrained` loads as it stands, with `rehead.json`, `README.md`,
`report.html`, and a folder `adapter` where low-rank adapters were trained. Before it gets its name it is loaded
again, and its logits must be those in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rehead.artifact.artifact import ADAPTER
from rehead.artifact.manifest import FORMAT, MANIFEST, require_own_checksum, require_unchanged, write_manifest
from rehead.artifact.saving import new_folder, require_replaceable, write_documents
from rehead.instruction import generation
from rehead.instruction.conversations import ASSISTANT, USER, Message
from rehead.instruction.generation import Sampling
from rehead.instruction.language_model import next_token_logits
from rehead.instruction.tokens import prompt_ids
from rehead.models.adapters import Adapters
from rehead.models.loading import load_language_model
from rehead.models.packing import Packing
from rehead.models.text_backbone import TextBackbone
from rehead.models.tokenization import longest_input
from rehead.runtime import hardware, progress
from rehead.runtime.errors import ArtifactError, RheadError, SettingError

KIND = "language model"
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Writer:
    """A language model that writes answers.

    Attributes:
        description: the content of rehead.json: base, tune, style, max_length, versions, measures, ...
        adapters: of low-rank training; their effect is in the base's weights already.
    """

    base: TextBackbone
    description: dict[str, Any]
    adapters: Adapters | None = None

    @property
    def style(self) -> str:
        """Return the style that conversations are written down in."""
        return str(self.description["style"])

    def generate(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        streamer: Any = None,
    ) -> str:
        """Write an answer.

        Args:
            prompt: a request, or turns with `role` and `content`, the last of which is the user's.
            max_tokens: of the answer, at most; fewer where the model takes no more.
            temperature, top_p, seed: see `rehead.instruction.generation.Sampling`.
            streamer: one of Transformers', which gets each token as it comes.
        """
        turns = [{"role": USER, "content": prompt}] if isinstance(prompt, str) else prompt
        messages = [Message(turn["role"], turn["content"]) for turn in turns]
        if not messages or messages[-1].role == ASSISTANT:
            raise RheadError("there is nothing to answer; let the last turn be the user's")
        n_tokens = len(prompt_ids(self.base.tokenizer, messages, self.style))
        reach = longest_input(self.base, n_tokens + max(1, max_tokens))
        if n_tokens >= reach:
            raise SettingError(f"the request has {n_tokens:,} tokens, and the model takes {reach:,}; shorten it")
        sampling = Sampling(min(max_tokens, reach - n_tokens), temperature, top_p, seed)
        return generation.answer(self.base, messages, self.style, sampling, streamer)

    def save(self, folder: str | Path, documents: Mapping[str, str] | None = None) -> None:
        """Write the folder, load it again, compare logits, and only then give it its name.

        Args:
            documents: further text files by name.

        Raises:
            ArtifactError: the folder must not or cannot be written, or the reloaded logits differ.
        """
        folder = Path(folder).resolve()
        require_replaceable(folder)
        expected = _sample_logits(self.base)
        with new_folder(folder) as partial:
            self._write(partial, documents or {})
            self._verify(partial, expected)

    @classmethod
    def load(cls, folder: str | Path) -> Writer:
        """Load what `save` has written.

        Raises:
            ArtifactError: the folder is something else, or its weights are not those that were saved.
        """
        folder = Path(folder)
        try:
            description = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            description = None
        if not isinstance(description, dict) or description.get("kind") != KIND:
            raise ArtifactError(
                f"{folder} is no language model of rehead's, or its {MANIFEST} is damaged; give a folder that rehead "
                "instruct wrote"
            )
        require_own_checksum(description, folder / MANIFEST)
        require_unchanged(folder, description.get("weights_sha256"), description.get("files", {}))
        return cls(load_language_model(str(folder)), description)

    def _write(self, folder: Path, documents: Mapping[str, str]) -> None:
        base = self.base
        model = base.model.to("cpu")
        model.generation_config.eos_token_id = generation.end_ids(base, self.style)
        model.generation_config.pad_token_id = base.tokenizer.pad_token_id
        with progress.quiet_transformers():
            model.save_pretrained(folder, max_shard_size="1TB")
            base.tokenizer.save_pretrained(folder)
        if self.adapters:
            self.adapters.save(folder / ADAPTER, within=f"{model.base_model_prefix}.")
        write_documents(folder, documents)
        write_manifest(folder, {"format": FORMAT, "kind": KIND, **self.description})

    def _verify(self, folder: Path, expected: torch.Tensor) -> None:
        difference = float((_sample_logits(Writer.load(folder).base) - expected).abs().max())
        if not difference <= _TOLERANCE:
            raise ArtifactError(
                f"the saved model's logits differ from those in memory by {difference:.2g}, so it was not kept; this "
                "is a fault of rehead, please report it with the base's name"
            )


def _sample_logits(base: TextBackbone) -> torch.Tensor:
    """Return (T, vocabulary) logits of a few tokens."""
    ids = torch.arange(8) % base.config.vocab_size
    device = hardware.device()
    base.model.to(device)
    base.train(False)
    packing = Packing(torch.tensor([len(ids)], device=device))
    with torch.inference_mode():
        states = base.run_layers(base.embed(ids.to(device), packing), packing, 0, len(base.layers))
        return next_token_logits(base, base.normalise(states)).cpu()
