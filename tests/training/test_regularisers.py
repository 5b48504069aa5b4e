"""FGM must leave no trace in the weights, and the average must be the average."""

import torch
from torch import nn

from training.regularisers import TextDropout, WeightAverage, adversarial_embeddings


def test_adversarial_embeddings_move_along_the_gradient_and_come_back():
    table = nn.Parameter(torch.zeros(3, 2))
    table.grad = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    with adversarial_embeddings(table, epsilon=0.5):
        assert torch.allclose(table.data, torch.tensor([[0.3, 0.0], [0.0, 0.4], [0.0, 0.0]]))
    assert (table.data == 0).all()


def test_adversarial_embeddings_without_a_gradient_do_nothing():
    table = nn.Parameter(torch.ones(2, 2))
    with adversarial_embeddings(table, epsilon=0.5):
        assert (table.data == 1).all()


def test_weight_average_follows_and_gives_the_weights_back():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(200):
        average.update(model)
    with average.applied(model):
        assert 0.999 < model.weight.item() <= 1.0
    assert model.weight.item() == 1.0


def test_weight_average_leaves_frozen_weights_out():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    assert set(WeightAverage(model, 0.9).average) == {"weight"}


def test_text_dropout_drops_the_same_features_of_all_tokens_of_a_text_and_keeps_the_mean():
    torch.manual_seed(0)
    dropout = TextDropout(0.25)
    dropped = dropout(torch.ones(64, 5, 100))
    assert (dropped == dropped[:, :1]).all()
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(dropped.mean() - 1) < 0.05
    assert not torch.equal(dropped[0], dropped[1])
    assert (dropout.eval()(torch.ones(2, 3, 4)) == 1).all()
