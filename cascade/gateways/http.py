"""HTTP: *JSON* -> the contract's methods -> JSON. The gateway gives them another form, and decides nothing.

    POST /v1/check          CheckRequest -> CheckResponse
    POST /v1/moderations    the same in OpenAI's form, see :mod:`cascade.gateways.openai`
    GET  /v1/policy         the policy in force, also as what its TOML says
    GET  /v1/models         the loaded models, in OpenAI's form
    GET  /metrics           Prometheus
    GET  /healthz, /readyz  whether the process answers; whether it is ready for more
    GET  /                  the console

A request is a call of a method of the contract: scopes, quotas, admission, deadlines, audit and metrics are those of
gRPC. What fails is a ``google.rpc.Status`` in JSON, or an error in OpenAI's form where OpenAI's clients ask.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cascade.errors import InvalidRequestError, UnavailableError
from cascade.gateways import console, forms, openai
from cascade.gateways.bodies import Bodies
from cascade.gateways.calling import Caller
from cascade.gateways.json_request import parse, to_message
from cascade.jsonform import to_dict
from cascade.serve.calls import Calls, Unary
from cascade.serve.identity import POLICY_KEY, chosen
from cascade.serve.wire import Malformed
from cascade.v1.check_pb2 import CheckRequest
from cascade.v1.model_service_pb2 import ListModelsRequest
from cascade.v1.policy_service_pb2 import GetPolicyRequest

CHECK = "cascade.v1.CascadeService/Check"
BATCH = "cascade.v1.CascadeService/BatchCheck"
POLICY = "cascade.v1.PolicyService/GetPolicy"
MODELS = "cascade.v1.ModelService/ListModels"
METRICS = "cascade.http/Metrics"
OPENAIS = ("/v1/moderations", "/v1/models")  # where its clients ask, and what begins so

Methods = Mapping[str, Unary]
Scrape = Callable[[], Awaitable[CollectorRegistry]]


def create_app(
    methods: Methods, *, calls: Calls, ready: Callable[[], bool], scrape: Scrape, max_bytes: int
) -> Starlette:
    """The gateway as an ASGI application.

    Args:
        methods: what answers, by ``package.Service/Method``: the four constants of this module.
        calls: what guards, counts and records them.
        ready: whether more requests may come.
        scrape: what the whole server has counted.
        max_bytes: of bodies that are being read at a time.
    """
    gateway = _Gateway(Caller(calls, methods, Bodies(max_bytes)), ready, scrape)
    routes = [
        Route("/v1/check", forms.answering(gateway.check, _form_of), methods=["POST"]),
        Route("/v1/moderations", forms.answering(gateway.moderations, _form_of), methods=["POST"]),
        Route("/v1/policy", forms.answering(gateway.policy, _form_of)),
        Route("/v1/models", forms.answering(gateway.models, _form_of)),
        Route("/metrics", forms.answering(gateway.metrics, _form_of)),
        Route("/healthz", _healthz),
        Route("/readyz", gateway.readyz),
        *console.routes(),
    ]
    return Starlette(routes=routes, exception_handlers=forms.no_such_thing(_form_of))


def waiting_app() -> Starlette:
    """What answers until there is something to answer with: alive, not ready, and try again for the rest."""

    async def refuse(request: Request) -> Response:
        raise UnavailableError("the server is starting: its models are being loaded")

    return Starlette(
        routes=[
            Route("/healthz", _healthz),
            Route("/readyz", _not_ready),
            Route("/{path:path}", forms.answering(refuse, _form_of), methods=["GET", "POST"]),
        ],
        exception_handlers=forms.no_such_thing(_form_of),
    )


def _form_of(path: str) -> forms.Form:
    """The form of what goes wrong at a path."""
    return openai.as_error if path.startswith(OPENAIS) else forms.as_status


class _Gateway:
    """The endpoints."""

    def __init__(self, caller: Caller, ready: Callable[[], bool], scrape: Scrape) -> None:
        self._caller, self._ready, self._scrape = caller, ready, scrape

    async def check(self, request: Request) -> Response:
        """Judges one content."""
        asked = await self._read(request, lambda body: to_message(body, CheckRequest))
        return JSONResponse(to_dict(await self._caller.call(CHECK, request, asked)))

    async def moderations(self, request: Request) -> Response:
        """Judges what OpenAI's clients send: one text is a check, several are a batch."""
        policy = chosen(request.headers.items()).get(POLICY_KEY, "")
        asked = await self._read(request, lambda body: openai.read(body, policy))
        if isinstance(asked, Malformed):
            return JSONResponse(to_dict(await self._caller.call(CHECK, request, asked)))
        method = CHECK if isinstance(asked.request, CheckRequest) else BATCH
        return JSONResponse(asked.answer(await self._caller.call(method, request, asked.request)))

    async def policy(self, request: Request) -> Response:
        """The policy in force, or the one that ``?name=`` says."""
        wanted = GetPolicyRequest(name=request.query_params.get("name", ""))
        answer = to_dict(await self._caller.call(POLICY, request, wanted))
        return JSONResponse(answer | {"settings": tomllib.loads(answer["policy"]["toml"])})

    async def models(self, request: Request) -> Response:
        """The loaded models."""
        answer = to_dict(await self._caller.call(MODELS, request, ListModelsRequest()))
        return JSONResponse(openai.models(answer["models"]))

    async def metrics(self, request: Request) -> Response:
        """What the whole server has counted."""
        self._caller.admit(METRICS, request)
        registry = await self._scrape()
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(await asyncio.to_thread(encode, registry), headers={"content-type": kind})

    async def readyz(self, request: Request) -> Response:
        """Every stage has answered a warm-up, and the server is not about to end."""
        return PlainTextResponse("ready\n") if self._ready() else await _not_ready(request)

    async def _read(self, request: Request, understand: Callable[[dict[str, Any]], Any]) -> Any:
        """What the body asks for, or what is wrong with it, for the call to be refused with."""
        body = await self._caller.body(CHECK, request)
        if isinstance(body, Malformed):
            return body
        try:
            return understand(parse(body))
        except InvalidRequestError as error:
            return Malformed(error)


async def _healthz(request: Request) -> Response:
    """The process answers."""
    return PlainTextResponse("ok\n")


async def _not_ready(request: Request) -> Response:
    return PlainTextResponse("not ready\n", 503)
