"""The one way in which a content is judged, whatever surface it comes by.

    request -> parts -> readings -> stage 1 -> route -+- pass ----------------> merge -> verdict -> response
               (fields)  (views)                      +- escalate -> stage 2 -^

The contract's messages are the domain model: a ``CheckRequest`` comes in, a ``CheckResponse`` goes out. Nothing is left
to chance: a content gets the same answer each time that it is asked under the same policy and models.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b

from cascade.answer import Findings, answer
from cascade.batching import Batcher
from cascade.content import Part, parts
from cascade.errors import CascadeError, StageError, UnavailableError
from cascade.limits import Limits
from cascade.memory import Memory
from cascade.policy import Policy, PolicyStore
from cascade.readings import judged
from cascade.routing import triggers
from cascade.routing.band import BandRouter
from cascade.routing.router import Signals
from cascade.scoring import Opinion, ask, off_loop_if_long, read
from cascade.v1 import check_pb2
from cascade.v1.check_pb2 import CheckRequest, CheckResponse, Route

log = logging.getLogger(__name__)


class Pipeline:
    """Judges contents with one stage, or with two of which the second is asked where the first is not enough.

    Without a stage 2 nothing is escalated and stage 1 decides by its own threshold: a cascade of one, not a degraded
    one. A pipeline belongs to one event loop.

    Attributes:
        policies: the policies that requests may name.
        limits: how large a request may be.
        stages: "stage1" and, if there is one, "stage2", in the order in which a content meets them.
    """

    def __init__(self, stage1: Batcher, stage2: Batcher | None, policies: PolicyStore, limits: Limits) -> None:
        self.policies = policies
        self.limits = limits
        self.stages = {"stage1": stage1} | ({"stage2": stage2} if stage2 else {})

    async def check(
        self, request: CheckRequest, *, deadline: float | None = None, memory: Memory | None = None
    ) -> CheckResponse:
        """Judges one content. ``deadline`` is a time of the event loop's clock.

        A caller that checks a text again and again while it grows gives a ``memory`` of its own: the answers are the
        same with it and without it, but no window is scored twice.

        A stage that fails is no error: the policy's ``on_error`` says what the verdict is then.

        Raises:
            InvalidRequestError: the request is malformed or empty.
            LimitExceededError: the content is too large.
            NotFoundError: there is no such policy or adapter.
            OverloadedError: too much waits to be scored.
            DeadlineError: the deadline passed.
            UnavailableError: the pipeline is closed.
        """
        policy = self.policies.get(request.policy)
        adapters = [name for batcher in self.stages.values() for name in batcher.stage.info.adapters]
        content = parts(request, self.limits, adapters)
        readings = await read(request, content)
        question = partial(
            ask,
            readings=readings,
            pooling=policy.merge.segments,
            adapter=request.options.adapter,
            explain=request.options.explain,
            deadline=deadline,
            memory=memory,
        )
        try:
            first = await question(self.stages["stage1"], threshold=policy.stage1.unsafe_threshold)
        except StageError as error:
            return answer(request, policy, Findings(_UNROUTED, first=None, trouble=_trouble("stage1", error)))
        route = await self._route(content, first, policy)
        second, trouble = None, ""
        if route.escalated:
            try:
                second = await question(self.stages["stage2"], threshold=policy.stage2.unsafe_threshold)
            except (StageError, UnavailableError) as error:
                route.reason = check_pb2.ROUTE_REASON_STAGE2_UNAVAILABLE
                trouble = _trouble("stage2", error)
        return answer(request, policy, Findings(route, first, second, trouble))

    async def close(self) -> None:
        """Takes nothing new, refuses what waits, and lets the running batches end."""
        for batcher in self.stages.values():
            await batcher.close()

    async def _route(self, content: Sequence[Part], first: Opinion, policy: Policy) -> Route:
        """Decides by what stage 1 said whether stage 2 is asked."""
        texts = [part.text for part in judged(content)]
        views = [tuple(first.by_view.values())]
        fired = await off_loop_if_long(
            texts, lambda: triggers.fired(texts, views, first.model.scripts, first.by_view.keys())
        )
        escalate_at = {slug: rule.escalate_at for slug, rule in policy.hazards.items() if rule.escalate_at is not None}
        router = BandRouter(policy.route.low, policy.stage1.unsafe_threshold, policy.route.audit_rate, escalate_at)
        decision = router.route(Signals(first.probability, first.labels, fired, _audit_draw(content, policy)))
        return Route(
            escalated=decision.escalate and "stage2" in self.stages, reason=decision.reason, triggers=decision.triggers
        )


# The route of a content that stage 1 could not judge.
_UNROUTED = Route(reason=check_pb2.ROUTE_REASON_TRIGGERED, triggers=["stage1_failed"])


def _audit_draw(content: Sequence[Part], policy: Policy) -> float:
    """A number in [0, 1), drawn evenly over contents by a hash, so that an audit never changes an answer on repeat."""
    digest = blake2b(policy.revision.encode(), digest_size=8)
    for part in content:
        digest.update(f"\0{part.field}\0{part.text}".encode())
    return int.from_bytes(digest.digest()) / 2**64


def _trouble(name: str, error: CascadeError) -> str:
    """Logs that a stage failed and says so in the words of an answer."""
    log.error("a stage failed", extra={"stage": name, "reason": error.reason}, exc_info=error)
    return f"{name}: {error.reason}"
