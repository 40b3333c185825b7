"""The linear probe: logistic regression on pooled features, solved to convergence.

Minimises mean cross-entropy + strength / 2 · |weights|² with L-BFGS, on features scaled to unit variance, for
a path of strengths from strong to weak, each starting from the solution before it. Validation log loss
chooses the strength and, within one standard error, the shallowest depth and its pooling.

A language model's features have a few directions of enormous variance, on which L-BFGS takes hundreds of
steps. So it works in the basis of their principal components, each scaled by its bound on the curvature
(Böhning, Annals of the Institute of Statistical Mathematics 44, 1992); the minimum is the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from rehead import hardware
from rehead.data.examples import Index

Array = npt.NDArray[np.float32]

# From nearly constant to nearly unregularised; a decade apart, the validation loss is flat within a step.
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
# At the first, weights no longer move in their fourth digit; at the second, losses no longer in their third,
# which ranks depths in half the time.
CONVERGED, RANKED = 1e-9, 1e-5
# A spread this small beside the value itself is float32's rounding.
_CONSTANT = 1e-5
# The path converges well before; a bound for pathological features.
_MAX_ITERATIONS = 500


@dataclass(frozen=True)
class Probe:
    """A solved linear layer, for features as they are (the scaling is folded into it).

    Attributes:
        weight: (n_classes, width) float32.
        bias: (n_classes,) float32; zeros where the head has no bias.
        strength: of the regularisation that validation chose.
        losses: (n_validation,) log loss of each validation example.
    """

    weight: Array
    bias: Array
    strength: float
    losses: npt.NDArray[np.float64]

    @property
    def log_loss(self) -> float:
        return float(self.losses.mean())


def solve(
    features: Array,
    labels: Index,
    validation: tuple[Array, Index],
    n_classes: int,
    intercept: bool,
    tolerance: float = CONVERGED,
) -> Probe:
    """Solves the path of strengths and returns the one with the lowest validation log loss.

    Args:
        features: (n, width) of the training examples.
        labels: (n,) class ids.
        validation: the same two of the validation examples.
        n_classes: number of classes; one without a training example is allowed.
        intercept: whether the linear layer has a bias. Without one the features are scaled but not centred,
            because centring is a bias in disguise.
        tolerance: stop when a step lowers the loss by less than this share of it.
    """
    mean = features.mean(0) if intercept else np.zeros(features.shape[1], dtype=np.float32)
    scale = features.std(0)
    # A constant feature carries nothing, unless it serves as the bias that the head lacks.
    largest = np.abs(features).max(0)
    constant = scale <= _CONSTANT * largest
    scale[constant] = np.where(largest > 0, largest, np.inf)[constant] if not intercept else np.inf
    scaled = torch.from_numpy((features - mean) / scale)
    held_out = (validation[0] - mean) / scale
    variances, components = torch.linalg.eigh(scaled.T @ scaled / len(scaled))
    problem = _Problem(
        rotated=scaled @ components,
        variances=variances.clamp(min=0).double().numpy(),
        targets=np.eye(n_classes)[labels],
        intercept=intercept,
    )
    solution = np.zeros((features.shape[1] + 1, n_classes))
    best: Probe | None = None
    with hardware.one_thread():
        for strength in STRENGTHS:
            solution = problem.minimise(strength, solution, tolerance)
            weight = (components.double().numpy() @ solution[:-1]).T
            scores = log_softmax(held_out @ weight.T + solution[-1], axis=1)
            losses = -scores[np.arange(len(validation[1])), validation[1]]
            if best is None or losses.mean() < best.log_loss:
                weight = weight / scale
                bias = solution[-1] - weight @ mean
                best = Probe(weight.astype(np.float32), bias.astype(np.float32), strength, losses)
            else:
                break  # the loss falls and then rises along the path, in all data seen
    assert best is not None
    return best


def shallowest(probes: Mapping[tuple[str, int], Probe]) -> tuple[str, int]:
    """The shallowest of the probes that are not worse than the best by more than one standard error.

    The one-standard-error rule is from Breiman et al., *Classification and Regression Trees*, 1984, §3.4.3; the
    error is that of the difference, example by example, because two probes err on the same examples.

    Args:
        probes: by pooling and depth; of two at the same depth the one listed first is preferred.
    """
    best = min(probes.values(), key=lambda probe: probe.log_loss)

    def is_as_good(probe: Probe) -> bool:
        worse_by = probe.losses - best.losses
        n = len(worse_by)
        return n < 2 or float(worse_by.mean()) <= float(worse_by.std(ddof=1)) / np.sqrt(n)

    return min((where for where, probe in probes.items() if is_as_good(probe)), key=lambda where: where[1])


@dataclass(frozen=True)
class _Problem:
    """Logistic regression in the basis of the features' principal components.

    Attributes:
        rotated: (n, width) float32, features in that basis.
        variances: (width,) second moment of each component.
        targets: (n, n_classes) one-hot.
        intercept: whether there is a bias.
    """

    rotated: Tensor
    variances: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float64]
    intercept: bool

    def minimise(self, strength: float, start: npt.NDArray[np.float64], tolerance: float) -> npt.NDArray[np.float64]:
        """(width + 1, n_classes): weights in the rotated basis, and the bias as the last row."""
        # Half bounds the curvature of cross-entropy in the scores, so these bound it in each component.
        curvature = np.append(self.variances / 2 + strength, 0.5)[:, None]
        unit = 1 / np.sqrt(curvature)
        penalty = np.append(np.full(len(self.variances), strength), 0.0)[:, None]

        def loss_and_gradient(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            solution = flat.reshape(start.shape) * unit
            products = self.rotated @ torch.from_numpy(solution[:-1].astype(np.float32))
            scores = log_softmax(products.double().numpy() + solution[-1], axis=1)
            loss = -float((scores * self.targets).sum()) / len(scores)
            loss += float((penalty * solution**2).sum()) / 2
            residual = (np.exp(scores) - self.targets) / len(scores)
            gradient = penalty * solution
            gradient[:-1] += (self.rotated.T @ torch.from_numpy(residual.astype(np.float32))).double().numpy()
            gradient[-1] += residual.sum(0) if self.intercept else 0.0
            return loss, (gradient * unit).ravel()

        options = {"maxiter": _MAX_ITERATIONS, "ftol": tolerance, "gtol": 1e-5}
        flat = (start / unit).ravel()
        found = minimize(loss_and_gradient, flat, jac=True, method="L-BFGS-B", options=options)  # type: ignore[call-overload]
        result: npt.NDArray[np.float64] = found.x.reshape(start.shape) * unit
        return result
