"""Guardrails for the OpenAI Agents SDK: *what comes in, what goes out* -> Cascade -> a tripwire if it is blocked.

    agent = Agent(name="Assistant", input_guardrails=[guard.input], output_guardrails=[guard.output])

``Runner.run`` then raises ``InputGuardrailTripwireTriggered`` or ``OutputGuardrailTripwireTriggered``. Where Cascade
cannot be asked its error ends the run: nothing passes unjudged.
"""

from __future__ import annotations

from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    RunContextWrapper,
    TResponseInputItem,
)
from cascade_client import Action, AsyncClient, CheckResponse, Conversation, Turn

ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


class CascadeGuard:
    """Both guardrails.

    Args:
        client: a client that is connected for as long as they are in use.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        # Not beside the model but before it: what is blocked is never sent.
        self.input = InputGuardrail(self._judge_input, name="cascade", run_in_parallel=False)
        self.output = OutputGuardrail(self._judge_output, name="cascade")

    async def _judge_input(
        self, context: RunContextWrapper[Any], agent: Agent[Any], given: str | list[TResponseInputItem]
    ) -> GuardrailFunctionOutput:
        turns = [Turn(role="user", text=given)] if isinstance(given, str) else [_turn(item) for item in given]
        turns = [turn for turn in turns if turn.text]
        if not turns:
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)
        content = turns[0].text if len(turns) == 1 else Conversation(turns=turns)
        return _outcome(await self._client.check(content))

    async def _judge_output(
        self, context: RunContextWrapper[Any], agent: Agent[Any], output: object
    ) -> GuardrailFunctionOutput:
        if not str(output):
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)
        return _outcome(await self._client.check(str(output)))


def _turn(item: Any) -> Turn:
    """One item of the input; parts that are no text (pictures, sound) are not judged."""
    content = item.get("content") or item.get("output") or item.get("arguments") or ""
    if not isinstance(content, str):
        content = "\n".join(part.get("text") or "" for part in content)
    return Turn(role=ROLES.get(item.get("role", ""), ""), text=content)


def _outcome(answer: CheckResponse) -> GuardrailFunctionOutput:
    facts = {
        "unsafe_probability": answer.unsafe_probability,
        "hazards": [hazard.slug for hazard in answer.hazards if hazard.flagged],
        "request_id": answer.request_id,
    }
    return GuardrailFunctionOutput(output_info=facts, tripwire_triggered=answer.action == Action.ACTION_BLOCK)
