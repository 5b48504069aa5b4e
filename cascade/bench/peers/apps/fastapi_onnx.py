"""Plain FastAPI: the event loop takes requests, one thread scores them in order."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from scoring import Scorer

app, scorer, pool = FastAPI(), Scorer(), ThreadPoolExecutor(1)


class Request(BaseModel):
    """A text."""

    text: str


@app.post("/predict")
async def predict(request: Request) -> dict[str, float]:
    """Scores a text."""
    (unsafe,) = await asyncio.get_running_loop().run_in_executor(pool, scorer.score, [request.text])
    return {"unsafe": unsafe}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
