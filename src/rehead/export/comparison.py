"""The proof of an export: on real texts or images it gives what the saved classifier gives, in batches and alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from rehead.artifact.artifact import NetworkArtifact
from rehead.data.images import ImageInput
from rehead.evaluation import likelihood
from rehead.export.results import Difference, ExportComparison
from rehead.models.forward_pass import pooled_features
from rehead.models.heads import finite
from rehead.models.model_inputs import encode_inputs
from rehead.runtime import hardware, progress
from rehead.runtime.errors import ArtifactError

# The most texts or images that are compared, and the most tokens of them together, so that long ones do not take hours.
_AT_MOST, _TOKENS = 1000, 131_072
# They come in no order of length, so that every batch holds padding; this many of them are compared alone, too.
_BATCH, _ALONE = 16, 64
# Probabilities of an export in float32 may differ by this much, and logits by this share of the text's largest one (or
# of 1), unless that is no more than rounding: what is left of a sum may be far less than its terms, whose rounding it
# keeps. A classifier with `cls` pooling whose head has large weights differed by 0.00013.
_TOLERANCE = 1e-4
# Of features that went through a network in float32, as a share of them; a head multiplies it with its terms.
_ROUNDING = 1e-5
# The share of the texts that must keep their labels in 8-bit integers.
NEEDED_AGREEMENT = 0.995

# n texts or images → logits (n, n_classes).
Run = Callable[[Sequence[str] | Sequence[ImageInput]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class ReferenceLogits:
    """What the saved classifier gives for n texts or images.

    Attributes:
        inputs: the n texts or images, in no order.
        logits: (n, n_classes) float32.
        terms: (n,) float32, the largest sum of absolute terms that a logit of the head is made of.
        speed: how many of them a second, from text to logits, in float32.
    """

    classifier: NetworkArtifact
    inputs: list[str] | list[ImageInput]
    logits: npt.NDArray[np.float32]
    terms: npt.NDArray[np.float32]
    speed: float


def reference(classifier: NetworkArtifact, inputs: list[str] | list[ImageInput]) -> ReferenceLogits:
    """Score a sample of the inputs in float32, the same one each time."""
    order = np.random.default_rng(0).permutation(len(inputs))[:_AT_MOST].tolist()
    started = time.perf_counter()
    # A copy for inference, as in `rehead.artifact.predictor`; never one in bfloat16.
    backbone, head = classifier.backbone.with_products_in(torch.float32), classifier.head.eval()
    encoded = encode_inputs(backbone, [inputs[i] for i in order], classifier.max_length, classifier.long)
    n = max(1, int((encoded.tokens.cumsum(0) <= _TOKENS).sum()))
    encoded = encoded.take(torch.arange(n))
    seen, _ = pooled_features(backbone, encoded.ids, depths=head.reads, pooling=head.pooling, label="scoring")
    with torch.inference_mode():
        features = head.to(hardware.device()).projection(encoded.by_text(seen).to(hardware.device()))
        logits = head.linear(features).cpu().numpy()
        terms = nn.functional.linear(features.abs(), head.linear.weight.abs()).amax(1).cpu().numpy()
    compared_inputs = [inputs[i] for i in order[:n]]
    if classifier.beside is not None:
        beside, factor = classifier.beside
        logits = logits + np.float32(factor) * finite(beside.logits(compared_inputs))
    seconds = time.perf_counter() - started
    return ReferenceLogits(classifier, compared_inputs, logits, terms, n / seconds)


def compared(expected: ReferenceLogits, run: Run) -> ExportComparison:
    """Run an export on the reference's inputs."""
    inputs, n = expected.inputs, len(expected.inputs)
    in_batches, alone = [], []
    seconds = 0.0
    with progress.bar("comparing", n + min(n, _ALONE)) as advance:
        for start in range(0, n, _BATCH):
            batch = inputs[start : start + _BATCH]
            started = time.perf_counter()
            in_batches.append(run(batch))
            seconds += time.perf_counter() - started
            advance(len(batch))
        for i in range(min(n, _ALONE)):
            alone.append(run(inputs[i : i + 1]))
            advance(1)
    classifier = expected.classifier
    same = np.ones(n, dtype=np.bool_)
    probability = logit = unexplained = 0.0
    for result in (np.concatenate(in_batches), np.concatenate(alone)):
        wanted = expected.logits[: len(result)]
        apart = np.abs(result - wanted).max(1)
        shares = apart / np.maximum(np.abs(wanted).max(1), 1)
        logit = max(logit, _largest(shares))
        found, right = (likelihood.probabilities(each, classifier.multilabel) for each in (result, wanted))
        moved = np.abs(found - right).max(1)
        probability = max(probability, _largest(moved))
        is_rounding = apart <= _ROUNDING * expected.terms[: len(result)]
        unexplained = max(unexplained, _largest(np.where(is_rounding, 0, np.maximum(shares, moved))))
        answers = (classifier.rule.choose(each).reshape(len(result), -1) for each in (found, right))
        same[: len(result)] &= np.equal(*answers).all(1)
    return ExportComparison(
        compared=n,
        alone=len(alone),
        same=int(same.sum()),
        agreement=float(same.mean()),
        largest_difference=Difference(probability, logit),
        unexplained=unexplained,
        speed=n / seconds,
    )


def _largest(differences: npt.NDArray[np.floating]) -> float:
    """Return the largest; infinity where one is not a number."""
    return float(np.nan_to_num(differences, nan=np.inf).max())


def require_equal(found: ExportComparison, base: str) -> None:
    """Raise ArtifactError where an export in float32 is not what the saved classifier is."""
    if found.unexplained > _TOLERANCE:
        by = found.largest_difference
        raise ArtifactError(
            f"the export's probabilities differ from the saved classifier's by up to {by.probability:.2g} and its "
            f"logits by {by.logit:.2g}, where {_TOLERANCE:g} is rounding, so it was not kept; this is a fault of "
            f"rehead, please report it with the base's name ({base})"
        )


def require_agreement(found: ExportComparison, what: str) -> None:
    """Raise ArtifactError where 8-bit integers have changed too many labels."""
    if found.agreement < NEEDED_AGREEMENT:
        raise ArtifactError(
            f"in 8-bit integers {found.same:,} of {found.compared:,} {what} keep their labels ({found.agreement:.2%}), "
            f"{NEEDED_AGREEMENT:.1%} have to, so nothing was written; leave `int8` out"
        )
