"""The training loop: one for every system, in one process or in several under ``accelerate launch``.

Draw, forward under bf16 autocast, losses, backward, now and then an adversarial second pass; after so many batches a
step, then the average of the weights; validate every so many draws, keep the best average, stop when it no longer
gains. A checkpoint lies beside the output, and a run started again with ``resume`` goes on from it, on the same draws.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import broadcast_object_list, gather_object  # type: ignore[import-untyped]
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from training.batches import Batch, pieces, to_batch
from training.data.mix import Example, Splits
from training.data.rows import DataError
from training.draws import draws, number_of_draws, rows_to_train_on
from training.finished import BEST, RECIPE
from training.objective import Objective
from training.pretrained import is_head
from training.recipe import Recipe
from training.regularisers import WeightAverage, adversarial_embeddings
from training.schedule import rate
from training.validate import Predictions, predict, summarise

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 240.0
CHECKPOINT = "checkpoint.pt"
ORIGIN = "origin.txt"  # in words: which runs it is the mean of (training.soup) or started from, and who taught it
TABLES = ("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight")


class Trainer:
    """Trains a network by a recipe; :meth:`run` leaves the best weights in ``network``.

    In several processes each scores its share of every step's batches, and all of them end with the same weights.
    """

    def __init__(
        self, recipe: Recipe, network: nn.Module, tokenizer: Tokenizer, pad_id: int, splits: Splits, out: Path
    ) -> None:
        self.recipe, self.network, self.tokenizer, self.pad_id = recipe, network, tokenizer, pad_id
        self.splits, self.out = splits, out
        self.accelerator = Accelerator()
        self.model = self.accelerator.prepare_model(network)  # the network, or what keeps its copies in step
        self.train = rows_to_train_on(splits.train, recipe)
        self.batches_a_step = recipe.train.accumulate * self.accelerator.num_processes
        self.texts_a_step = recipe.train.batch_size * self.batches_a_step
        self.steps = max(1, number_of_draws(self.train, recipe) // self.texts_a_step)
        rows = sum(map(len, self.train.values()))
        self.validate_every = max(1, (recipe.train.validate_every or rows) // self.texts_a_step)
        self.step, self.stale = 0, 0
        self.best: tuple[float, ...] = (float("-inf"),)
        self.best_state: dict[str, Tensor] = {}
        weight = recipe.distil.weight if recipe.distil else 0.0
        self.objective = Objective(recipe.loss, self.train, self.accelerator.device, weight)
        self.optimizer = torch.optim.AdamW(_parameter_groups(network, recipe), weight_decay=recipe.train.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.average = WeightAverage(network, recipe.regularise.ema_decay)
        out.mkdir(parents=True, exist_ok=True)

    def run(self, *, resume: bool = False) -> dict[str, float]:
        """Trains to the end or to early stopping; returns the best validation figures."""
        torch.manual_seed(self.recipe.train.seed + self.accelerator.process_index)
        if resume and self.checkpoint.is_file():
            self._load()
        elif resume:
            log.warning("no checkpoint in %s yet: starting at the beginning", self.out)
        saved_at = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, refresh_per_second=1, disable=not self.accelerator.is_main_process) as progress:
            task = progress.add_task(self.recipe.name, total=self.steps, completed=self.step)
            for batches in islice(self._stream(), self.step, self.steps):
                losses = self._step(batches)
                progress.update(task, completed=self.step, description=f"{self.recipe.name} loss {losses['loss']:.4f}")
                if self.step % 25 == 0:
                    self._log("train", losses)
                if (self.step % self.validate_every == 0 or self.step == self.steps) and not self._validate():
                    break
                if self._agreed(time.monotonic() - saved_at > CHECKPOINT_SECONDS):
                    self._save()
                    saved_at = time.monotonic()
        self.network.load_state_dict(self.best_state, strict=False)
        self.network.eval()
        if self.accelerator.is_main_process:
            save_file({name: value.contiguous() for name, value in self.best_state.items()}, self.out / BEST)
            (self.out / RECIPE).write_text(self.recipe.model_dump_json(indent=1), encoding="utf-8")
        self.accelerator.wait_for_everyone()
        return dict(zip(self.recipe.train.select, self.best, strict=False))

    def _stream(self) -> Iterator[list[list[Example]]]:
        """This process's batches of each step, not yet tokenized."""
        train, data = self.recipe.train, self.recipe.data
        examples = draws(self.train, data, self.steps * self.texts_a_step, train.seed)
        stream = pieces(examples, train.batch_size, train.seed)
        while step := list(islice(stream, self.batches_a_step)):
            yield step[self.accelerator.process_index :: self.accelerator.num_processes]

    def _step(self, batches: Sequence[Sequence[Example]]) -> dict[str, float]:
        self.model.train()
        regularise, sums = self.recipe.regularise, dict[str, float]()
        for number, examples in enumerate(batches, 1):
            batch = to_batch(examples, self.tokenizer, self.pad_id).to(self.accelerator.device)
            # Gradients of several processes are averaged in the last pass of a step only.
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(self.model):
                losses = self._backward(batch, len(batches))
                if regularise.fgm_epsilon and self.step % regularise.fgm_every == 0:
                    with adversarial_embeddings(_word_embeddings(self.network), regularise.fgm_epsilon):
                        self._backward(batch, len(batches))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item() / len(batches)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.train.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.network)
        return sums

    def _backward(self, batch: Batch, of: int) -> dict[str, Tensor]:
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self._bf16):
            unsafe, labels = self.model(batch.input_ids, batch.attention_mask)
        losses = self.objective(unsafe, labels, batch)
        self.accelerator.backward(losses["loss"] / of)
        return losses

    def _validate(self) -> bool:
        """Validates the average; False when it is time to stop."""
        select = self.recipe.train.select
        with self.average.applied(self.network):
            self.network.eval()
            figures = summarise(self._predict())
        self._log("validation", figures)
        missing = [name for name in select if name not in figures]
        if missing:
            raise DataError(f"{self.recipe.name}: select = {missing[0]!r}, validation gives {', '.join(figures)}")
        found = tuple(figures[name] for name in select)
        self.stale = 0 if found > self.best else self.stale + 1
        if found >= self.best:  # of equals the later one, which has seen more
            self.best = found
            self.best_state = {name: value.cpu().clone() for name, value in self.average.average.items()}
        return self.stale < self.recipe.train.patience

    def _predict(self) -> Predictions:
        """Scores the validation split, each process its share; all get the whole."""
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        own = predict(self.network, self.splits.validation[index::count], self.tokenizer, self.pad_id, bf16=self._bf16)
        return own if count == 1 else Predictions.joined(gather_object([own]))

    @property
    def _bf16(self) -> bool:
        return self.recipe.train.precision == "bf16"

    def _rate(self, step: int) -> float:
        return rate(self.recipe.train.schedule, step, self.steps, self.recipe.train.warmup)

    def _agreed(self, due: bool) -> bool:
        """The first process's answer, in all of them: what they do together must not hang on their clocks."""
        if self.accelerator.num_processes == 1:
            return due
        answer = [due]
        broadcast_object_list(answer)
        return answer[0]

    def _log(self, kind: str, figures: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            entry = {"kind": kind, "step": self.step, "time": round(time.time(), 1), **figures}
            with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    @property
    def checkpoint(self) -> Path:
        """Where the run can be taken up again."""
        return self.out / CHECKPOINT

    @cached_property
    def _inputs(self) -> str:
        """What the run is made of beside its recipe, as a hash: rows, tokenizer, and weights that do not train."""
        digest = hashlib.sha256(self.tokenizer.to_str().encode())
        for rows in (*self.train.values(), self.splits.validation):
            for row in rows:
                digest.update(json.dumps([row.source, row.text, row.unsafe, row.labels, row.teacher]).encode())
        for name, weight in self.network.named_parameters():
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            if not weight.requires_grad:
                digest.update(_some(weight))
        return digest.hexdigest()

    def _save(self) -> None:
        generators = gather_object([_generators()])
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {
            "recipe": self.recipe.model_dump_json(),
            "inputs": self._inputs,
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "best_state": self.best_state,
            "network": {k: v for k, v in self.network.state_dict().items() if k in self.average.average},
            "average": self.average.average,
            "average_updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generators": generators,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)

    def _load(self) -> None:
        device = self.accelerator.device
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # the unpickler raises errors of many kinds over a damaged file
            raise DataError(f"{self.checkpoint}: not a checkpoint, or cut off ({type(error).__name__})") from error
        if state["recipe"] != self.recipe.model_dump_json():
            raise DataError(f"{self.checkpoint} was made by another recipe: start without --resume, or elsewhere")
        if state.get("inputs") not in (None, self._inputs):  # None: a checkpoint of an earlier version
            raise DataError(f"{self.checkpoint} was made on another base or other data: start without --resume")
        if len(state["generators"]) != self.accelerator.num_processes:
            raise DataError(f"{self.checkpoint} was made in {len(state['generators'])} processes: use as many again")
        self.step, self.best, self.stale = state["step"], tuple(state["best"]), state["stale"]
        self.best_state = state["best_state"]
        self.network.load_state_dict(state["network"], strict=False)
        self.average.average = {name: value.to(device) for name, value in state["average"].items()}
        self.average.updates = state["average_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        own = state["generators"][self.accelerator.process_index]
        torch.set_rng_state(own["cpu"])
        if own["cuda"] is not None:
            torch.cuda.set_rng_state(own["cuda"])


def _some(weight: Tensor) -> bytes:
    """A few numbers all over a weight, by which it can be told from another."""
    every = max(1, weight.numel() // 64)
    return weight.detach().flatten()[::every].float().cpu().numpy().tobytes()


def _generators() -> dict[str, Tensor | None]:
    """The states of the random numbers of this process."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


def _parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The backbone or its adapters at the learning rate, the heads at their own."""
    head_rate = recipe.train.head_learning_rate or recipe.train.learning_rate
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            inner = name.removeprefix("classifier.")  # a whole classifier inside HazardSoftmax
            groups[is_head(inner)].append(parameter)
    return [{"params": groups[False], "lr": recipe.train.learning_rate}, {"params": groups[True], "lr": head_rate}]


def _word_embeddings(network: nn.Module) -> nn.Parameter:
    return next(p for name, p in network.named_parameters() if name.endswith(TABLES))
