"""Unknown cells must add nothing, and the losses must be those of their papers."""

import pytest
import torch

from training.losses import asymmetric_loss, class_balanced_weights, focal_loss

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
