"""Say on the way what a fit or an evaluation does, one line at a time."""

from __future__ import annotations

from rehead.data.audit import Finding, cut_off
from rehead.data.examples import CURE_OF_NONE, STANDS_FOR_NONE, Dropped
from rehead.data.preparation import DataSplits
from rehead.evaluation.baselines import said_beside
from rehead.evaluation.comparison import SIGNIFICANT
from rehead.evaluation.evaluation import Evaluation, Predictions
from rehead.models.heads import is_family_head
from rehead.runtime import progress
from rehead.runtime.wording import counted
from rehead.training.encoding import EncodedData
from rehead.training.estimate import estimate
from rehead.training.finetune import TrainedClassifier, TrainedNetwork
from rehead.training.ngrams_alone import NgramData

# Of the losses of more epochs than this the first and the last are shown.
_SHOWN_EPOCHS = 12


def say_what_is_used(splits: DataSplits) -> None:
    """Say which rows are not used, and how the others are divided."""
    say_dropped(splits.dropped)
    progress.say(f"training {len(splits.train):,}, validation {len(splits.validation):,}, test {len(splits.test):,}")


def say_dropped(dropped: Dropped) -> None:
    """Say which rows are not used, and why."""
    for reason, lines in dropped.items():
        shown = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
        rows = "row" if len(lines) == 1 else "rows"
        cure = f"; {CURE_OF_NONE}" if reason.endswith(STANDS_FOR_NONE) else ""
        progress.warn(f"{counted(len(lines), 'row')} not used, {reason} ({rows} {shown}){cure}")


def say_findings(findings: list[Finding]) -> None:
    """Say errors and warnings; rows that are not used are said already, and notes stand in the report."""
    for finding in findings:
        if finding.grade != "note" and not finding.kind.startswith("rows with"):
            rows = [str(example["row"]) for example in finding.examples if "row" in example]
            where = f" (row {', '.join(rows)}{', ...' if finding.count > len(rows) else ''})" if rows else ""
            progress.warn(f"{finding.title}{where}: {finding.advice}")


def say_what_is_ahead(data: EncodedData | NgramData) -> list[Finding]:
    """Say which training texts lose their ends, and what a training takes; return the findings on these texts."""
    if isinstance(data, NgramData):  # which reads every text whole, and takes seconds
        return []
    used, lost = data.encoded.tokens.numpy(), data.encoded.tokens_cut
    too_long = list(cut_off(data.train, used[: data.n_train], lost[: data.n_train]))
    say_findings(too_long)
    plan = estimate(data)
    progress.say(
        f"{plan.tokens:,} tokens: about {plan.seconds:.0f} s and {plan.peak_memory_bytes / 1e9:.1f} GB of memory, "
        "if no features are in the cache"
    )
    return too_long


def say_candidates(trained: TrainedClassifier) -> None:
    """Say what was tried, how it did on validation after calibration, and what stands beside the head."""
    for candidate in trained.candidates:
        line = f"{candidate.tune}: calibrated validation loss {candidate.loss:.4f} after {candidate.seconds:.0f} s"
        if candidate.history:
            losses = [f"{loss:.4f}" for loss in candidate.history.validation_losses]
            shown = ", ".join(losses if len(losses) <= _SHOWN_EPOCHS else [*losses[:3], "...", *losses[-3:]])
            line += f" (by epoch, from the start: {shown}; epoch {candidate.history.best_epoch} is kept"
            line += f"; stopped early, {candidate.history.stopped})" if candidate.history.stopped else ")"
        progress.say(line + ("" if candidate is trained.kept else ": not kept"))
    if isinstance(trained, TrainedNetwork) and trained.baseline_factor:
        what = trained.base.takes
        # Of other poolings Transformers has no class for the head either.
        is_family = what == "texts" and is_family_head(trained.head.pooling)
        alone = ", so the folder is not all of the classifier in Transformers alone; `ngrams=False` gives one that is"
        progress.say(said_beside(what, trained.baseline_factor) + (alone if is_family else ""))
    if trained.stopped:
        progress.say(f"went no further: {trained.stopped}")


def say_evaluation(predictions: Predictions, evaluation: Evaluation, learned_from: str) -> None:
    """Say how many test texts lose their ends, and what is left of the accuracy without examples learned from.

    Args:
        predictions: on the test examples.
        evaluation: of these.
        learned_from: what such examples are also in.
    """
    lost, overlap, test = predictions.tokens_cut, evaluation.overlap, evaluation.test
    if n := int((lost > 0).sum()):
        are, lose = ("is", "loses") if n == 1 else ("are", "lose")
        tokens = counted(int(lost.sum()), "token")
        progress.warn(f"{n:,} of {counted(len(lost), 'test text')} {are} too long and {lose} {tokens} in all")
    if overlap is None:
        return
    without = overlap.test_without
    clean = f"accuracy without them {without.accuracy:.2%}" if without else "none is left without them"
    nearly = f", {overlap.near:,} of them with small changes" if overlap.near else ""
    repeated = overlap.n + overlap.near
    progress.warn(
        f"{repeated:,} of {test.n:,} test {evaluation.what} {'is' if repeated == 1 else 'are'} also in "
        f"{learned_from}{nearly}, so the test flatters: accuracy {test.accuracy:.2%}, {clean}"
    )


# Which base to try where another is no better than counting words: it was better on all English sets that were measured
# (docs/results/accuracy.md), at eight times the work of MiniLM.
_OTHER = {"smollm2": "mpnet", "minilm": "mpnet"}


def say_what_may_help(evaluation: Evaluation, base: str) -> None:
    """Name another base where this one is worse than the baseline, or so near to it that no test could show it.

    A tie that more examples would break is no reason to change anything.
    """
    comparison = evaluation.fair_comparison
    assert comparison is not None
    is_worse = comparison.p_value < SIGNIFICANT and comparison.difference < 0
    if not is_worse and comparison.more_needed is not None:
        return
    if other := _OTHER.get(base):
        progress.say(f"`base={other!r}` may suit these data better than {base}")
