"""A guardrail for LiteLLM's proxy: *texts of a request or an answer* -> Cascade -> passed on, or refused with 400.

Put this file beside the proxy's configuration, see litellm.yaml. Where Cascade cannot be asked nothing passes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from cascade_client import Action, AsyncClient, CascadeError, Exchange
from litellm.exceptions import GuardrailRaisedException
from litellm.integrations.custom_guardrail import CustomGuardrail

if TYPE_CHECKING:
    from litellm.types.utils import GenericGuardrailAPIInputs


class CascadeGuardrail(CustomGuardrail):
    """Judges each text by itself, and an answer together with the latest prompt, where LiteLLM has it at hand.

    Args:
        api_base: where Cascade is, ``HOST:PORT``; or else in the environment as CASCADE_TARGET.
        api_key: the token; or else CASCADE_TOKEN.
    """

    def __init__(self, api_base: str | None = None, api_key: str | None = None, **options: Any) -> None:
        target = api_base or os.environ.get("CASCADE_TARGET", "127.0.0.1:50051")
        token = api_key or os.environ.get("CASCADE_TOKEN")
        self._client = lambda: AsyncClient(target, token=token)
        self._connected: AsyncClient | None = None  # made on the event loop that uses it
        super().__init__(**options)

    async def apply_guardrail(
        self,
        inputs: GenericGuardrailAPIInputs,
        request_data: dict[str, Any],
        input_type: Literal["request", "response"],
        logging_obj: Any = None,
    ) -> GenericGuardrailAPIInputs:
        """Lets the inputs pass as they are.

        Raises:
            GuardrailRaisedException: something in them is blocked by the policy, or could not be judged.
        """
        texts = [text for text in inputs.get("texts", []) if text]
        prompt = _latest_prompt(request_data) if input_type == "response" else ""
        contents = [Exchange(prompt=prompt, response=text) if prompt else text for text in texts]
        if contents:
            await self._judge(contents)
        return inputs

    async def _judge(self, contents: list[Exchange | str]) -> None:
        self._connected = self._connected or self._client()
        try:
            answers = [item.result() for item in await self._connected.check_batch(contents)]
        except CascadeError as error:
            raise self._refusal(f"the text could not be judged: {error.reason}", blocked=False) from error
        for answer in answers:
            if answer.action == Action.ACTION_BLOCK:
                hazards = [hazard.slug for hazard in answer.hazards if hazard.flagged]
                raise self._refusal(f"blocked by the content policy: {', '.join(hazards) or 'unsafe'}", blocked=True)

    def _refusal(self, message: str, *, blocked: bool) -> GuardrailRaisedException:
        return GuardrailRaisedException(self.guardrail_name, message, blocked_content=blocked)


def _latest_prompt(request: dict[str, Any]) -> str:
    """What the user said last, if it is a plain text."""
    for message in reversed(request.get("messages") or []):
        if message.get("role") == "user":
            return message["content"] if isinstance(message.get("content"), str) else ""
    return ""
