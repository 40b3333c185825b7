"""What is minimised: torch's and Transformers' losses, weighted and smoothed as told."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from rehead.evaluation import likelihood
from rehead.training.objective import Objective

LOGITS = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
ONE = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
SEVERAL = (torch.rand(12, 3, generator=torch.Generator().manual_seed(1)) < torch.tensor([0.2, 0.5, 0.8])).long()


class Config:
    num_labels = 3

    def __init__(self, problem_type: str) -> None:
        self.problem_type = problem_type


@pytest.mark.parametrize(
    ("labels", "problem_type"),
    [(ONE, "single_label_classification"), (SEVERAL, "multi_label_classification")],
)
def test_plain_mean_is_the_loss_of_transformers(labels: torch.Tensor, problem_type: str) -> None:
    ours = Objective.of(labels, 3, balanced=False, label_smoothing=0.0).mean(LOGITS, labels)
    targets = labels.float() if labels.dim() == 2 else labels
    theirs = ForSequenceClassificationLoss(targets, LOGITS, Config(problem_type))
    assert ours == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("labels", [ONE, SEVERAL])
def test_mean_is_the_likelihood_that_predictions_are_measured_by(labels: torch.Tensor) -> None:
    ours = Objective.of(labels, 3, balanced=False, label_smoothing=0.0).mean(LOGITS, labels)
    assert ours == pytest.approx(likelihood.losses(LOGITS.numpy(), labels.numpy()).mean(), rel=1e-6)


def test_balanced_classes_weigh_the_same() -> None:
    objective = Objective.of(ONE, 3, balanced=True, label_smoothing=0.0)
    np.testing.assert_allclose([objective.weights[ONE][label == ONE].sum() for label in range(3)], 4.0)
    assert objective.weight_of(ONE) == pytest.approx(12)


def test_balanced_label_weighs_as_much_as_its_absence() -> None:
    objective = Objective.of(SEVERAL, 3, balanced=True, label_smoothing=0.0)
    yes = SEVERAL.sum(0)
    np.testing.assert_allclose(objective.weights[1] * yes, 6.0)
    np.testing.assert_allclose(objective.weights[0] * (12 - yes), 6.0)


def test_smoothing_moves_targets_towards_all_classes() -> None:
    smoothed = Objective.of(SEVERAL, 3, balanced=False, label_smoothing=0.2)
    targets = 0.9 * SEVERAL + 0.1 * (1 - SEVERAL)
    theirs = nn.functional.binary_cross_entropy_with_logits(LOGITS, targets)
    assert smoothed.mean(LOGITS, SEVERAL) == pytest.approx(float(theirs), rel=1e-6)
    assert smoothed.without_smoothing().mean(LOGITS, SEVERAL) != pytest.approx(float(theirs), rel=1e-3)


@pytest.mark.parametrize("labels", [ONE, SEVERAL])
@pytest.mark.parametrize("balanced", [False, True])
def test_portions_add_up_to_the_whole(labels: torch.Tensor, balanced: bool) -> None:
    objective = Objective.of(labels, 3, balanced=balanced, label_smoothing=0.1)
    parts = [objective.total(LOGITS[rows], labels[rows]) for rows in (slice(0, 5), slice(5, 12))]
    assert float(sum(parts)) == pytest.approx(float(objective.total(LOGITS, labels)), rel=1e-6)
