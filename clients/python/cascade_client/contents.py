"""*what a caller wants judged* -> requests, and *items* of batches and streams -> answers or errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cascade_client._proto.cascade_service_pb2 import BatchCheckItem, CheckStreamResponse, ModerateStart
from cascade_client._proto.check_pb2 import CheckOptions, CheckRequest, CheckResponse, Conversation, Exchange, Turn
from cascade_client.errors import CascadeError, from_status

Content = str | Exchange | Conversation | Sequence[Turn] | CheckRequest


@dataclass(frozen=True, slots=True)
class Options:
    """How contents are to be judged; see ``CheckOptions`` in the contract. Empty means the server's default.

    Attributes:
        policy: name of the policy.
        explain: ask for the spans that carry the verdict.
        bypass_cache: neither read nor fill the server's answer cache.
        hazards: judge only these, by slug.
        adapter: name of a stage-2 adapter.
    """

    policy: str = ""
    explain: bool = False
    bypass_cache: bool = False
    hazards: Iterable[str] = ()
    adapter: str = ""

    def message(self) -> CheckOptions:
        """The options as the contract has them."""
        return CheckOptions(
            explain=self.explain, bypass_cache=self.bypass_cache, hazards=list(self.hazards), adapter=self.adapter
        )


@dataclass(frozen=True, slots=True)
class Item:
    """One answer of a batch or stream: either ``response`` or ``error`` is set."""

    request_id: str
    response: CheckResponse | None = None
    error: CascadeError | None = None

    def result(self) -> CheckResponse:
        """The answer.

        Raises:
            CascadeError: why there is none.
        """
        if self.error is not None:
            raise self.error
        assert self.response is not None
        return self.response


def request_of(content: Content, request_id: str = "", options: Options | None = None) -> CheckRequest:
    """Makes a request; one that is a request already is taken as it is.

    Raises:
        ValueError: a whole request is given and something else beside it.
    """
    if isinstance(content, CheckRequest):
        if request_id or options:
            raise ValueError("a CheckRequest has an id and options of its own: set them there")
        return content
    options = options or Options()
    request = CheckRequest(request_id=request_id, policy=options.policy, options=options.message())
    if isinstance(content, str):
        request.text = content
    elif isinstance(content, Exchange):
        request.exchange.CopyFrom(content)
    elif isinstance(content, Conversation):
        request.conversation.CopyFrom(content)
    else:
        request.conversation.CopyFrom(Conversation(turns=content))
    return request


def start_of(prompt: str, request_id: str = "", options: Options | None = None) -> ModerateStart:
    """What opens a moderated generation."""
    options = options or Options()
    return ModerateStart(request_id=request_id, prompt=prompt, policy=options.policy, options=options.message())


def item_of(message: BatchCheckItem | CheckStreamResponse) -> Item:
    """An item as the server sent it."""
    if message.WhichOneof("result") == "error":
        return Item(message.request_id, error=from_status(message.error))
    return Item(message.request_id, message.response)
