"""The result of instruction fine-tuning: a language model, and what is known of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from rehead.instruction.finetuning import Settings, Tuned
from rehead.instruction.measures import AnswerMeasures
from rehead.instruction.writer import Writer
from rehead.models.text_backbone import TextBackbone


@dataclass(frozen=True)
class ConversationCounts:
    """Conversations of a file, by what became of them.

    Attributes:
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
class Sample:
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
class InstructionResult:
    """A fine-tuned language model with its measures.

    Attributes:
        base: the model, with its new weights.
        data: path of the conversations.
        settings: of the run.
        style: in which the conversations were written down, never `auto`.
        tuned: the training.
        before, test: on the test conversations, before and after.
        total_seconds: up to saving.
        folder, report: paths of the saved model and its HTML page; None where nothing was saved.
    """

    base: TextBackbone = field(repr=False)
    data: str
    settings: Settings
    style: str
    rows: ConversationCounts
    tokens: TokenCounts
    tuned: Tuned = field(repr=False)
    before: AnswerMeasures
    test: AnswerMeasures
    samples: tuple[Sample, ...] = field(repr=False)
    versions: dict[str, str]
    total_seconds: float
    peak_rss_bytes: int
    folder: str | None = None
    report: str | None = None

    @cached_property
    def writer(self) -> Writer:
        """Return what writes answers; its description is all that outlives the run."""
        of_the_run = ("model", "samples", "peak_rss_bytes", "report")
        description = {name: value for name, value in self.to_json().items() if name not in of_the_run}
        return Writer(self.base, description, self.tuned.adapters)

    def to_json(self) -> dict[str, Any]:
        """Return what `rehead instruct --json` prints."""
        settings, history, seconds = self.settings, self.tuned.history, self.tuned.seconds
        epochs = max(1, len(history.validation_losses) - 1)
        return {
            "model": self.folder,
            "data": self.data,
            "base": settings.base,
            "tune": settings.tune,
            "style": self.style,
            "max_length": settings.max_length,
            "seed": settings.seed,
            "rows": asdict(self.rows),
            "tokens": asdict(self.tokens),
            "recipe": {**asdict(settings.recipe), "learning_rate": settings.rate},
            "validation_losses": history.validation_losses,
            "best_epoch": history.best_epoch,
            "stopped": history.stopped,
            "before": self.before.to_json(),
            "test": self.test.to_json(),
            "samples": [asdict(sample) for sample in self.samples],
            "gflops": history.flops / 1e9,
            "seconds": {"training": seconds, "total": self.total_seconds},
            "tokens_a_second": epochs * self.tokens.train / seconds if seconds else None,
            "versions": self.versions,
            "peak_rss_bytes": self.peak_rss_bytes,
            **({} if self.report is None else {"report": self.report}),
        }
