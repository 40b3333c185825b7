"""The result of instruction fine-tuning: a language model, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rehead.instruction.measures import AnswerMeasures
from rehead.instruction.writer import Writer
from rehead.models.adapters import Adapters
from rehead.models.text_backbone import TextBackbone
from rehead.runtime.results import Result, entry
from rehead.training.loop import Recipe


@dataclass(frozen=True)
class ConversationCounts:
    """Conversations of a file, by what became of them.

    Attributes:
        read: in all.
        used: in all parts.
        train, validation, test: in each part.
        dropped: how many were left out, by the reason.
    """

    read: int
    used: int
    train: int
    validation: int
    test: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class TokenCounts:
    """Tokens that a language model learned from.

    Attributes:
        train: of the training conversations.
        train_learned: of these, the ones that it learned to write.
        cut: conversations that lose their end.
    """

    train: int
    train_learned: int
    cut: int


@dataclass(frozen=True)
class GeneratedAnswer(Result):
    """What a language model has answered to one request.

    Attributes:
        answer: without the tokens that end it.
        seconds: that `generate` took.
    """

    answer: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class AnswerSample:
    """A test request with its answers.

    Attributes:
        line: where in the file.
        wanted: the answer in the data.
        before, after: the model's own, before and after fine-tuning.
    """

    line: int
    request: str
    wanted: str
    before: str
    after: str


@dataclass(frozen=True)
class TrainingSeconds:
    """Seconds that a run took.

    Attributes:
        training: of fine-tuning alone.
        total: of all, up to saving.
    """

    training: float
    total: float


@dataclass(frozen=True, kw_only=True)
class InstructionResult(Result):
    """A fine-tuned language model with its measures.

    Attributes:
        backbone: the model, with its new weights.
        adapters: of low-rank training; their effect is in the model's weights already.
        folder: where it was saved; None if nowhere.
        data: path of the conversations.
        base: name of the pretrained model.
        tune: how it was trained: `last-K`, `lora` or `full`.
        style: in which the conversations were written down, never `auto`.
        max_length: tokens that are read of a conversation.
        seed: of the split, the order and the adapters.
        rows: conversations of the file.
        tokens: that it learned from.
        recipe: how the weights were trained.
        validation_losses: before the first epoch and after each.
        best_epoch: whose weights were kept; 0 is what the training started from.
        stopped: why before the last epoch; None if it was not.
        before, test: on the test conversations, before and after.
        samples: some of the test requests with their answers.
        gflops: billions of floating-point operations of the training.
        tokens_a_second: of the training; None where it took no time.
        versions: of the packages that trained it.
        peak_rss_bytes: the most memory that the process has held.
        report: path of the HTML page; None where nothing was saved.
    """

    backbone: TextBackbone = entry(hidden=True)
    adapters: Adapters | None = entry(hidden=True)
    folder: str | None = entry("model", default=None)
    data: str
    base: str
    tune: str
    style: str
    max_length: int
    seed: int
    rows: ConversationCounts
    tokens: TokenCounts
    recipe: Recipe
    validation_losses: list[float]
    best_epoch: int
    stopped: str | None
    before: AnswerMeasures
    test: AnswerMeasures
    samples: tuple[AnswerSample, ...]
    gflops: float
    seconds: TrainingSeconds
    tokens_a_second: float | None
    versions: dict[str, str]
    peak_rss_bytes: int
    report: str | None = entry(optional=True)

    @cached_property
    def writer(self) -> Writer:
        """Return what writes answers; its description is all that outlives the run."""
        of_the_run = ("model", "samples", "peak_rss_bytes", "report")
        description = {name: value for name, value in self.to_json().items() if name not in of_the_run}
        return Writer(self.backbone, description, self.adapters)
