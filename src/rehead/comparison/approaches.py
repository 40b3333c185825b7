"""The approaches that are compared: the name of each, how it learns, how it answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from rehead.classifier import Classifier
from rehead.comparison.prompting import Prompts, shared
from rehead.data.examples import Examples, Index
from rehead.data.splits import of_each_class, stratified
from rehead.evaluation import baselines, likelihood
from rehead.evaluation.baselines import Baselines
from rehead.instruction import generation, styles
from rehead.instruction.finetuning import Settings, finetune, usual_rate
from rehead.instruction.generation import Sampling
from rehead.instruction.tokens import ConversationTokens, tokenise
from rehead.models.loading import load_language_model, locate
from rehead.models.tokenization import longest_input
from rehead.runtime import hardware
from rehead.runtime.errors import SettingError
from rehead.training.estimate import estimate
from rehead.training.features import forward_flops
from rehead.training.finetune import Limits
from rehead.training.loop import Recipe
from rehead.training.strategies import TRAINING_EFFICIENCY, expected_seconds
from rehead.workflows.fit import cost_of_test

TITLES = {
    "majority": "most frequent class",
    "tfidf": baselines.NAMES["tfidf"],
    "probe": "probe",
    "zero-shot": "zero-shot prompt",
    "few-shot": "few-shot prompt",
    "last-1": "last layer and head",
    "lora": "LoRA and head",
    "full": "all weights and head",
    "instruction": "instruction-tuned",
    "setfit": "SetFit",
}
# Those that take next to nothing of the machine's time.
CHEAP = ("majority", "tfidf")
# Those that answer in words: a new label is a new word in the prompt.
IN_WORDS = ("zero-shot", "few-shot", "instruction")

# Examples that a prompt shows, of each class and in all.
_SHOWN_OF_A_CLASS, _SHOWN = 2, 16
# ConversationTokens of a text in a prompt, at most.
_PROMPTED_TOKENS = 256
# Test texts that prompts are tried on, at most and at least.
_ASKED_AT_MOST, _ASKED_AT_LEAST = 500, 50
# Shares of what is left of the budget: planned for answers, planned for fine-tuning on answers, and the time after
# which fine-tuning ends where it is slower than planned.
_PLANNED_ANSWERS, _PLANNED_TUNING, _LONGEST_TUNING = 0.25, 0.5, 0.6
# A pass through a language model reaches about this share of a plain matrix product's speed.
_EFFICIENCY = 0.5
# Free answers that are written, to see how many are none of the labels.
_WRITTEN = 32
# Texts of a class that is tried as a new one.
_NEW = 32
_INSTRUCTION_EPOCHS, _LEAST_TUNED_ON = 2, 64
# SetFit learns from pairs of examples, of which there are soon many.
_SETFIT_OF_A_CLASS = 8


@dataclass(frozen=True)
class Learned:
    """An approach that has learned.

    Attributes:
        scores: texts → (n, n_classes) probabilities.
        n_learned: labelled examples that it learned from.
        seconds: of learning.
        flops: of learning, those of features in the cache too.
        megabytes: of what has to be kept to answer.
        tested: which of the test examples it is tried on; None for all.
        outside: (texts) → share of free answers that are none of the labels; None where there are no free answers.
        new_label: → recall of the rarest class where no example of it was shown; None where that was not tested.
        cached_seconds: about what computing the features would have taken that were in the cache already.
        model: a classifier, where that is what has learned.
    """

    scores: Callable[[Sequence[str]], npt.NDArray[np.float64]]
    n_learned: int
    seconds: float
    flops: float
    megabytes: float
    tested: Index | None = None
    outside: Callable[[Sequence[str]], float] | None = None
    new_label: Callable[[], float | None] | None = None
    cached_seconds: float = 0.0
    model: Classifier | None = None


class NotTriedError(Exception):
    """An approach is not tried, and why; caught where approaches are run."""


@dataclass(frozen=True)
class ComparisonTask:
    """What all approaches learn from and answer.

    Attributes:
        bases: of the classifiers.
        writer: the language model that is asked in words; None where no base is one.
        max_length: of a text, in tokens.
        seed: for everything random.
        deadline: end of the budget, on the clock of time.perf_counter.
    """

    train: Examples
    validation: Examples
    test: Examples
    bases: tuple[str, ...]
    writer: str | None
    max_length: int
    seed: int
    deadline: float

    def seconds_left(self) -> float:
        """Return what is left of the budget; negative where it is used up."""
        return self.deadline - time.perf_counter()

    @cached_property
    def baseline(self) -> tuple[Baselines, float]:
        """Learn the baselines where they are first asked for; return them and the seconds that they took."""
        begun = time.perf_counter()
        return baselines.learn(self.train, self.validation), time.perf_counter() - begun


# It learns a task, or raises NotTriedError.
Approach = Callable[[ComparisonTask], Learned]


def of(name: str, bases: tuple[str, ...]) -> list[tuple[str, Approach]]:
    """Return the approaches that a name stands for: a probe is one on each base.

    Raises:
        SettingError: there is no such approach.
    """
    simple: dict[str, Approach] = {
        "majority": majority,
        "tfidf": tfidf,
        "zero-shot": zero_shot,
        "few-shot": few_shot,
        "instruction": instruction,
    }
    if name in simple:
        return [(name, simple[name])]
    if name == "probe":
        return [(f"probe:{base}", partial(classifier, base=base, tune="head")) for base in bases]
    if name in ("last-1", "lora", "full"):
        return [(name, partial(classifier, base=bases[0], tune=name))]
    if name == "setfit":
        return [(name, partial(setfit, base=bases[-1]))]
    raise SettingError(f"`names`: {name!r} is none of {', '.join(TITLES)}")


def drawn(examples: Examples, n: int, seed: int) -> Examples:
    """Draw about n of the examples, each class in its share."""
    if n >= len(examples):
        return examples
    share = n / len(examples)
    return examples.take(stratified(examples.labels, seed, (1 - share, 0.0, share)).test)


def majority(task: ComparisonTask) -> Learned:
    """Answer with the shares of the classes."""
    begun = time.perf_counter()
    counts = np.bincount(task.train.labels, minlength=len(task.train.label_names))
    shares = counts / counts.sum()
    return Learned(lambda texts: np.tile(shares, (len(texts), 1)), len(task.train), time.perf_counter() - begun, 0, 0)


def tfidf(task: ComparisonTask) -> Learned:
    """Take the baseline that stands beside the classifiers."""
    learned, seconds = task.baseline
    n_bytes = sum(array.nbytes for array in learned.tensors().values())
    return Learned(learned.probabilities, len(task.train), seconds, 0.0, n_bytes / 1e6)


def classifier(task: ComparisonTask, base: str, tune: str) -> Learned:
    """Put a classification head on a base, tuned as `rehead.Classifier` takes it."""
    baseline, seconds = task.baseline
    begun = time.perf_counter()
    left = max(1.0, task.seconds_left())
    model = Classifier(base, tune=tune, max_length=task.max_length, random_state=task.seed, budget=left)
    data = model.encode(task.train, task.validation)
    tokens = int(data.encoded.tokens.sum())
    speed = _EFFICIENCY * hardware.product_speed(hardware.native_dtype())
    share_of_test = cost_of_test(task.train, task.validation, task.test)
    needed = estimate(data).seconds if tune == "head" else expected_seconds(data, tune, len(data.base.layers))
    needed += share_of_test * forward_flops(data.base, tokens, 0, len(data.base.layers)) / speed
    if needed > left:
        raise NotTriedError(f"would take about {needed:.0f} s, and {left:.0f} s of the budget are left")
    result = model.fit_encoded(data, baseline, Limits(begun + left, share_of_test))
    trunk = forward_flops(data.base, tokens, 0, len(data.base.layers))  # of the layers that are kept
    cached = max(0.0, trunk - result.trunk_flops)
    return Learned(
        scores=lambda texts: model.predict_proba(list(texts)),
        n_learned=len(task.train),
        # The baseline that stands beside the head is part of the classifier, whoever learned it first.
        seconds=seconds + time.perf_counter() - begun,
        flops=result.flops + cached,
        megabytes=4 * result.parameters / 1e6,
        cached_seconds=cached / speed,
        model=model,
    )


def zero_shot(task: ComparisonTask) -> Learned:
    """Ask the language model, which sees no example."""
    return _asked(task, None)


def few_shot(task: ComparisonTask) -> Learned:
    """Show a few training texts of each class before the request, from the shorter half of each."""
    generator = np.random.default_rng(task.seed)
    n_classes = len(task.train.label_names)
    of_a_class = max(1, min(_SHOWN_OF_A_CLASS, _SHOWN // n_classes))
    lengths = np.array([len(text) for text in task.train.texts])
    shown: list[int] = []
    for label in np.unique(task.train.labels):
        rows = np.flatnonzero(task.train.labels == label)
        shown += generator.permutation(rows[lengths[rows] <= np.median(lengths[rows])])[:of_a_class].tolist()
    return _asked(task, task.train.take(generator.permutation(shown)[:_SHOWN]))


def _asked(task: ComparisonTask, shown: Examples | None) -> Learned:
    begun = time.perf_counter()
    prompts = replace(_prompts(task), examples=shown)
    tested = _affordable_test(task, prompts)
    n_shown = 0 if shown is None else len(shown)
    learned = _in_words(prompts, prompts.log_odds, n_shown, time.perf_counter() - begun, 0.0, tested)

    def recall_of_a_new_label() -> float | None:
        new = int(np.bincount(task.train.labels, minlength=len(prompts.names)).argmin())
        of_it = [task.test.texts[row] for row in np.sort(tested) if task.test.labels[row] == new][:_NEW]
        if not of_it:
            return None
        without = None if shown is None else shown.take(np.flatnonzero(shown.labels != new))
        return float((replace(prompts, examples=without).log_odds(of_it).argmax(1) == new).mean())

    return replace(learned, new_label=recall_of_a_new_label)


def instruction(task: ComparisonTask) -> Learned:
    """Fine-tune the language model to write the label, and ask it as an untuned one is asked."""
    prompts = _prompts(task)
    parts = _affordable_examples(task, prompts)
    # Chosen before the training, so that no training is for nothing.
    tested = _affordable_test(task, prompts)
    settings = Settings(
        base=prompts.base.name,
        tune="lora",
        style=prompts.style,
        max_length=task.max_length + _PROMPTED_TOKENS,
        recipe=Recipe(epochs=_INSTRUCTION_EPOCHS, learning_rate=usual_rate("lora"), seed=task.seed),
        seed=task.seed,
    )
    train, validation = (_tokens(prompts, part, settings.max_length) for part in parts)
    deadline = time.perf_counter() + _LONGEST_TUNING * task.seconds_left()
    tuned = finetune(prompts.base, settings, train, validation, deadline=deadline)
    n_learned = len(train.ids) + len(validation.ids)
    return _in_words(prompts, prompts.likelihoods, n_learned, tuned.seconds, tuned.history.flops, tested)


def _tokens(prompts: Prompts, examples: Examples, max_length: int) -> ConversationTokens:
    """Tokenise requests with their labels as answers."""
    rows = zip(examples.texts, examples.labels.tolist(), examples.lines.tolist(), strict=True)
    tokens = tokenise(prompts.base, [prompts.conversation(*row) for row in rows], prompts.style, max_length)
    if not len(tokens.ids):
        raise NotTriedError(f"no request with its answer fits into {max_length} tokens")
    return tokens


def setfit(task: ComparisonTask, base: str) -> Learned:
    """Learn from few examples, contrastively, with the package of that name.

    Source: Tunstall et al., arXiv 2209.11055.
    """
    try:
        import setfit as package
        from datasets import Dataset
    except ImportError:
        raise NotTriedError("the package setfit is not installed") from None
    begun = time.perf_counter()
    folder = locate(base)
    if any(folder.glob("*.pkl")):
        raise NotTriedError(f"{folder} has a pickled head, which SetFit would load; remove it")
    generator = np.random.default_rng(task.seed)
    few = task.train.take(of_each_class(task.train.labels, _SETFIT_OF_A_CLASS, generator))
    model = package.SetFitModel.from_pretrained(str(folder), labels=list(task.train.label_names))
    data = Dataset.from_dict({"text": few.texts, "label": few.labels.tolist()})
    with tempfile.TemporaryDirectory() as scratch:
        arguments = package.TrainingArguments(
            output_dir=scratch, batch_size=16, num_epochs=1, seed=task.seed, save_strategy="no", report_to="none"
        )
        package.Trainer(model=model, args=arguments, train_dataset=data).train()
    n_weights = sum(weight.numel() for weight in model.model_body.parameters())

    def scores(texts: Sequence[str]) -> npt.NDArray[np.float64]:
        return np.asarray(model.predict_proba(list(texts), as_numpy=True), dtype=np.float64)

    return Learned(scores, len(few), time.perf_counter() - begun, 0.0, 4 * n_weights / 1e6)


def _prompts(task: ComparisonTask) -> Prompts:
    """Load the language model, with requests that show no examples."""
    if task.writer is None:
        raise NotTriedError("none of the bases is a language model")
    base = load_language_model(task.writer)
    style = styles.resolved("auto", base.tokenizer)
    return Prompts(base, style, task.train.label_names, min(_PROMPTED_TOKENS, task.max_length))


def _in_words(
    prompts: Prompts,
    odds: Callable[[Sequence[str]], npt.NDArray[np.float64]],
    n_learned: int,
    seconds: float,
    flops: float,
    tested: Index,
) -> Learned:
    """Return an approach that answers with the label of the highest odds.

    Args:
        odds: texts → (n, n_classes) log-likelihoods.
    """
    longest = _longest_name(prompts) + 8

    def scores(texts: Sequence[str]) -> npt.NDArray[np.float64]:
        return likelihood.probabilities(odds(texts), multilabel=False)

    def outside(texts: Sequence[str]) -> float:
        requests = [prompts.request(text) for text in texts[:_WRITTEN]]
        written = generation.answers(prompts.base, requests, prompts.style, Sampling(max_tokens=longest))
        return sum(answer not in prompts.names for answer in written) / len(written)

    megabytes = 4 * sum(weight.numel() for weight in prompts.base.model.parameters()) / 1e6
    return Learned(scores, n_learned, seconds, flops, megabytes, tested, outside)


def _longest_name(prompts: Prompts) -> int:
    """Return the tokens of the longest label."""
    return max(len(prompts.base.tokenizer(name)["input_ids"]) for name in prompts.names)


def _some_prompts(prompts: Prompts, examples: Examples) -> list[list[int]]:
    """Return the token ids of requests about a few examples, which stand for the others in estimates."""
    return [prompts.ids(text) for text in examples.texts[:: max(1, len(examples) // 16)][:16]]


def _affordable_test(task: ComparisonTask, prompts: Prompts) -> Index:
    """Draw the test examples that are asked about, in random order, so that their share of the budget is enough."""
    base = prompts.base
    written = _some_prompts(prompts, task.test)
    n_shared = shared(written) if len(written) > 1 else 0
    longest = max(map(len, written)) + _longest_name(prompts)
    if longest > longest_input(base, longest):
        raise NotTriedError(f"prompts of {longest} tokens are longer than the model takes")
    own = np.mean([len(ids) for ids in written]) - n_shared + 3 * len(prompts.names)
    a_text = forward_flops(base, int(own), 0, len(base.layers))
    speed = _EFFICIENCY * hardware.product_speed(hardware.native_dtype())
    n = min(len(task.test), _ASKED_AT_MOST, int(_PLANNED_ANSWERS * task.seconds_left() * speed / a_text))
    if n < min(_ASKED_AT_LEAST, len(task.test)):
        raise NotTriedError(
            f"{a_text / speed:.1f} s a text are too many for the {task.seconds_left():.0f} s that are left"
        )
    return np.random.default_rng(task.seed).permutation(len(task.test))[:n]


def _affordable_examples(task: ComparisonTask, prompts: Prompts) -> tuple[Examples, Examples]:
    """Draw training and validation examples to tune on, so that their share of the budget is enough."""
    base = prompts.base
    tokens = float(np.mean([len(ids) for ids in _some_prompts(prompts, task.train)]))
    an_epoch = 3 * forward_flops(base, int(tokens), 0, len(base.layers)) * _INSTRUCTION_EPOCHS
    seconds = an_epoch / (TRAINING_EFFICIENCY * hardware.product_speed(hardware.native_dtype()))
    n = int(_PLANNED_TUNING * task.seconds_left() / seconds)
    if n < _LEAST_TUNED_ON:
        raise NotTriedError(
            f"{seconds:.1f} s an example are too many for the {task.seconds_left():.0f} s that are left"
        )
    return drawn(task.train, n, task.seed), drawn(task.validation, max(16, n // 8), task.seed)
