"""The training loop: one for every stage, on one page.

Draw, forward under bf16 autocast, losses, backward, now and then an adversarial second pass, step, average; validate
every so many draws, keep the best average, stop when it no longer gains. A checkpoint lies beside the output, and a
run started again with ``resume`` goes on from it, on the same draws.
"""

from __future__ import annotations

import json
import os
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from training.batches import Batch, batches
from training.data.mix import Splits, draw
from training.data.rows import DataError
from training.losses import asymmetric_loss, class_balanced_weights, focal_loss
from training.recipe import Recipe
from training.regularisers import WeightAverage, adversarial_embeddings
from training.validate import predict, summarise

CHECKPOINT_SECONDS = 240.0
BEST, RECIPE = "best.safetensors", "recipe.json"


class Trainer:
    """Trains a network by a recipe; :meth:`run` leaves the best weights in ``network``."""

    def __init__(
        self, recipe: Recipe, network: nn.Module, tokenizer: Tokenizer, pad_id: int, splits: Splits, out: Path
    ) -> None:
        self.recipe, self.network, self.tokenizer, self.pad_id = recipe, network, tokenizer, pad_id
        self.splits, self.out = splits, out
        self.steps = recipe.train.draws // recipe.train.batch_size
        self.step, self.best, self.stale = 0, float("-inf"), 0
        self.best_state: dict[str, Tensor] = {}
        self.optimizer = torch.optim.AdamW(_parameter_groups(network, recipe), weight_decay=recipe.train.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.average = WeightAverage(network, recipe.regularise.ema_decay)
        self.label_weights = class_balanced_weights(_label_counts(splits), beta=recipe.loss.class_balance_beta)
        out.mkdir(parents=True, exist_ok=True)

    def run(self, *, resume: bool = False) -> dict[str, float]:
        """Trains to the end or to early stopping; returns the best validation figures."""
        torch.manual_seed(self.recipe.train.seed)
        if resume and self.checkpoint.is_file():
            self._load()
        train, saved_at = self.recipe.train, time.monotonic()
        examples = draw(self.splits.train, self.recipe.data.sources, self.steps * train.batch_size, train.seed)
        every = max(1, train.validate_every // train.batch_size)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, refresh_per_second=1) as progress:
            task = progress.add_task(self.recipe.name, total=self.steps, completed=self.step)
            stream = batches(examples, self.tokenizer, self.pad_id, train.batch_size, train.seed)
            for batch in islice(stream, self.step, None):
                losses = self._step(batch)
                progress.update(task, completed=self.step, description=f"{self.recipe.name} loss {losses['loss']:.4f}")
                if self.step % 25 == 0:
                    self._log("train", losses)
                if (self.step % every == 0 or self.step == self.steps) and not self._validate():
                    break
                if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                    self._save()
                    saved_at = time.monotonic()
        self.network.load_state_dict(self.best_state, strict=False)
        self.network.eval()
        save_file({name: value.contiguous() for name, value in self.best_state.items()}, self.out / BEST)
        (self.out / RECIPE).write_text(self.recipe.model_dump_json(indent=1), encoding="utf-8")
        return {"validation": self.best}

    def _step(self, batch: Batch) -> dict[str, float]:
        self.network.train()
        regularise = self.recipe.regularise
        losses = self._losses(batch)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        if regularise.fgm_epsilon and self.step % regularise.fgm_every == 0:
            with adversarial_embeddings(_word_embeddings(self.network), regularise.fgm_epsilon):
                self._losses(batch)["loss"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.train.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if regularise.ema_decay:
            self.average.update(self.network)
        return {name: value.item() for name, value in losses.items()}

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        shape = self.recipe.loss
        with torch.autocast("cpu", torch.bfloat16):
            binary, labels = self.network(batch.input_ids, batch.attention_mask)
        focal = focal_loss(binary.float(), batch.unsafe, gamma=shape.focal_gamma, smoothing=shape.label_smoothing)
        asymmetric = asymmetric_loss(
            labels.float(),
            batch.labels,
            self.label_weights,
            gamma_positive=shape.gamma_positive,
            gamma_negative=shape.gamma_negative,
            clip=shape.clip,
        )
        return {"loss": focal + shape.label_weight * asymmetric, "focal": focal, "asymmetric": asymmetric}

    def _validate(self) -> bool:
        """Validates the average; False when it is time to stop."""
        with self.average.applied(self.network):
            self.network.eval()
            figures = summarise(predict(self.network, self.splits.validation, self.tokenizer, self.pad_id))
        self._log("validation", figures)
        if figures["score"] > self.best:
            self.best, self.stale = figures["score"], 0
            self.best_state = {name: value.clone() for name, value in self.average.average.items()}
            return True
        self.stale += 1
        return self.stale < self.recipe.train.patience

    def _rate(self, step: int) -> float:
        """Linear warm-up, then linear decay to 0."""
        warmup = max(1, int(self.steps * self.recipe.train.warmup))
        return min((step + 1) / warmup, max(0.0, (self.steps - step) / max(1, self.steps - warmup)))

    def _log(self, kind: str, figures: dict[str, float]) -> None:
        entry = {"kind": kind, "step": self.step, "time": round(time.time(), 1), **figures}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")

    @property
    def checkpoint(self) -> Path:
        """Where the run can be taken up again."""
        return self.out / "checkpoint.pt"

    def _save(self) -> None:
        state: dict[str, Any] = {
            "recipe": self.recipe.model_dump_json(),
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "best_state": self.best_state,
            "network": {k: v for k, v in self.network.state_dict().items() if k in self.average.average},
            "average": self.average.average,
            "average_updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": torch.get_rng_state(),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        if state["recipe"] != self.recipe.model_dump_json():
            raise DataError(f"{self.checkpoint} was made by another recipe: start without --resume, or elsewhere")
        self.step, self.best, self.stale = state["step"], state["best"], state["stale"]
        self.best_state = state["best_state"]
        self.network.load_state_dict(state["network"], strict=False)
        self.average.average, self.average.updates = state["average"], state["average_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["rng"])


def _parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The backbone or its adapters at the learning rate, the heads at their own."""
    head_rate = recipe.train.head_learning_rate or recipe.train.learning_rate
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[any(part.endswith("head") for part in name.split("."))].append(parameter)
    return [{"params": groups[False], "lr": recipe.train.learning_rate}, {"params": groups[True], "lr": head_rate}]


def _word_embeddings(network: nn.Module) -> nn.Parameter:
    return next(p for name, p in network.named_parameters() if name.endswith("word_embeddings.weight"))


def _label_counts(splits: Splits) -> Tensor:
    cells = torch.tensor([example.labels for examples in splits.train.values() for example in examples])
    return (cells == 1).sum(0)
