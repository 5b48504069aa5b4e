"""Unknown cells must add nothing, and the losses must be those of their papers."""

import pytest
import torch

from stages.hazard.legacy9_network import softmax_logits
from training.losses import (
    asymmetric_loss,
    binary_cross_entropy,
    class_balanced_weights,
    focal_loss,
    multilabel_cross_entropy,
    softmax_cross_entropy,
)

NAN = float("nan")


def test_focal_loss_without_focus_is_cross_entropy():
    logits, targets = torch.tensor([1.5, -0.3, 0.2]), torch.tensor([1.0, 0.0, 1.0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    assert focal_loss(logits, targets, gamma=0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_focal_loss_weighs_easy_examples_down():
    easy, hard = torch.tensor([4.0]), torch.tensor([0.5])
    target = torch.tensor([1.0])
    plain = focal_loss(easy, target, gamma=0) / focal_loss(hard, target, gamma=0)
    focused = focal_loss(easy, target, gamma=2) / focal_loss(hard, target, gamma=2)
    assert focused < plain / 100


@pytest.mark.parametrize("loss", ["focal", "asymmetric"])
def test_unknown_cells_change_neither_loss_nor_gradient(loss):
    def run(logits, targets):
        logits = logits.clone().requires_grad_()
        if loss == "focal":
            value = focal_loss(logits[:, 0], targets[:, 0])
        else:
            value = asymmetric_loss(logits, targets, torch.ones(2))
        value.backward()
        return value.item(), logits.grad

    known = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    logits = torch.tensor([[0.3, -0.2], [0.1, 0.4]])
    value, gradient = run(logits, known)
    more = torch.cat([known, torch.full((1, 2), NAN)])
    value_more, gradient_more = run(torch.cat([logits, torch.tensor([[9.0, -9.0]])]), more)
    assert value_more == pytest.approx(value)
    assert torch.allclose(gradient_more[:2], gradient)
    assert (gradient_more[2] == 0).all()


def test_a_batch_of_unknowns_is_no_loss():
    nothing = torch.full((2, 3), NAN)
    assert asymmetric_loss(torch.randn(2, 3), nothing, torch.ones(3)).item() == 0
    assert focal_loss(torch.randn(2), nothing[:, 0]).item() == 0


def test_asymmetric_loss_forgets_easy_negatives():
    # The shift takes a negative of probability below the clip out of the loss altogether.
    logits, targets = torch.tensor([[-5.0]]), torch.tensor([[0.0]])
    assert asymmetric_loss(logits, targets, torch.ones(1), clip=0.05).item() == 0
    assert asymmetric_loss(logits, targets, torch.ones(1), clip=0.0).item() > 0


def test_class_balance_gives_rare_labels_more_weight():
    weights = class_balanced_weights(torch.tensor([10, 1000, 100_000]))
    assert weights[0] > weights[1] > weights[2]
    assert weights.mean().item() == pytest.approx(1, rel=1e-5)


def test_cross_entropy_of_a_difference_is_that_of_the_softmax_of_two():
    two, classes = torch.tensor([[0.3, -1.2], [2.0, 2.5], [-0.1, 0.1]]), torch.tensor([0, 1, 0])
    expected = torch.nn.functional.cross_entropy(two, classes)
    assert binary_cross_entropy(two[:, 1] - two[:, 0], classes.float()).item() == pytest.approx(
        expected.item(), rel=1e-6
    )


def test_softmax_cross_entropy_is_that_of_the_classes_and_skips_rows_without_one():
    logits = torch.tensor([[0.3, -1.2, 0.8], [2.0, 2.5, -1.0], [0.0, 1.0, 2.0]])
    cells = torch.tensor([[0.0, 0.0, 1.0], [NAN, 1.0, NAN], [0.0, 0.0, NAN]])
    expected = torch.nn.functional.cross_entropy(logits[:2], torch.tensor([2, 1]))
    assert softmax_cross_entropy(softmax_logits(logits), cells).item() == pytest.approx(expected.item(), rel=1e-5)
    several = torch.tensor([[0.0, 1.0, 1.0]])
    first = torch.nn.functional.cross_entropy(logits[:1], torch.tensor([1]))
    assert softmax_cross_entropy(softmax_logits(logits[:1]), several).item() == pytest.approx(first.item(), rel=1e-5)


def test_multilabel_cross_entropy_is_duoguards():
    def as_published(logits, labels):  # MultilabelCategoricalCrossentropyLoss of classifier/train.py, rewritten
        signed = (1 - 2 * labels) * logits
        negatives, positives = signed - labels * 1e12, signed - (1 - labels) * 1e12
        zeros = torch.zeros_like(logits[..., :1])
        sums = [torch.logsumexp(torch.cat([part, zeros], -1), -1) for part in (negatives, positives)]
        return (sums[0] + sums[1]).mean()

    logits = torch.randn(5, 12, generator=torch.Generator().manual_seed(1)) * 3
    labels = (torch.rand(5, 12, generator=torch.Generator().manual_seed(2)) > 0.8).float()
    assert multilabel_cross_entropy(logits, labels).item() == pytest.approx(
        as_published(logits, labels).item(), rel=1e-5
    )


@pytest.mark.parametrize("loss", [binary_cross_entropy, multilabel_cross_entropy, softmax_cross_entropy])
def test_unknown_cells_of_the_seeds_losses_have_no_gradient(loss):
    targets = torch.tensor([[1.0, NAN, 0.0], [NAN, NAN, NAN]])
    logits = torch.tensor([[0.5, 4.0, -0.2], [1.0, -3.0, 2.0]], requires_grad=True)
    loss(logits, targets).backward()
    assert (logits.grad[targets.isnan()] == 0).all()
    assert logits.grad[0, 0] < 0
    assert torch.isfinite(logits.grad).all()
