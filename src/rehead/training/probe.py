"""The linear probe: logistic regression on pooled features, solved to convergence.

Minimises mean cross-entropy + strength / 2 · |weights|² with L-BFGS, on features scaled to unit variance, for a path of
strengths from strong to weak, each starting from the solution before it. The log loss of the validation examples after
calibration chooses the strength. Where a text may have several labels, each class has a regression of its own. Of two
classes that exclude each other the difference of the logits alone counts, so they have one regression between them.

Each weight is measured in units of its bound on the curvature (Böhning, Annals of the Institute of Statistical
Mathematics 44, 1992). The features' principal components as a basis would make L-BFGS take fewer steps in theory; on a
language model's features it takes more (docs/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax
from torch import Tensor
from torch.nn.functional import linear

from rehead.data.labels import Labels, Weights, as_indicator, is_multilabel
from rehead.evaluation.calibration import calibrated_losses
from rehead.runtime import hardware

Array = npt.NDArray[np.float32]

# From nearly constant to nearly unregularised; a decade apart, the validation loss is flat within a step.
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
# At the first, logits no longer move in their third digit; at the second, losses no longer in their third, which ranks
# depths in half the time.
CONVERGED, RANKED = 1e-8, 1e-5
# A spread this small beside the value itself is float32's rounding.
_CONSTANT = 1e-5
# A feature that varies less than this share of what the liveliest tenth of all features do is not scaled up to their
# spread: its weight would be as many times larger, and so would be the gradient that training sends back through it and
# the error that another arithmetic makes of it. Shares of 0.03 to 1 classify alike on three sets of tweets and reviews
# (docs/LOG.md), so this is the smallest that keeps weights of one size.
_SMALLEST_SHARE, _LIVELIEST = 0.1, 0.9
# Of a dead feature, by its spread beside the largest: one whose normalisation has a weight of 1e-33, or none.
_DEAD = 1e-9
# Features of more numbers than these are scaled a portion at a time, each time they are used, and not copied: a million
# texts' are gigabytes.
_COPIED = 2**26
# Rows whose moments are taken at once.
_ROWS = 64
# Numbers in a portion: of the features, where these are scaled then, and of the logits.
_PORTION = 2**22
# The path converges well before; a bound for pathological features.
_MAX_ITERATIONS = 500
# Steps that L-BFGS remembers. Of 10, its usual number, it needs half as many steps again on separable data; more than
# these cost as much as they save.
_REMEMBERED = 30


@dataclass(frozen=True)
class Probe:
    """A solved linear layer, for features as they are (the scaling is folded into it).

    Attributes:
        weight: (n_classes, width) float32.
        bias: (n_classes,) float32; zeros where the head has no bias.
        strength: of the regularisation that validation chose.
        logits: (n_validation, n_classes) float32 of the validation examples, not calibrated.
        losses: (n_validation,) log loss of each validation example after calibration.
    """

    weight: Array
    bias: Array
    strength: float
    logits: Array
    losses: npt.NDArray[np.float64]


@hardware.one_thread()
def solve(
    features: Array,
    labels: Labels,
    validation: tuple[Array, Labels],
    n_classes: int,
    intercept: bool,
    tolerance: float = CONVERGED,
    weights: Weights | None = None,
    validation_weights: Weights | None = None,
) -> Probe:
    """Solve the path of strengths, each well enough to rank it, and the one with the lowest validation log loss.

    Args:
        features: (n, width) of the training examples.
        labels: (n,) class ids, or (n, n_classes) where a text may have several.
        validation: the same two of the validation examples.
        n_classes: number of classes; one without a training example is allowed.
        intercept: whether the linear layer has a bias. Without one the features are scaled but not centred,
            because centring is a bias in disguise.
        tolerance: stop when a step lowers the loss by less than this.
        weights: of the training examples, (n, 1), or (n, n_classes) where a text may have several labels, with a mean
            of 1; None for equal ones.
        validation_weights: (n_validation,) how much each validation example counts; None likewise.
    """
    problem = _Problem.of(features, labels, n_classes, intercept, weights)
    held_out, held_out_labels = _scaled(validation[0], *problem.scaling).numpy(), validation[1]

    def logits_of(solution: npt.NDArray[np.float64]) -> Array:
        logits: npt.NDArray[np.float64] = held_out @ solution[:, :-1].T + solution[:, -1]
        return logits.astype(np.float32)

    solution = problem.nothing
    best, chosen, least = solution, STRENGTHS[0], np.inf
    for strength in STRENGTHS:
        solution = problem.minimise(strength, solution, max(tolerance, RANKED))
        loss = calibrated_losses(logits_of(solution), held_out_labels, validation_weights).mean()
        if loss >= least:
            break  # the loss falls and then rises along the path, in all data that were tried
        best, chosen, least = solution, strength, loss
    if tolerance < RANKED:  # what ranks the strengths is enough for those that are not chosen
        best = problem.minimise(chosen, best, tolerance)
    logits = logits_of(best)
    losses = calibrated_losses(logits, held_out_labels, validation_weights)
    return Probe(*_unscaled(best, problem.scaling), chosen, logits, losses)


@hardware.one_thread()
def solve_at(
    strength: float,
    features: Array,
    labels: Labels,
    n_classes: int,
    intercept: bool,
    weights: Weights | None = None,
    start: tuple[Array, Array] | None = None,
    tolerance: float = CONVERGED,
) -> tuple[Array, Array]:
    """Return the weight (n_classes, width) and the bias (n_classes,) at one strength; arguments as for `solve`.

    Args:
        start: weight and bias to start from, where these may know all that the features do; None for zeros.
    """
    problem = _Problem.of(features, labels, n_classes, intercept, weights)
    first = problem.nothing if start is None else _rescaled(*start, problem.scaling)
    return _unscaled(problem.minimise(strength, first, tolerance), problem.scaling)


def _scaling(features: Array, intercept: bool) -> tuple[tuple[Array, Array], npt.NDArray[np.float64]]:
    """Return what to take off each feature and what to divide it by, and the mean squares that this leaves: (width,).

    What a feature is divided by is its standard deviation, or a floor that all features set together, whichever is
    larger; infinity where the feature is constant or dead.
    """
    mean, deviation, largest = _moments(features)
    squares = deviation**2
    if not intercept:
        squares += mean**2
        mean = np.zeros_like(mean)
    # A constant feature carries nothing, unless it serves as the bias that the head lacks.
    constant = deviation <= _CONSTANT * largest
    scale = np.where(constant, np.inf, deviation)
    if not intercept:
        scale[constant & (largest > 0)] = largest[constant & (largest > 0)]
    varies = ~constant
    if varies.any():
        # What is constant says nothing of how much the others vary, even where it serves as the bias.
        dead = varies & (scale <= _DEAD * scale[varies].max())
        scale = np.maximum(scale, _SMALLEST_SHARE * np.quantile(scale[varies & ~dead], _LIVELIEST))
        scale[dead] = np.inf
    return (mean.astype(np.float32), scale.astype(np.float32)), squares / scale**2


def _moments(features: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean, standard deviation and largest size of each feature, (width,) each.

    Of a few rows at a time, which stay in the processor's cache: torch's functions along the first dimension, and
    NumPy's of all rows, take several times as long, and these copy what may be gigabytes.
    """
    n, width = features.shape
    portions = torch.from_numpy(features).split(_ROWS)
    total, largest = torch.zeros(2, width, dtype=torch.float64)
    for portion in portions:
        total += portion.double().sum(0)
        largest = torch.maximum(largest, portion.abs().amax(0))
    mean, squares = total / n, torch.zeros(width, dtype=torch.float64)
    for portion in portions:
        squares += (portion - mean).square_().sum(0)
    return mean.numpy(), (squares / n).sqrt_().numpy(), largest.numpy()


def _scaled(features: Array, mean: Array, scale: Array) -> Tensor:
    """Return a copy (n, width)."""
    return torch.from_numpy(features).sub(torch.from_numpy(mean)).div_(torch.from_numpy(scale))


def _unscaled(solution: npt.NDArray[np.float64], scaling: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return weight and bias for features as they are."""
    mean, scale = scaling
    weight = solution[:, :-1] / scale
    bias = solution[:, -1] - weight @ mean
    return weight.astype(np.float32), bias.astype(np.float32)


def _rescaled(weight: Array, bias: Array, scaling: tuple[Array, Array]) -> npt.NDArray[np.float64]:
    """Return (n_classes, width + 1), what `_unscaled` was made of; zeros where a feature carries nothing."""
    mean, scale = scaling
    return np.column_stack([weight * np.where(np.isfinite(scale), scale, 0), bias + weight @ mean]).astype(np.float64)


@dataclass(frozen=True)
class _Problem:
    """Logistic regression on scaled features.

    Attributes:
        features, scaling: (n, width) float32, and what is taken off each and what it is divided by.
        squares: (width,) mean squares of the scaled features.
        labels: (n,) class ids, or (n, n_classes).
        weights: (n, 1), or (n, n_classes) where a text may have several labels.
        intercept: whether there is a bias.
    """

    features: Array
    scaling: tuple[Array, Array]
    squares: npt.NDArray[np.float64]
    labels: Labels
    n_classes: int
    weights: npt.NDArray[np.float64]
    intercept: bool

    @classmethod
    def of(cls, features: Array, labels: Labels, n_classes: int, intercept: bool, weights: Weights | None) -> _Problem:
        """Return the problem that `solve` and `solve_at` are asked to solve."""
        counts = np.ones((len(labels), 1)) if weights is None else weights
        return cls(features, *_scaling(features, intercept), labels, n_classes, counts, intercept)

    @property
    def nothing(self) -> npt.NDArray[np.float64]:
        """(n_classes, width + 1) zeros, where a path begins."""
        return np.zeros((self.n_classes, self.features.shape[1] + 1))

    @cached_property
    def _copy(self) -> Tensor | None:
        """The scaled features, unless they are too many."""
        return _scaled(self.features, *self.scaling) if self.features.size <= _COPIED else None

    def _portions(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield which rows, and their scaled features."""
        copy, widest = self._copy, max(self.n_classes, 1 if self._copy is not None else self.features.shape[1])
        n = max(1, _PORTION // widest)
        for start in range(0, len(self.features), n):
            rows = slice(start, start + n)
            yield rows, _scaled(self.features[rows], *self.scaling) if copy is None else copy[rows]

    def minimise(self, strength: float, start: npt.NDArray[np.float64], tolerance: float) -> npt.NDArray[np.float64]:
        """Return (n_classes, width + 1): weights, and the bias as the last column."""
        if is_multilabel(self.labels):
            weights = np.broadcast_to(self.weights, self.labels.shape)
            of_classes = [
                self._minimise(self.labels[:, [i]], weights[:, [i]], strength, start[[i]], tolerance)
                for i in range(self.n_classes)
            ]
            return np.concatenate(of_classes)
        if self.n_classes == 2:
            # The two rows mirror each other, and half the strength on their difference is the whole on both.
            is_second = self.labels[:, None]
            difference = self._minimise(is_second, self.weights, strength / 2, start[[1]] - start[[0]], tolerance)
            return np.concatenate([-difference, difference]) / 2
        return self._minimise(self.labels, self.weights, strength, start, tolerance)

    def _minimise(
        self,
        labels: Labels,
        weights: npt.NDArray[np.float64],
        strength: float,
        start: npt.NDArray[np.float64],
        tolerance: float,
    ) -> npt.NDArray[np.float64]:
        """Return (k, width + 1) of one regression: of k classes, or, where k is 1, of yes or no.

        Args:
            labels: (n,) class ids, or (n, 1), 1 for yes.
            weights: (n, 1).
            start: (k, width + 1).
        """
        # Of the curvature of cross-entropy in the logits, and so, by the features' mean squares, in each weight.
        bound = 0.25 if len(start) == 1 else 0.5
        curvature = np.append(self.weights.max() * self.squares * bound + strength, bound)
        unit = 1 / np.sqrt(curvature)
        penalty = np.append(np.full(self.features.shape[1], strength), 0.0)
        n = len(labels)

        def loss_and_gradient(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            solution = flat.reshape(start.shape) * unit
            weight = torch.from_numpy(np.ascontiguousarray(solution[:, :-1], dtype=np.float32))
            loss, gradient = float((penalty * solution**2).sum()) / 2, penalty * solution
            for rows, features in self._portions():
                # A row a class in both products: with so few classes the other way round takes seven times as long. The
                # second in NumPy's library: with three to twenty rows, torch's takes half as long again to twice.
                logits = linear(features, weight).double().numpy() + solution[:, -1]
                targets = as_indicator(labels[rows], len(start))
                likelihoods, expected = _likelihoods(logits, targets)
                loss -= float((likelihoods * weights[rows]).sum()) / n
                residual = (expected - targets) * (weights[rows] / n)
                gradient[:, :-1] += np.ascontiguousarray(residual.T, dtype=np.float32) @ features.numpy()
                gradient[:, -1] += residual.sum(0) if self.intercept else 0.0
            return loss, (gradient * unit).ravel()

        options = {"maxiter": _MAX_ITERATIONS, "ftol": tolerance, "gtol": 1e-5, "maxcor": _REMEMBERED}
        flat = (start / unit).ravel()
        found = minimize(loss_and_gradient, flat, jac=True, method="L-BFGS-B", options=options)  # type: ignore[call-overload]
        result: npt.NDArray[np.float64] = found.x.reshape(start.shape) * unit
        return result


def _likelihoods(
    logits: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the terms of the log likelihood, and the probability of each class, (n, k) both; k of 1 is yes or no."""
    if logits.shape[1] == 1:
        return log_expit((2 * targets - 1) * logits), expit(logits)
    scores = log_softmax(logits, axis=1)
    return scores * targets, np.exp(scores)
