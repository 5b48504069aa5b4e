"""Ties a policy to the models that its thresholds were fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cascade.errors import PolicyError
from cascade.policy.model import Policy


def fingerprint(files: Mapping[str, str]) -> str:
    """One SHA-256 for a model: of the sorted lines ``path:sha256`` of its files (``ModelInfo.files``)."""
    lines = "".join(f"{path}:{digest}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_models(policy: Policy, loaded: Mapping[str, Mapping[str, str]]) -> None:
    """Checks the models that a policy names against the files of the loaded ones, by "stage1" and "stage2".

    A stage that is not loaded is not checked: to go without it is a choice of its own.

    Raises:
        PolicyError: the policy was fitted on another model than the one that is loaded.
    """
    problems = [
        f"models.{stage} is not the model that is loaded: fit the policy again, or leave the key out"
        for stage, expected in (("stage1", policy.models.stage1), ("stage2", policy.models.stage2))
        if expected is not None and stage in loaded and fingerprint(loaded[stage]) != expected
    ]
    if problems:
        raise PolicyError(problems)
