"""Policies: *TOML file* -> validated model -> thresholds and actions that the pipeline applies."""

from cascade.policy.fingerprint import calibration_digest, check_models, fingerprint
from cascade.policy.load import Change, default_fitted_on, default_policy, diff, find, load, parse
from cascade.policy.model import Policy
from cascade.policy.store import PolicyStore

__all__ = [
    "Change",
    "Policy",
    "PolicyStore",
    "calibration_digest",
    "check_models",
    "default_fitted_on",
    "default_policy",
    "diff",
    "find",
    "fingerprint",
    "load",
    "parse",
]
