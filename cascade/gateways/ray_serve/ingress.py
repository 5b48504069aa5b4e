"""A replica of the ingress: the contract's services on one pipeline; its stage 1 runs here, its stage 2 elsewhere.

Most texts end at stage 1, so that it stands where the calls arrive: only what is escalated travels on. The services,
and the layer that guards, counts and answers calls, are those of ``cascade serve``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthListRequest

from cascade.batching import Batcher
from cascade.build import build_pipeline
from cascade.errors import UnsupportedError
from cascade.gateways.ray_serve import contract
from cascade.gateways.ray_serve.context import ProxyContext, RayContext, Refused
from cascade.gateways.ray_serve.replica import PART
from cascade.gateways.ray_serve.settings import Settings
from cascade.gateways.ray_serve.stage import HandleStage
from cascade.limits import Limits
from cascade.live import Live, prepare
from cascade.observe import logs
from cascade.observe.metrics import Metrics
from cascade.pipeline import Pipeline
from cascade.policy import Policy, default_policy, parse
from cascade.serve.admission import Admission, AdmissionSettings
from cascade.serve.calls import Calls
from cascade.serve.checks import CheckService
from cascade.serve.health import HealthServicer
from cascade.serve.lifecycle import Lifecycle
from cascade.serve.models import ModelService, StageService
from cascade.serve.participant import freeze
from cascade.serve.policies import PolicyService
from cascade.serve.security import Security

CONFIGURED = "is part of the Ray application's configuration: change it there, and deploy it again"


class Ingress:
    """What Ray's proxy calls: one method for each of the contract's, under its name, and those of health.

    Ray calls :meth:`reconfigure` before it sends anything here, and again whenever ``user_config`` has changed.

    Args:
        settings: the application's ``args``.
        stage2: the handle of stage 2's deployment; None if there is no stage 2.
        audit_key: see :class:`~cascade.pipeline.Pipeline`; one for all replicas.
    """

    def __init__(self, settings: Settings, stage2: Any, audit_key: bytes) -> None:
        logs.configure(settings.log_level)
        self._settings, self._stage2 = settings, stage2
        self._metrics, self._lifecycle = Metrics(), Lifecycle()
        self._audit_key = audit_key
        self._live: Live | None = None
        self._health: HealthServicer | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Applies ``user_config``: ``policies``, a list of TOML texts, the default one first; none for the built-in.

        The models stay as they are. A policy that cannot be used fails the deployment, which goes on with the old one.

        Raises:
            CascadeError: a model or a policy cannot be used.
            ValueError: there is something else in it.
        """
        if unknown := config.keys() - {"policies"}:
            raise ValueError(f"user_config: unknown keys {sorted(unknown)}, known is policies")
        policies = [parse(toml) for toml in config.get("policies") or ()] or [default_policy()]
        pipeline = await prepare(partial(self._make, policies), self._live)
        self._metrics.adopt(pipeline)
        if self._live is None:
            self._live = Live(pipeline)
            await self._open(self._live)
            freeze()
        else:
            self._live.commit(pipeline)

    def _make(self, policies: Sequence[Policy]) -> Pipeline:
        """Loads what is not loaded yet. Blocks."""
        settings = self._settings
        keep: dict[str, Batcher] = self._live.pipeline.stages if self._live else {}
        if self._stage2 is not None and PART not in keep:
            keep = {PART: self._reach_stage2()}
        return build_pipeline(
            stage1_spec=settings.stage1,
            stage2_spec=None if settings.alone else settings.stage2,
            policies=policies,
            threads=settings.threads,
            allow_score_drift=settings.allow_score_drift,
            keep=keep,
            cache_entries=settings.cache_entries,
            audit_key=self._audit_key,
        )

    def _reach_stage2(self) -> Batcher:
        settings = self._settings
        stage = HandleStage(
            self._stage2, PART, timeout_s=settings.stage2_timeout_s, batch_tokens=settings.stage2_batch_tokens
        )
        return Batcher(
            stage,
            threads=settings.stage2_calls,
            max_tokens_per_batch=stage.batch_tokens,
            max_queued_windows=Limits().max_queued_windows,
            timeout_s=settings.stage2_timeout_s + 1.0,  # the stage itself keeps its time
        )

    async def _open(self, live: Live) -> None:
        token_file = self._settings.token_file
        guard = Security(token_file=Path(token_file) if token_file else None, public=True).guard()
        admission = Admission(AdmissionSettings(), self._metrics)
        services = {
            "CascadeService": CheckService(live, self._metrics, self._lifecycle, admission),
            "PolicyService": PolicyService(live, Configured()),
            "ModelService": ModelService(live, Configured()),
            "StageService": StageService(live.hold, admission),
        }
        calls = Calls(self._metrics, self._lifecycle, guard)
        for service in contract.contracts():
            bound = calls.bind(services[service.name], service)
            for method in service.methods:
                handler = bound.service(_Asked(contract.path_of(method)))
                assert handler is not None, "bind() has a handler for each method"
                self._handlers[method.name] = handler
        self._health = HealthServicer([*(service.full_name for service in contract.contracts()), *live.pipeline.stages])
        await self._health.start()
        for name, batcher in live.pipeline.stages.items():
            batcher.breaker.listeners["health"] = partial(self._tell, name)

    def _tell(self, name: str, asked: bool) -> None:
        """Health follows a stage's breaker."""
        assert self._health is not None, "health comes before the listeners"
        task = asyncio.get_running_loop().create_task(self._health.tell(name, asked, "breaker"))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def answer(self, method: str, request: Any, context: RayContext) -> Message:
        """Answers a unary call. One that is refused has its status in the context, and an empty message goes along."""
        handlers = {HealthCheckRequest: "Check", HealthListRequest: "List"}
        try:
            if kind := handlers.get(type(request)):
                found: Message = await getattr(self._health, kind)(request, context)
                return found
            handler: Any = self._handlers[method].unary_unary
            answered: Message = await handler(request, context)
        except Refused:
            return Empty()
        return answered

    def stream(self, method: str, requests: Any, context: RayContext) -> AsyncGenerator[Message, None]:
        """Answers a stream."""
        handler: Any = (
            self._health.Watch if method == "Watch" and self._health else self._handlers[method].stream_stream
        )
        return context.written(handler, requests)


@dataclass(frozen=True)
class _Asked(grpc.HandlerCallDetails):
    """The call that a handler is looked up for."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class Configured:
    """The :class:`~cascade.serve.coordinator.Control` of replicas that may come and go: none of them decides alone."""

    async def update_policy(self, toml: str, expected_revision: str) -> NoReturn:
        """Refuses."""
        raise UnsupportedError(f"the policy {CONFIGURED}")

    async def roll_back_policy(self, name: str, revision: str, expected_revision: str) -> NoReturn:
        """Refuses."""
        raise UnsupportedError(f"the policy {CONFIGURED}")

    async def history(self, name: str) -> NoReturn:
        """Refuses."""
        raise UnsupportedError(f"the policy {CONFIGURED}")

    async def reload(self) -> NoReturn:
        """Refuses."""
        raise UnsupportedError(f"which models there are {CONFIGURED}")


def _add_methods() -> None:
    """Gives the ingress a method of the name of each of the contract's, which is how Ray finds them."""

    def add(name: str, streams: bool) -> None:
        async def unary(self: Ingress, request: Any, grpc_context: ProxyContext) -> Message:
            return await self.answer(name, request, RayContext(grpc_context))

        async def stream(self: Ingress, requests: Any, grpc_context: ProxyContext) -> AsyncIterator[Message]:
            async with aclosing(self.stream(name, requests, RayContext(grpc_context))) as messages:
                async for message in messages:
                    yield message

        setattr(Ingress, name, stream if streams else unary)

    def streams(method: MethodDescriptor) -> bool:
        return method.client_streaming or method.server_streaming

    for method in contract.methods():
        add(method.name, streams(method))
    add("List", False)
    add("Watch", True)


_add_methods()
