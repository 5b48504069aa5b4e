"""The root of Cascade's exception hierarchy and the errors that models raise.

``cascade.errors`` adds what requests, policies and the service raise; one function there maps all to gRPC codes.
"""


class CascadeError(Exception):
    """Base of every error that Cascade raises on purpose.

    ``reason`` is the stable, machine-readable name that goes into ``google.rpc.ErrorInfo``; the message is for people
    and never holds a user's text.
    """

    reason = "INTERNAL"


class ModelError(CascadeError):
    """A model folder cannot be used: missing, tampered with, of another shape, or scoring differently than promised."""

    reason = "MODEL_UNUSABLE"


def first_line(error: Exception) -> str:
    """The kind of an error of somebody else's, and the first line of what it says: enough for a line of ours."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


class ScoreDriftError(ModelError):
    """The golden texts do not replay within the tolerance on this CPU."""

    reason = "MODEL_SCORE_DRIFT"


class StageError(CascadeError):
    """A loaded stage failed to score."""

    reason = "STAGE_FAILED"


class StageUnavailableError(StageError):
    """A stage in another process or on another machine cannot be reached now; trying again later may help."""

    reason = "STAGE_UNAVAILABLE"


class DependencyError(CascadeError):
    """An optional package or device that was asked for is not there."""

    reason = "DEPENDENCY_MISSING"
