"""Ties a policy to the models that its thresholds were fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cascade.errors import PolicyError
from cascade.policy.certificate import CertifiedModel
from cascade.policy.model import Policy
from stages.stage import Calibration


def fingerprint(files: Mapping[str, str]) -> str:
    """One SHA-256 for a model: of the sorted lines ``path:sha256`` of its files (``ModelInfo.files``)."""
    lines = "".join(f"{path}:{digest}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def calibration_digest(calibration: Calibration) -> str:
    """SHA-256 of a calibration's numbers: they lie in the manifest, which no fingerprint of files covers."""
    return hashlib.sha256(repr(calibration).encode()).hexdigest()


def check_models(
    policy: Policy, loaded: Mapping[str, Mapping[str, str]], calibrations: Mapping[str, str] | None = None
) -> None:
    """Checks the models that a policy, its certificate and its learned router name against the loaded ones.

    A stage that is not loaded is not checked: to go without it is a choice of its own. But a certificate speaks of the
    cascade of both stages, so that it is refused where one of them is missing.

    Args:
        policy: what is to be applied.
        loaded: the files of each loaded model, by "stage1" and "stage2".
        calibrations: the digest of each one's calibration; None where only the files are known.

    Raises:
        PolicyError: the policy, or its router, was fitted on or certified for another model than the loaded one.
    """
    problems = [
        f"models.{stage} is not the model that is loaded: fit the policy again, or leave the key out"
        for stage, expected in (("stage1", policy.models.stage1), ("stage2", policy.models.stage2))
        if expected is not None and stage in loaded and fingerprint(loaded[stage]) != expected
    ]
    if policy.certificate is not None:
        for stage, certified in (("stage1", policy.certificate.stage1), ("stage2", policy.certificate.stage2)):
            found = _difference(stage, certified, loaded, calibrations)
            if found:
                problems.append(f"certificate.{stage} {found}: tune again, or leave the certificate out")
    network = policy.route.delegation
    if network is not None:
        fitted_on = {"stage1": network.stage1, "stage2": network.stage2}
        for stage in sorted(fitted_on.keys() & loaded.keys()):
            found = _difference(stage, fitted_on[stage], loaded, calibrations)
            if found:
                problems.append(f"route.delegation.{stage} {found}: fit it again, or take another kind of router")
    if problems:
        raise PolicyError(problems)


def _difference(
    stage: str,
    certified: CertifiedModel,
    loaded: Mapping[str, Mapping[str, str]],
    calibrations: Mapping[str, str] | None,
) -> str:
    if stage not in loaded:
        return f"is {certified.name}@{certified.revision}, but no such stage is loaded"
    if fingerprint(loaded[stage]) != certified.files:
        return f"is {certified.name}@{certified.revision}, which is not the model that is loaded"
    if calibrations is not None and calibrations[stage] != certified.calibration:
        return "is the model that is loaded, but with another calibration"
    return ""
