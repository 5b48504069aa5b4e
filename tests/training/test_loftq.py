"""Taking a tuned network apart: base and adapter together say what it said, better than four bits alone."""

from __future__ import annotations

import torch
from transformers import AutoModel

from stages.hazard import q4
from stages.hazard.adapted import load_adapted
from stages.hazard.network import HazardNetwork
from tests.training.backbones import unigram_backbone
from training.adapter import merged, save_adapter, save_base
from training.loftq import take_apart
from training.recipe import Lora

TARGETS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


def test_base_and_adapter_together_are_near_the_tuned_network_and_survive_being_saved(tmp_path):
    torch.manual_seed(0)
    base = unigram_backbone(tmp_path / "base")
    backbone = AutoModel.from_pretrained(base, add_pooling_layer=False)
    with torch.no_grad():  # as tuning would, moves every weight
        for parameter in backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    network = HazardNetwork(backbone, hidden=backbone.config.hidden_size, labels=14).eval()
    ids = torch.randint(5, 30, (4, 12))
    mask = torch.ones_like(ids)

    def error(rank: int) -> float:
        out = tmp_path / f"apart{rank}"
        apart = take_apart(network, Lora(r=rank, alpha=2 * rank, targets=TARGETS), "xlm-roberta", base, out)
        save_base(out, out / "model")  # raises where a matrix is not of 4-bit blocks
        save_adapter(apart, out / "model")
        with torch.inference_mode():
            found, again = apart(ids, mask), load_adapted(out / "model", 14)(ids, mask)
            torch.testing.assert_close(found, again, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found, network(ids, mask), atol=0.2, rtol=0.2)
        whole, matrices = merged(apart).state_dict(), [f"backbone.{n}" for n, _ in backbone.named_parameters()]
        matrices = [name for name in matrices if name.endswith(("dense.weight", "query.weight"))]
        return sum(float((whole[name] - network.state_dict()[name]).square().sum()) for name in matrices)

    assert error(8) < 0.8 * error(1)


def test_what_is_rounded_packs_without_loss_and_nearer_than_by_the_extreme_alone():
    torch.manual_seed(1)
    weights = torch.randn(96, 64).numpy()
    near, plain = q4.rounded(weights), q4.rounded(weights, scales=1)
    q4.encode(near)
    assert ((near - weights) ** 2).mean() < ((plain - weights) ** 2).mean()
    zeros = q4.rounded(0 * weights)
    assert not zeros.any()
    q4.encode(zeros)
