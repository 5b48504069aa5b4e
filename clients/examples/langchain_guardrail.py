"""A guardrail for LangChain: a runnable before and behind a model that passes on what the policy does not block.

    chain = before(client) | model | after(client) | StrOutputParser()

Where Cascade cannot be asked its error ends the chain: nothing passes unjudged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade_client import Action, AsyncClient, CheckResponse, Conversation, Turn
from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableLambda

ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


class BlockedError(ValueError):
    """The policy blocks it; ``answer`` says why."""

    def __init__(self, answer: CheckResponse) -> None:
        self.answer = answer
        self.hazards = [hazard.slug for hazard in answer.hazards if hazard.flagged]
        super().__init__(f"blocked by the content policy: {', '.join(self.hazards) or 'unsafe'}")


def before(client: AsyncClient) -> RunnableLambda[Any, Any]:
    """Judges what a model is to be given: a text, messages, or a prompt."""
    return _guard(client, "cascade_before")


def after(client: AsyncClient) -> RunnableLambda[Any, Any]:
    """Judges what it said: a message, or a text."""
    return _guard(client, "cascade_after")


def _guard(client: AsyncClient, name: str) -> RunnableLambda[Any, Any]:
    async def judge(value: Any) -> Any:
        turns = [turn for turn in _turns(value) if turn.text]
        if turns:
            answer = await client.check(turns[0].text if len(turns) == 1 else Conversation(turns=turns))
            if answer.action == Action.ACTION_BLOCK:
                raise BlockedError(answer)
        return value

    def only_async(value: Any) -> Any:
        raise NotImplementedError("call the chain by ainvoke: the client is asynchronous")

    return RunnableLambda(only_async, judge, name=name)


def _turns(value: Any) -> Sequence[Turn]:
    if isinstance(value, str):
        return [Turn(role="user", text=value)]
    if isinstance(value, PromptValue):
        value = value.to_messages()
    messages = convert_to_messages([value] if isinstance(value, BaseMessage) else value)
    return [Turn(role=ROLES.get(message.type, ""), text=str(message.text)) for message in messages]
