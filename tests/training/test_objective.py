"""What is minimised: torch's and Transformers' losses, weighted and smoothed as told."""

import numpy as np
import pytest
import torch
from sklearn.utils import compute_class_weight
from torch import nn
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from rehead.evaluation import likelihood
from rehead.runtime.errors import SettingError
from rehead.training.objective import losses, total_weight
from rehead.training.weights import example_weights

LOGITS = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
ONE = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
SEVERAL = (torch.rand(12, 3, generator=torch.Generator().manual_seed(1)) < torch.tensor([0.2, 0.5, 0.8])).long()


NAMES = ("a", "b", "c")


def mean_loss(labels: torch.Tensor, weights: torch.Tensor, label_smoothing: float = 0.0) -> float:
    return float(losses(LOGITS, labels, weights, label_smoothing).sum()) / total_weight(weights)


def weighted(labels: torch.Tensor, class_weight: object, own: np.ndarray | None = None) -> torch.Tensor:
    weights = example_weights(labels.numpy(), NAMES, class_weight, own)
    return torch.ones(len(labels), 1).double() if weights is None else torch.from_numpy(weights)


class Config:
    num_labels = 3

    def __init__(self, problem_type: str) -> None:
        self.problem_type = problem_type


@pytest.mark.parametrize(
    ("labels", "problem_type"),
    [(ONE, "single_label_classification"), (SEVERAL, "multi_label_classification")],
)
def test_plain_mean_is_the_loss_of_transformers(labels: torch.Tensor, problem_type: str) -> None:
    ours = mean_loss(labels, weighted(labels, None))
    targets = labels.float() if labels.dim() == 2 else labels
    theirs = ForSequenceClassificationLoss(targets, LOGITS, Config(problem_type))
    assert ours == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("labels", [ONE, SEVERAL])
def test_mean_is_the_likelihood_that_predictions_are_measured_by(labels: torch.Tensor) -> None:
    ours = mean_loss(labels, weighted(labels, None))
    assert ours == pytest.approx(likelihood.losses(LOGITS.numpy(), labels.numpy()).mean(), rel=1e-6)


def test_balanced_classes_weigh_the_same() -> None:
    weights = weighted(ONE, "balanced")[:, 0]
    np.testing.assert_allclose([weights[label == ONE].sum() for label in range(3)], 4.0)
    assert total_weight(weights[:, None]) == pytest.approx(12)


def test_balanced_classes_weigh_what_scikit_learn_says() -> None:
    own = np.arange(12.0)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=ONE.numpy(), sample_weight=own)[ONE] * own
    np.testing.assert_allclose(weighted(ONE, "balanced", own)[:, 0], theirs / theirs.mean())


def test_mean_with_weights_by_class_is_torchs() -> None:
    by_class = {"a": 3.0, "c": 0.5}
    theirs = nn.functional.cross_entropy(LOGITS, ONE, weight=torch.tensor([3.0, 1.0, 0.5]))
    assert mean_loss(ONE, weighted(ONE, by_class)) == pytest.approx(float(theirs), rel=1e-6)


def test_weights_of_a_class_that_there_is_not_are_refused_where_another_has_none() -> None:
    with pytest.raises(SettingError, match="'d', which is none of a, b, c"):
        weighted(ONE, {"a": 1.0, "d": 2.0})
    assert weighted(ONE, {"a": 2.0, "b": 2.0, "c": 2.0, "d": 9.0}).eq(1).all()


def test_balanced_label_weighs_as_much_as_its_absence() -> None:
    weights = weighted(SEVERAL, "balanced")
    np.testing.assert_allclose((weights * SEVERAL).sum(0), 6.0)
    np.testing.assert_allclose((weights * (1 - SEVERAL)).sum(0), 6.0)


@pytest.mark.parametrize("labels", [ONE, SEVERAL])
def test_weight_of_two_is_the_example_twice(labels: torch.Tensor) -> None:
    own = np.array([2.0, 0.0] + 10 * [1.0])
    twice = torch.tensor([0, *[i for i in range(12) if i != 1]])
    theirs = losses(LOGITS[twice], labels[twice], torch.ones(12, 1)).sum() / 12
    assert mean_loss(labels, weighted(labels, None, own)) == pytest.approx(float(theirs), rel=1e-6)


def test_smoothing_moves_targets_towards_all_classes() -> None:
    weights = weighted(SEVERAL, None)
    targets = 0.9 * SEVERAL + 0.1 * (1 - SEVERAL)
    theirs = nn.functional.binary_cross_entropy_with_logits(LOGITS, targets)
    assert mean_loss(SEVERAL, weights, 0.2) == pytest.approx(float(theirs), rel=1e-6)
    assert mean_loss(SEVERAL, weights) != pytest.approx(float(theirs), rel=1e-3)


@pytest.mark.parametrize("labels", [ONE, SEVERAL])
@pytest.mark.parametrize("class_weight", [None, "balanced", {"b": 5.0}])
def test_portions_add_up_to_the_whole(labels: torch.Tensor, class_weight: object) -> None:
    weights = weighted(labels, class_weight)
    parts = [losses(LOGITS[rows], labels[rows], weights[rows], 0.1).sum() for rows in (slice(0, 5), slice(5, 12))]
    assert float(sum(parts)) == pytest.approx(float(losses(LOGITS, labels, weights, 0.1).sum()), rel=1e-6)
