"""The Stage protocol over a Ray deployment's handle: *text* -> windows, here -> ids to some replica -> *logits*."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from google.rpc.status_pb2 import Status

from cascade.errors import CascadeError, OverloadedError, StageError, StageUnavailableError
from cascade.serve.errors import name_of
from cascade.v1.stage_service_pb2 import DescribeResponse, ScoreResponse
from stages.remote import wire
from stages.remote.described import DescribedStage
from stages.stage import Window, WindowScores

RETRY_S = 1.0  # until a replica that has too much to do may have less
TRIES = 4  # scoring changes nothing, so that it may be asked of one replica after the other


class HandleStage(DescribedStage):
    """A stage that a Ray deployment serves; texts are cut here, by the tokenizer that it describes itself with.

    A replica that dies takes no call with it: another one is asked, or, while there is none, waited for.

    Args:
        handle: of the deployment, a ``ray.serve.handle.DeploymentHandle``.
        name: which part it plays: "stage2".
        timeout_s: what one call may take, all tries together.
        batch_tokens: the work, in tokens, that a call had best have; None for what suits its device.

    Raises:
        StageError: it did not describe itself in time.
        ModelError: its tokenizer has no form that can be used here.
    """

    def __init__(self, handle: Any, name: str, *, timeout_s: float, batch_tokens: int | None = None) -> None:
        self._handle, self._name, self._timeout_s = handle, name, timeout_s
        described: DescribeResponse = self._ask("describe")
        super().__init__(wire.to_info(described), described, batch_tokens)

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        """See :meth:`stages.stage.Stage.score`.

        Raises:
            OverloadedError: the replicas have too much to do.
            StageUnavailableError: no replica can be reached.
            StageError: it failed, or took too long.
        """
        response: ScoreResponse = self._ask("score", wire.to_request(self._name, windows))
        return wire.to_scores(self._info, len(windows), response)

    def _ask(self, method: str, *arguments: Any) -> Any:
        from ray.exceptions import RayActorError, RayError
        from ray.serve.exceptions import BackPressureError, RayServeException

        by = monotonic() + self._timeout_s
        for left in reversed(range(TRIES)):
            try:
                call = getattr(self._handle, method).remote(*arguments)
                answer = call.result(timeout_s=max(0.0, by - monotonic()))
            except RayActorError as error:
                if not left:
                    raise StageUnavailableError(f"{self._name}: its replicas died one after the other") from error
            except TimeoutError:
                raise StageError(f"{self._name}: no answer within {self._timeout_s:g} s") from None
            except BackPressureError:
                raise OverloadedError(f"{self._name}: its replicas have too much to do", RETRY_S) from None
            except RayServeException as error:  # none is deployed
                raise StageUnavailableError(f"{self._name}: {type(error).__name__}") from error
            except RayError as error:
                raise StageError(f"{self._name}: {type(error).__name__}") from error
            else:
                return _unless_refused(self._name, answer)
        raise AssertionError("the last try returns or raises")


def _unless_refused(name: str, answer: Any) -> Any:
    """The answer, if it is no status.

    Raises:
        OverloadedError: it is one, of a replica that has too much to do.
        StageError: it is another one.
    """
    if not isinstance(answer, Status):
        return answer
    error: CascadeError = StageError(f"{name}: {name_of(answer.code)} from its replica")
    if name_of(answer.code) == "RESOURCE_EXHAUSTED":
        error = OverloadedError(f"{name}: {answer.message}", RETRY_S)
    raise error
