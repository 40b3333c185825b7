"""Let the baseline stand beside the head: its logits are added to a candidate's, as far as held-out examples agree.

Candidates are compared with the baseline beside them. A probe is solved in a second, so temperature and share of the
baseline are fitted to out-of-fold predictions of all examples: the 222 validation texts of bbc's five topics left the
baseline out in two of five draws although it was the better of the two (97.8 % of the test; 98.4 % out of fold).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rehead.data.duplicates import kept_together
from rehead.data.labels import strata
from rehead.data.splits import folds
from rehead.evaluation import baselines, likelihood
from rehead.evaluation.baselines import Baselines
from rehead.evaluation.calibration import Stacking, stacking
from rehead.models.heads import Head, finite
from rehead.training import depth_search, probe
from rehead.training.encoding import EncodedData
from rehead.training.features import Features
from rehead.training.probe import Probe
from rehead.training.strategies import Attempt, Candidate

# Five folds that are solved to the last digit choose no better than these, and take twice as long (docs/LOG.md).
_FOLDS, _TOLERANCE = 4, 1e-6
# As many validation examples say enough, and with as many in all, folds would take minutes.
_ENOUGH = 1000


@dataclass(frozen=True)
class BesideHead:
    """A baseline that may stand beside a head.

    Attributes:
        baseline: None where none may.
        logits: (n_validation, n_classes) float32, finite; zeros without a baseline.
        folds: whether training and validation examples are of one kind, so that folds of both speak for new ones.
    """

    baseline: Baselines | None
    logits: npt.NDArray[np.float32]
    folds: bool

    @classmethod
    def of(cls, baseline: Baselines | None, data: EncodedData, *, folds: bool) -> BesideHead:
        """Return the baseline with its logits of the validation examples."""
        if baseline is None:
            return cls(None, np.zeros((len(data.validation), data.n_classes), np.float32), folds)
        return cls(baseline, finite(baseline.logits(data.validation.inputs)), folds)

    def put_beside(self, attempt: Attempt, data: EncodedData) -> Candidate:
        """Return the candidate that an attempt is, with mixture and losses of the validation examples."""
        labels, weights = data.validation.labels, data.validation.weights
        fitted = stacking(attempt.logits, self.logits, labels, data.config.seed, weights)
        return Candidate.of(attempt, fitted.losses, fitted.mixture)

    def put_beside_probe(
        self, attempt: Attempt, data: EncodedData, head: Head, features: Features, solved: Probe
    ) -> Candidate:
        """Return the probe with a mixture that is fitted to out-of-fold predictions, and its validation losses."""
        n = len(data.labels)
        if not self.folds or data.views > 1 or len(data.validation) >= _ENOUGH or n < 2 * _FOLDS:
            return self.put_beside(attempt, data)
        mixture = self._out_of_fold(data, head, features, solved).mixture
        mixed = mixture.of(attempt.logits, self.logits)
        losses = likelihood.losses(mixed, data.validation.labels, data.validation.weights)
        return Candidate.of(attempt, losses, mixture)

    def _out_of_fold(self, data: EncodedData, head: Head, features: Features, solved: Probe) -> Stacking:
        examples = data.train.followed_by(data.validation)
        fold = np.empty(len(examples), dtype=np.int64)
        for number, split in enumerate(folds(strata(data.labels), _FOLDS, data.config.seed, kept_together(examples))):
            fold[split.test] = number
        seen_by_linear = head.seen_by_linear(features.seen)
        weights = data.example_weights(np.arange(len(data.labels)))
        has_bias = head.linear.bias is not None

        def held_out(number: int) -> npt.NDArray[np.float32]:
            others = fold != number
            of_others = None if weights is None else weights[others]
            features, labels = seen_by_linear[others], data.labels[others]
            problem = (solved.strength, features, labels, data.n_classes, has_bias, of_others)
            weight, bias = probe.solve_at(*problem, tolerance=_TOLERANCE)
            logits: npt.NDArray[np.float32] = seen_by_linear[~others] @ weight.T + bias
            return logits

        logits, numbers = np.empty((len(examples), data.n_classes), np.float32), np.unique(fold).tolist()
        for number, of_fold in zip(numbers, depth_search.in_threads(held_out, numbers, "probing folds"), strict=True):
            logits[fold == number] = of_fold
        beside = np.zeros_like(logits)
        if self.baseline is not None:
            assert self.baseline.strength is not None  # it was learned just now
            beside = finite(baselines.out_of_fold(examples, self.baseline.strength, fold))
        return stacking(logits, beside, data.labels, data.config.seed, data.own_weights)
