"""`rehead instruct`: instruction fine-tuning from a file of requests and answers to a saved language model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

import numpy as np

from rehead.artifact.saving import require_replaceable
from rehead.data.splits import stratified
from rehead.evaluation.rendering import render
from rehead.instruction import conversations, generation, styles
from rehead.instruction.answering import Answers, mean_loss
from rehead.instruction.conversations import ASSISTANT, Conversation, Conversations
from rehead.instruction.finetuning import Settings, finetune, usual_rate
from rehead.instruction.generation import Sampling
from rehead.instruction.measures import AnswerMeasures, label_set, measure_answers
from rehead.instruction.results import AnswerSample, ConversationCounts, InstructionResult, TokenCounts, TrainingSeconds
from rehead.instruction.tokens import ConversationTokens, prompt_ids, tokenise
from rehead.models.loading import load_language_model
from rehead.models.text_backbone import TextBackbone
from rehead.models.tokenization import longest_input
from rehead.runtime import hardware, progress
from rehead.runtime.errors import DataError, SettingError
from rehead.training.checkpoint import Resumption
from rehead.training.config import check_tune
from rehead.training.inputs import Computed
from rehead.training.loop import Recipe

# Training, validation, test.
FRACTIONS = (0.85, 0.05, 0.1)
# Test requests that are answered, before and after; tokens of an answer, at most; answers that the report shows.
_WRITTEN, _LONGEST, _SHOWN = 100, 128, 10


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
) -> InstructionResult:
    """Fine-tune a language model on requests and answers, measure it and save it.

    Args:
        data: a JSON or JSON Lines file: Alpaca, chat, or prompt and completion.
        base: a decoder; see `rehead.models.loading.locate`.
        tune: `last-K` trains the last K layers from states that are kept; `lora`; `full`.
        style: how conversations are written down: `auto`, `chat`, `alpaca` or `phi`.
        epochs: passes over the training conversations, at most.
        batch_size: conversations a step.
        learning_rate: of AdamW, at its highest; None for what suits `tune`.
        max_length: of a conversation, in tokens.
        random_state: seed of the split, the order and the adapters.
        output: folder to save to; nothing is saved if None.
        resume: go on from where an interrupted run to the same `output` stood.

    Raises:
        RheadError: a child of it, for whatever the user can mend; nothing is written then.
    """
    begun = time.perf_counter()
    rate = usual_rate(tune) if learning_rate is None else learning_rate
    recipe = Recipe(epochs=epochs, batch_size=batch_size, learning_rate=rate, seed=random_state)
    settings = Settings(base, tune, style, max_length, recipe, random_state)
    _check(settings)
    if output is not None:
        require_replaceable(Path(output))
    read = conversations.read(Path(data))
    parts = divided(read.kept, random_state)
    with nullcontext() if output is None else Resumption.beside(Path(output), resume) as resumption:
        model = load_language_model(base)
        run = _prepare(model, settings, parts)
        rows = _rows(read, run)
        _say_what_is_used(read, run, rows)
        before, written_before = _test(model, run)
        tuned = finetune(model, settings, run.train, run.validation, resumption)
        after, written_after = _test(model, run)
        history = tuned.history
        n_tokens = len(run.train.ids.values)
        n_epochs = max(1, len(history.validation_losses) - 1)
        result = InstructionResult(
            backbone=model,
            adapters=tuned.adapters,
            data=str(data),
            base=base,
            tune=tune,
            style=run.style,
            max_length=max_length,
            seed=random_state,
            rows=rows,
            tokens=TokenCounts(n_tokens, int(run.train.n_learned.sum()), run.cut),
            recipe=recipe,
            validation_losses=history.validation_losses,
            best_epoch=history.best_epoch,
            stopped=history.stopped,
            before=before,
            test=after,
            samples=_samples(run.asked, written_before, written_after),
            gflops=history.flops / 1e9,
            seconds=TrainingSeconds(training=tuned.seconds, total=time.perf_counter() - begun),
            tokens_a_second=n_epochs * n_tokens / tuned.seconds if tuned.seconds else None,
            versions={name: version(name) for name in ("rehead", "torch", "transformers", "peft")},
            peak_rss_bytes=hardware.peak_rss_bytes(),
        )
        return result if output is None else _saved(result, Path(output))


def _check(settings: Settings) -> None:
    check_tune(settings.tune)
    if settings.tune in ("auto", "head"):
        raise SettingError(f"`tune={settings.tune!r}` has no meaning here; use last-K, lora or full")
    for name in ("epochs", "batch_size"):
        if getattr(settings.recipe, name) < 1:
            raise SettingError(f"`{name}` must be 1 or more, not {getattr(settings.recipe, name)}")
    if not settings.recipe.learning_rate > 0:
        raise SettingError(f"`learning_rate` must be above 0, not {settings.recipe.learning_rate}")
    if settings.max_length < 2:
        raise SettingError(f"`max_length` must be 2 or more, not {settings.max_length}")


Parts = tuple[list[Conversation], list[Conversation], list[Conversation]]


def divided(kept: Sequence[Conversation], seed: int) -> Parts:
    """Divide conversations into training, validation and test part.

    Conversations that begin alike, up to the first answer, stay together.

    Raises:
        DataError: there are too few.
    """
    numbers: dict[tuple[str, ...], int] = {}
    beginnings = [
        tuple(message.whole.casefold() for message in takewhile(lambda turn: turn.role != ASSISTANT, one.messages))
        for one in kept
    ]
    groups = np.array([numbers.setdefault(beginning, len(numbers)) for beginning in beginnings], dtype=np.int64)
    split = stratified(np.zeros(len(kept), np.int64), seed, FRACTIONS, groups)
    train, validation, test = ([kept[row] for row in rows] for rows in (split.train, split.validation, split.test))
    if not (train and validation and test):
        raise DataError(f"{len(kept)} conversations are too few to learn from and to test on; give 20 or more")
    return train, validation, test


@dataclass(frozen=True)
class _Run:
    """What one run learns from and is tested on.

    Attributes:
        labels: that the answers are, see `rehead.instruction.measures.label_set`.
        asked: test conversations to which an answer can be written within the model's reach.
        longest: such an answer's tokens, at most.
        too_long: conversations whose answer does not fit.
    """

    style: str
    train: ConversationTokens
    validation: ConversationTokens
    test: ConversationTokens
    labels: frozenset[str] | None
    asked: list[Conversation]
    longest: int
    too_long: int

    @property
    def cut(self) -> int:
        """Return the number of conversations that lose their end."""
        return self.train.cut + self.validation.cut + self.test.cut


def _prepare(base: TextBackbone, settings: Settings, parts: Parts) -> _Run:
    style = styles.resolved(settings.style, base.tokenizer)
    train, validation, test = (_tokens(base, part, style, settings.max_length) for part in parts)
    reach = longest_input(base, settings.max_length + _LONGEST)
    longest = min(_LONGEST, reach // 2)
    fitting = (
        parts[2][row]
        for row in test.kept.tolist()
        if len(prompt_ids(base.tokenizer, parts[2][row].request, style)) + longest <= reach
    )
    return _Run(
        style=style,
        train=train,
        validation=validation,
        test=test,
        labels=label_set([conversation.answer for conversation in parts[0]]),
        asked=list(fitting)[:_WRITTEN],
        longest=longest,
        too_long=sum(map(len, parts)) - sum(len(tokens.ids) for tokens in (train, validation, test)),
    )


def _tokens(base: TextBackbone, part: list[Conversation], style: str, max_length: int) -> ConversationTokens:
    tokens = tokenise(base, part, style, max_length)
    if not len(tokens.ids):
        raise DataError(f"no answer fits into {max_length} tokens; raise `max_length`")
    return tokens


def _rows(read: Conversations, run: _Run) -> ConversationCounts:
    train, validation, test = (len(tokens.ids) for tokens in (run.train, run.validation, run.test))
    too_long = {"whose answer does not fit (--max-length)": run.too_long} if run.too_long else {}
    return ConversationCounts(
        read.read, train + validation + test, train, validation, test, dropped=read.dropped | too_long
    )


def _say_what_is_used(read: Conversations, run: _Run, rows: ConversationCounts) -> None:
    for reason, n in rows.dropped.items():
        progress.warn(f"{n:,} of {read.read:,} rows are left out: {reason}")
    if run.cut:
        progress.warn(f"{run.cut:,} conversations have more tokens than fit and lose their end (`max_length`)")
    progress.say(
        f"{rows.train:,} conversations to learn from, {int(run.train.n_learned.sum()):,} tokens of answers; "
        f"{rows.validation:,} to validate, {rows.test:,} to test; style {run.style}"
    )


def _test(base: TextBackbone, run: _Run) -> tuple[AnswerMeasures, list[str]]:
    """Measure the model as it is now on the test part; return the answers that it wrote, too."""
    loss = mean_loss(base, Answers(run.test, Computed(base, run.test.ids, 0)))
    requests = [conversation.request for conversation in run.asked]
    written = generation.answers(base, requests, run.style, Sampling(max_tokens=run.longest))
    wanted = [conversation.answer for conversation in run.asked]
    return measure_answers(loss, written, wanted, run.labels), written


def _samples(asked: Sequence[Conversation], before: Sequence[str], after: Sequence[str]) -> tuple[AnswerSample, ...]:
    shown = zip(asked[:_SHOWN], before, after, strict=False)
    return tuple(
        AnswerSample(one.line, "\n\n".join(message.whole for message in one.request), one.answer, first, second)
        for one, first, second in shown
    )


def _saved(result: InstructionResult, output: Path) -> InstructionResult:
    """Save the model with its report and card, and return the result with their paths."""
    result = replace(result, folder=str(output.resolve()))
    documents = {
        "report.html": render("instruction.html.jinja", result=result),
        "README.md": render("instruction_card.md.jinja", result=result),
    }
    result.writer.save(output, documents)
    return replace(result, report=str(output.resolve() / "report.html"))
