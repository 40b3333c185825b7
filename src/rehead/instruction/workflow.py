"""Instruction fine-tuning from end to end: read, divide, train, write answers, save."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from rehead.artifact.saving import require_replaceable
from rehead.data.splits import stratified
from rehead.evaluation import report
from rehead.instruction import conversations, generation, styles
from rehead.instruction.answering import Answers, mean_loss
from rehead.instruction.conversations import ASSISTANT, Conversation, Conversations
from rehead.instruction.finetuning import Settings, finetune
from rehead.instruction.generation import Sampling
from rehead.instruction.measures import label_set, measured
from rehead.instruction.tokens import Tokens, prompt_ids, tokenise
from rehead.instruction.writer import Writer
from rehead.models.loading import load_language_model
from rehead.models.text_backbone import TextBackbone
from rehead.models.tokenization import longest_input
from rehead.runtime import hardware, progress
from rehead.runtime.errors import DataError, SettingError
from rehead.training.config import check_tune
from rehead.training.inputs import Computed
from rehead.training.loop import History, Recipe
from rehead.training.resumption import Resumption

# Training, validation, test.
FRACTIONS = (0.85, 0.05, 0.1)
# Answers to so many test requests are written, before and after, of at most so many tokens; so many are shown.
_WRITTEN, _LONGEST, _SHOWN = 100, 128, 10


@dataclass(frozen=True)
class Instructed:
    """A fine-tuned language model, and everything that is to be said about it, as JSON can hold it."""

    writer: Writer
    facts: dict[str, Any] = field(repr=False)


def instruct(
    data: str | Path,
    base: str = "smollm2",
    *,
    tune: str = "lora",
    style: str = "auto",
    epochs: int = 3,
    batch_size: int = 8,
    learning_rate: float | None = None,
    max_length: int = 1024,
    random_state: int = 0,
    output: str | Path | None = None,
    resume: bool = False,
) -> Instructed:
    """Fine-tunes a language model on requests and answers, measures it and saves it.

    Args:
        data: a JSON or JSON Lines file: Alpaca, chat, or prompt and completion.
        base: a decoder; see `rehead.models.loading.locate`.
        tune: `last-K` trains the last K blocks from states that are kept; `lora`; `full`.
        style: how conversations are written down: `auto`, `chat`, `alpaca` or `phi`.
        output: folder to save to; nothing is saved if None.
        resume: go on from where an interrupted run to the same `output` stood.

    Raises:
        RheadError: a child of it, for whatever the user can mend; nothing is written then.
    """
    started = time.perf_counter()
    recipe = Recipe(epochs=epochs, batch_size=batch_size, seed=random_state)
    settings = Settings(base, tune, style, max_length, recipe, learning_rate, random_state)
    _check(settings)
    if output is not None:
        require_replaceable(Path(output))
    given = conversations.read(Path(data))
    train_part, validation_part, test_part = divided(given.kept, random_state)
    with nullcontext() if output is None else Resumption.beside(Path(output), resume) as resumption:
        model = load_language_model(base)
        run = _Run(model, settings, train_part, validation_part, test_part)
        run.say_what_is_used(given)
        before = run.tested()
        tuned = finetune(model, settings, run.tokens[0], run.tokens[1], resumption)
        history, seconds = tuned.history, tuned.seconds
        after = run.tested()
        facts: dict[str, Any] = {
            "model": None if output is None else str(Path(output).resolve()),
            "data": str(data),
            "base": base,
            "tune": tune,
            "style": run.style,
            "max_length": max_length,
            "seed": random_state,
            "rows": run.rows(given),
            "tokens": run.told_of_tokens(),
            "recipe": {**asdict(recipe), "learning_rate": settings.rate},
            "validation_losses": history.validation_losses,
            "best_epoch": history.best_epoch,
            "stopped": history.stopped,
            "before": before.facts,
            "test": after.facts,
            "samples": run.samples(before, after),
            "gflops": history.flops / 1e9,
            "seconds": {"training": seconds},
            "tokens_a_second": run.trained_tokens(history) / seconds if seconds else None,
            "versions": {name: version(name) for name in ("rehead", "torch", "transformers", "peft")},
        }
        writer = Writer(
            model, {key: value for key, value in facts.items() if key not in ("model", "samples")}, tuned.adapters
        )
        facts["seconds"]["total"] = time.perf_counter() - started
        facts["peak_rss_bytes"] = hardware.peak_rss_bytes()
        if output is not None:
            documents = {
                "report.html": report.render("instruction.html.jinja", facts=facts),
                "README.md": report.render("instruction_card.md.jinja", facts=facts),
            }
            writer.save(output, documents)
            facts["report"] = str(Path(output).resolve() / "report.html")
    return Instructed(writer, facts)


def divided(
    given: Sequence[Conversation], seed: int
) -> tuple[list[Conversation], list[Conversation], list[Conversation]]:
    """Training, validation and test part; conversations that begin alike, up to the first answer, stay together.

    Raises:
        DataError: there are too few.
    """
    numbers: dict[tuple[str, ...], int] = {}
    beginnings = [
        tuple(message.whole.casefold() for message in takewhile(lambda turn: turn.role != ASSISTANT, one.messages))
        for one in given
    ]
    groups = np.array([numbers.setdefault(beginning, len(numbers)) for beginning in beginnings], dtype=np.int64)
    split = stratified(np.zeros(len(given), np.int64), seed, FRACTIONS, groups)
    parts = tuple([given[row] for row in rows] for rows in (split.train, split.validation, split.test))
    if not all(parts):
        raise DataError(f"{len(given)} conversations are too few to learn from and to test on; give 20 or more")
    return parts[0], parts[1], parts[2]


@dataclass(frozen=True)
class _Tested:
    facts: dict[str, Any]
    written: list[str]


class _Run:
    """What one run works on."""

    def __init__(
        self,
        base: TextBackbone,
        settings: Settings,
        train_part: list[Conversation],
        validation_part: list[Conversation],
        test_part: list[Conversation],
    ) -> None:
        self.base, self.settings = base, settings
        self.style = styles.resolved(settings.style, base.tokenizer)
        self.tokens = [self._tokens(part) for part in (train_part, validation_part, test_part)]
        self.labels = label_set([conversation.answer for conversation in train_part])
        lost = sum(len(part) for part in (train_part, validation_part, test_part)) - sum(self._counts)
        self.too_long = {"whose answer does not fit (--max-length)": lost} if lost else {}
        # Those to which an answer can be written within the model's reach.
        reach = longest_input(base, settings.max_length + _LONGEST)
        self.longest = min(_LONGEST, reach // 2)
        fitting = [
            test_part[row]
            for row in self.tokens[2].kept.tolist()
            if len(prompt_ids(base.tokenizer, test_part[row].request, self.style)) + self.longest <= reach
        ]
        self.asked = fitting[:_WRITTEN]

    def _tokens(self, part: list[Conversation]) -> Tokens:
        tokens = tokenise(self.base, part, self.style, self.settings.max_length)
        if not len(tokens.ids):
            raise DataError(f"no answer fits into {self.settings.max_length} tokens; raise --max-length")
        return tokens

    def say_what_is_used(self, given: Conversations) -> None:
        for reason, n in (given.dropped | self.too_long).items():
            progress.warn(f"{n:,} of {given.read:,} rows are left out: {reason}")
        cut = sum(tokens.cut for tokens in self.tokens)
        if cut:
            progress.warn(f"{cut:,} conversations have more tokens than fit and lose their end (--max-length)")
        learned = int(self.tokens[0].n_learned.sum())
        progress.say(
            f"{len(self.tokens[0].ids):,} conversations to learn from, {learned:,} tokens of answers; "
            f"{len(self.tokens[1].ids):,} to validate, {len(self.tokens[2].ids):,} to test; style {self.style}"
        )

    @property
    def _counts(self) -> list[int]:
        return [len(tokens.ids) for tokens in self.tokens]

    def rows(self, given: Conversations) -> dict[str, Any]:
        counts = dict(zip(("train", "validation", "test"), self._counts, strict=True))
        return {"read": given.read, "used": sum(self._counts), **counts, "dropped": given.dropped | self.too_long}

    def told_of_tokens(self) -> dict[str, int]:
        train_tokens = self.tokens[0]
        return {
            "train": len(train_tokens.ids.values),
            "train_learned": int(train_tokens.n_learned.sum()),
            "cut": sum(tokens.cut for tokens in self.tokens),
        }

    def trained_tokens(self, history: History) -> float:
        epochs = max(1, len(history.validation_losses) - 1)
        return float(epochs * len(self.tokens[0].ids.values))

    def tested(self) -> _Tested:
        """Loss on the test part, and the answers that are written to it, by the base as it is now."""
        base, test = self.base, self.tokens[2]
        loss = mean_loss(base, Answers(test, Computed(base, test.ids, 0)))
        requests = [conversation.request for conversation in self.asked]
        written = generation.answers(base, requests, self.style, Sampling(max_tokens=self.longest))
        wanted = [conversation.answer for conversation in self.asked]
        facts = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), **measured(written, wanted, self.labels)}
        return _Tested(facts, written)

    def samples(self, before: _Tested, after: _Tested) -> list[dict[str, Any]]:
        shown = zip(self.asked[:_SHOWN], before.written, after.written, strict=False)
        return [
            {
                "line": conversation.line,
                "request": "\n\n".join(message.whole for message in conversation.request),
                "wanted": conversation.answer,
                "before": first,
                "after": second,
            }
            for conversation, first, second in shown
        ]


def _check(settings: Settings) -> None:
    check_tune(settings.tune)
    if settings.tune in ("auto", "head"):
        raise SettingError(f"--tune {settings.tune} has no meaning here; use last-K, lora or full")
    for name in ("epochs", "batch_size"):
        if getattr(settings.recipe, name) < 1:
            raise SettingError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(settings.recipe, name)}")
    if settings.learning_rate is not None and not settings.learning_rate > 0:
        raise SettingError(f"--learning-rate must be above 0, not {settings.learning_rate}")
    if settings.max_length < 2:
        raise SettingError(f"--max-length must be 2 or more, not {settings.max_length}")
