"""The examples of clients/examples in their frameworks, with models that are made up: ``guardrails.py HOST:PORT NAME``.

Prints as JSON what became of three exchanges: a calm one, one that is bad from the start, one whose answer is bad.
"""

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "clients/examples"
sys.path += [str(ROOT / "clients/python"), str(EXAMPLES)]

MASTER_KEY = f"sk-{secrets.token_hex(16)}"
KEY = {"authorization": f"Bearer {MASTER_KEY}"}
CALM, BAD = "a walk in the park", "a terrible hate thing"
EXCHANGES = ((CALM, CALM), (BAD, CALM), (CALM, BAD))


async def langchain(target):
    from cascade_client import AsyncClient
    from langchain_core.language_models.fake_chat_models import FakeListChatModel
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_guardrail import BlockedError, after, before

    found = []
    async with AsyncClient(target) as client:
        for asked, said in EXCHANGES:
            prompt = ChatPromptTemplate.from_messages([("system", "Be kind."), ("user", "{asked}")])
            chain = prompt | before(client) | FakeListChatModel(responses=[said]) | after(client) | StrOutputParser()
            try:
                found.append(await chain.ainvoke({"asked": asked}))
            except BlockedError as error:
                found.append(["blocked", *error.hazards])
    return found


async def openai_agents(target):
    from agents import (
        Agent,
        InputGuardrailTripwireTriggered,
        Model,
        ModelResponse,
        OutputGuardrailTripwireTriggered,
        RunConfig,
        Runner,
        Usage,
    )
    from cascade_client import AsyncClient
    from openai.types.responses import ResponseOutputMessage, ResponseOutputText
    from openai_agents_guardrail import CascadeGuard

    class Says(Model):
        def __init__(self, text):
            self.text = text

        async def get_response(self, *arguments, **options):
            text = ResponseOutputText(text=self.text, type="output_text", annotations=[], logprobs=[])
            message = ResponseOutputMessage(
                id="m", type="message", role="assistant", status="completed", content=[text]
            )
            return ModelResponse(output=[message], usage=Usage(), response_id=None)

        async def stream_response(self, *arguments, **options):
            raise NotImplementedError
            yield

    found = []
    async with AsyncClient(target) as client:
        guard = CascadeGuard(client)
        for asked, said in EXCHANGES:
            agent = Agent(
                name="Assistant", model=Says(said), input_guardrails=[guard.input], output_guardrails=[guard.output]
            )
            try:
                ran = await Runner.run(agent, asked, run_config=RunConfig(tracing_disabled=True))
                found.append(ran.final_output)
            except (InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered) as error:
                found.append(["blocked", *error.guardrail_result.output.output_info["hazards"]])
    return found


async def litellm(target):
    """LiteLLM's own proxy with the sample configuration, whose models answer what they are told to."""
    import yaml

    tree = yaml.safe_load((EXAMPLES / "litellm.yaml").read_text())
    tree["guardrails"][0]["litellm_params"]["api_base"] = target
    tree["model_list"] = [
        {"model_name": f"says{index}", "litellm_params": {"model": "openai/x", "api_key": "k", "mock_response": said}}
        for index, (_, said) in enumerate(EXCHANGES)
    ]
    folder = Path(os.environ["PEERS_FOLDER"])
    (folder / "litellm.yaml").write_text(yaml.safe_dump(tree))
    (folder / "litellm_guardrail.py").write_text((EXAMPLES / "litellm_guardrail.py").read_text())
    found = []
    with _proxy(folder) as url:
        for index, (asked, _) in enumerate(EXCHANGES):
            body = {"model": f"says{index}", "messages": [{"role": "user", "content": asked}]}
            request = urllib.request.Request(
                f"{url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json", **KEY}
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: ASYNC210 - nothing else is done here
                    found.append(json.load(answer)["choices"][0]["message"]["content"])
            except urllib.error.HTTPError as refused:
                text = refused.read().decode()
                found.append(["blocked", "hate"] if refused.code == 400 and "content policy: hate" in text else text)
    return found


@contextmanager
def _proxy(folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("litellm")), "--config", "litellm.yaml", "--port", str(port)]
    own = {"PYTHONPATH": os.pathsep.join([str(ROOT / "clients/python"), str(folder)]), "LITELLM_TELEMETRY": "False"}
    own |= {"LITELLM_MASTER_KEY": MASTER_KEY}
    own |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": os.environ["PATH"], "HOME": str(folder)}
    with (folder / "litellm.log").open("w") as log:
        process = subprocess.Popen([*command, "--host", "127.0.0.1"], cwd=folder, env=own, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"{url}/health/liveliness", timeout=10).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((folder / "litellm.log").read_text()[-4000:]) from None
                time.sleep(0.5)
        yield url
    finally:
        process.kill()
        process.wait()


print(
    json.dumps(
        asyncio.run(
            {"langchain": langchain, "openai_agents": openai_agents, "litellm": litellm}[sys.argv[2]](sys.argv[1])
        )
    )
)
