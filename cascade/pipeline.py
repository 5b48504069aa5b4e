"""The one way in which a content is judged, whatever surface it comes by.

    request -> parts -> readings -> stage 1 -> route -+- pass ----------------> merge -> verdict -> response
               (fields)  (views)                      +- escalate -> stage 2 -^

The contract's messages are the domain model: a ``CheckRequest`` comes in, a ``CheckResponse`` goes out. Nothing is left
to chance: a content gets the same answer each time that it is asked under the same policy, models and audit key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from copy import copy
from functools import partial
from hashlib import blake2b
from typing import Self

from cascade import tracing
from cascade.answer import Findings, answer
from cascade.batching import Batcher
from cascade.cache import Answers
from cascade.content import Part, parts
from cascade.errors import (
    BreakerOpenError,
    CascadeError,
    DeadlineError,
    DeadlineTooShortError,
    OverloadedError,
    StageError,
    UnavailableError,
)
from cascade.explaining import explain
from cascade.limits import Limits
from cascade.memory import Memory
from cascade.policy import Policy, PolicyStore
from cascade.readings import judged
from cascade.routing import triggers
from cascade.routing.router import Signals
from cascade.scoring import Meanwhile, Opinion, ask, read, same_windows
from cascade.v1 import check_pb2
from cascade.v1.check_pb2 import CheckRequest, CheckResponse, Route
from stages.remote.client import RemoteStage

REPLY_S = 0.02  # of a deadline is kept for the answer's way back, or a tenth of what is left

log = logging.getLogger(__name__)


class Pipeline:
    """Judges contents with one stage, or with two of which the second is asked where the first is not enough.

    Without a stage 2 nothing is escalated and stage 1 decides by its own threshold: a cascade of one, not a degraded
    one. A pipeline belongs to one event loop.

    Attributes:
        policies: the policies that requests may name.
        limits: how large a request may be.
        answers: what need not be judged again; None judges each request by itself.
        audit_key: a secret of up to 64 bytes, without which nobody can tell whom the random audit draws; without one
            anybody can, and the draws of every pipeline are the same.
        stages: "stage1" and, if there is one, "stage2", in the order in which a content meets them.
        adapters: names of the adapters that a request may ask for.
    """

    def __init__(
        self,
        stage1: Batcher,
        stage2: Batcher | None,
        policies: PolicyStore,
        limits: Limits,
        answers: Answers | None = None,
        audit_key: bytes = b"",
    ) -> None:
        self.policies = policies
        self.limits = limits
        self.answers = answers
        self.audit_key = audit_key
        self.stages = {"stage1": stage1} | ({"stage2": stage2} if stage2 else {})
        self.adapters = frozenset(name for batcher in self.stages.values() for name in batcher.stage.info.adapters)
        self._same_windows = stage2 is not None and same_windows(stage1.stage, stage2.stage)

    async def check(
        self,
        request: CheckRequest,
        *,
        deadline: float | None = None,
        memory: Memory | None = None,
        caller: str = "",
        bulk: bool = False,
    ) -> CheckResponse:
        """Judges one content. ``deadline`` is a time of the event loop's clock.

        ``caller`` says who asks: callers share the stages fairly. What is ``bulk`` gives way to what is not.

        A caller that checks a text again and again while it grows gives a ``memory`` of its own: the answers are the
        same with it and without it, but no window is scored twice.

        A stage that fails is no error: the policy's ``on_error`` says what the verdict is then. The same goes for a
        stage 2 that cannot answer before the deadline; for one that is overloaded if ``on_error`` is "stage1_only".

        Raises:
            InvalidRequestError: the request is malformed or empty.
            LimitExceededError: the content is too large.
            NotFoundError: there is no such policy or adapter.
            OverloadedError: too much waits to be scored, in all or before the deadline.
            DeadlineError: the deadline passed.
            UnavailableError: the pipeline is closed.
        """
        policy = self.policies.get(request.policy)
        content = parts(request, self.limits, self.adapters)
        judge = partial(self._judge, request, policy, content, deadline, memory, caller, bulk)
        if self.answers is None or memory is not None or request.options.bypass_cache:
            return await judge()
        return await self.answers.answer(request, policy.revision, judge, deadline=deadline, scope=(caller, bulk))

    async def _judge(
        self,
        request: CheckRequest,
        policy: Policy,
        content: Sequence[Part],
        deadline: float | None,
        memory: Memory | None,
        caller: str,
        bulk: bool,
    ) -> CheckResponse:
        readings = await read(request, content)
        texts = [part.text for part in judged(content)]
        signs = Meanwhile(texts, partial(triggers.in_texts, texts, self.stages["stage1"].stage.info.scripts))
        question = partial(
            ask,
            pooling=policy.merge.segments,
            adapter=request.options.adapter,
            explain=request.options.explain,
            deadline=deadline,
            memory=memory,
            caller=caller,
            bulk=bulk,
        )
        try:
            first = await question(
                self.stages["stage1"], readings, role="stage1", threshold=policy.stage1.unsafe_threshold
            )
        except StageError as error:
            return answer(request, policy, Findings(_UNROUTED, first=None, trouble=_trouble("stage1", error)))
        fired = (*await signs.result(), *triggers.in_views([tuple(first.by_view.values())], first.by_view.keys()))
        fired += () if first.model.judges else (triggers.NO_JUDGE,)
        draw = _audit_draw(content, policy, self.audit_key)
        decision = policy.router.route(Signals(first.probability, first.labels, fired, draw, first.tokens))
        escalated = decision.escalate and "stage2" in self.stages
        route = Route(escalated=escalated, reason=decision.reason, triggers=decision.triggers, audited=decision.audited)
        second, trouble = None, ""
        if route.escalated:
            judge = partial(
                question,
                self.stages["stage2"],
                readings,
                role="stage2",
                known=first.encodings if self._same_windows else (),
                threshold=policy.stage2.unsafe_threshold,
            )
            second, trouble = await _in_time(judge, policy, deadline)
            if trouble:
                route.reason = check_pb2.ROUTE_REASON_STAGE2_UNAVAILABLE
        findings = Findings(route, first, second, trouble)
        response = answer(request, policy, findings)
        wanted = request.options.explain and memory is None and not trouble
        if wanted and response.verdict != check_pb2.VERDICT_SAFE:
            name, opinion = findings.judge()
            threshold = policy.stage2.unsafe_threshold if name == "stage2" else policy.stage1.unsafe_threshold
            again = partial(question, self.stages[name], role="explain", threshold=threshold, deadline=_by(deadline))
            await explain(response, request, content, opinion, name, again)
        return response

    def with_policies(self, policies: PolicyStore) -> Self:
        """The same pipeline, its stages and all that belongs to them, under other policies."""
        other = copy(self)
        other.policies = policies
        return other

    async def close(self, *, but: Collection[Batcher] = ()) -> None:
        """Takes nothing new, refuses what waits, and lets the running batches end; leaves ``but`` to their users."""
        for batcher in self.stages.values():
            if batcher in but:
                continue
            await batcher.close()
            if isinstance(batcher.stage, RemoteStage):
                batcher.stage.close()


# The route of a content that stage 1 could not judge.
_UNROUTED = Route(reason=check_pb2.ROUTE_REASON_TRIGGERED, triggers=["stage1_failed"])


def _audit_draw(content: Sequence[Part], policy: Policy, key: bytes) -> float:
    """A number in [0, 1), drawn evenly over contents by a hash, so that an audit never changes an answer on repeat.

    The hash has a key, for else who evades could choose texts that are not audited: the rest of it they know.
    """
    digest = blake2b(policy.revision.encode(), digest_size=8, key=key, person=b"audit")
    for part in content:
        digest.update(f"\0{part.field}\0{part.text}".encode())
    return int.from_bytes(digest.digest()) / 2**64


async def _in_time(
    judge: Callable[..., Awaitable[Opinion]], policy: Policy, deadline: float | None
) -> tuple[Opinion | None, str]:
    """Stage 2's opinion, or why there is none, soon enough for the answer to arrive before the deadline."""
    try:
        return await judge(deadline=_by(deadline)), ""
    except (StageError, UnavailableError, DeadlineTooShortError) as error:
        return None, _trouble("stage2", error)
    except DeadlineError as error:
        if deadline is None or deadline <= asyncio.get_running_loop().time():
            raise
        return None, _trouble("stage2", error)
    except OverloadedError as error:
        if policy.stage2.on_error != "stage1_only":
            raise
        return None, _trouble("stage2", error)


def _by(deadline: float | None) -> float | None:
    """When a stage must have answered for the answer to arrive before the deadline."""
    return deadline and deadline - min(REPLY_S, 0.1 * max(0.0, deadline - asyncio.get_running_loop().time()))


def _trouble(name: str, error: CascadeError) -> str:
    """Logs that a stage has no opinion and says so in the words of an answer; what needs no look is for debugging."""
    failed = isinstance(error, StageError | UnavailableError) and not isinstance(error, BreakerOpenError)
    level, why = (logging.ERROR, error) if failed else (logging.DEBUG, None)
    log.log(level, "a stage failed", extra={"stage": name, "reason": error.reason}, exc_info=why)
    tracing.note(cascade__failed=f"{name}: {error.reason}")
    return f"{name}: {error.reason}"
