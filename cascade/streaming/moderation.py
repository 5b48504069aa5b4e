"""One moderated generation: *prompt, deltas* -> chunks and whole checks -> verdict and what may be shown.

Two kinds of readings share the work, and both are the pipeline's own ``check``:

- a *chunk*, every 32 tokens or so: what is new with the words before it, judged as a text by itself. It is short and so
  costs little more than the new text does;
- the *whole*: the exchange of the prompt and all that was written, with the scores of earlier windows remembered, so
  that only its last window is new. It runs when a chunk is not allowed, when its score or the smoothed one of the
  chunks is half way there, each time that the text has filled another window, and at the end.

So the verdict at the end is that of a ``Check`` of the whole exchange, and one on the way is the worse of the last
whole check and the chunks since. A chunk alone never blocks: the whole has to say so, twice in a row (the debounce of
Qwen3Guard, arXiv 2510.14276), or bad luck with one cut would end a generation. In the meantime nothing is shown.

What may be shown lies ``HOLD_BACK`` code points behind what was read and allowed: if a chunk turns out to end a bad
sentence, its beginning has not been shown yet.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

from cascade.content import parts
from cascade.errors import InvalidRequestError, LimitExceededError, OverloadedError
from cascade.memory import Memory
from cascade.pipeline import Pipeline
from cascade.scoring import encode
from cascade.streaming.cuts import between_words
from cascade.streaming.growing import Chunk, GrowingText
from cascade.v1.cascade_service_pb2 import ModerateStart, ModerateStreamResponse
from cascade.v1.check_pb2 import ACTION_ALLOW, ACTION_BLOCK, CheckRequest, CheckResponse

STEP = 32  # tokens between readings
HOLD_BACK = 128  # code points, about one step
SMOOTHING = 0.5  # weight of the newest chunk in the smoothed probability
HITS = 2  # readings in a row that make a block
FREE = 8  # windows that any answer may cost beyond one whole check; that is less than one from some 1,400 tokens on
TRUST = 2  # false alarms of chunks until no more is spent on them than can be afforded
GROWTH = 16  # between two whole checks on the way the text grows by a 16th at least: to cut it anew costs time too
MOST_WRONG = 4.0  # a guess of how many tokens a text has may be off by this factor
RESPONSE = "exchange.response"


class Moderation:
    """One generation, moderated. Belongs to one caller: each method is awaited before the next is called.

    ``blocked`` tells that the generation has ended badly, whatever is still to come.

    Raises:
        InvalidRequestError: the start has an option that makes no sense.
        LimitExceededError: its prompt is too long.
        NotFoundError: it names a policy or adapter that is not there.
    """

    def __init__(self, pipeline: Pipeline, start: ModerateStart, deadline: float | None = None) -> None:
        self.request_id = start.request_id or uuid4().hex
        self.blocked = False
        self._pipeline, self._start, self._deadline = pipeline, start, deadline
        self._check_start()
        self._stage1 = pipeline.stages["stage1"]
        self._window = self._stage1.stage.info.window_tokens
        self._text = GrowingText()
        self._memory, self._chunk_memory = Memory(), Memory()
        self._whole: CheckResponse | None = None
        self._checked = 0  # code points of the answer in the latest whole check
        self._since = 0  # tokens after them that chunks have read
        self._chunks: list[tuple[int, CheckResponse]] = []  # where each of them ends, and what was said of it
        self._cost = 0  # tokens of a whole check without a memory, at least
        self._scale = 1.0  # tokens of the latest chunk, as a multiple of what they had been taken for
        self._smoothed = 0.0
        self._hits = 0
        self._false_alarms = 0  # blocks asked for by a chunk that the whole did not confirm
        self._released = 0

    @property
    def scored_tokens(self) -> int:
        """Tokens that stage 1 scored for this generation, the special ones of the windows included."""
        return self._memory.scored(self._stage1) + self._chunk_memory.scored(self._stage1)

    @property
    def pending(self) -> bool:
        """Whether there is text that was in no reading yet."""
        return self._text.seen < self._text.length

    async def open(self) -> ModerateStreamResponse | None:
        """Judges the prompt, if there is one.

        Raises:
            CascadeError: as :meth:`Pipeline.check`, OverloadedError too: nothing is lost yet by coming again.
        """
        if not self._start.prompt:
            return None
        await self._check_whole(0, patient=False)
        self.blocked = self._hits > 0  # nothing that is answered could clear the exchange of its prompt
        return self._state()

    async def add(self, delta: str) -> ModerateStreamResponse | None:
        """Takes the next piece of text; judges if enough has come.

        Raises:
            CascadeError: as :meth:`Pipeline.check`, but where that is overloaded this waits.
        """
        self._text.add(delta)
        limit = self._pipeline.limits.max_text_bytes
        if self._text.size + len(self._start.prompt.encode()) > limit:
            raise LimitExceededError("bytes of text", limit)
        if self._unread < STEP or (not self._has_leapt and not self._affords(self._unread)):
            return None
        return await self.judge()

    async def judge(self) -> ModerateStreamResponse:
        """Judges what has come since the last reading; there must be some.

        Raises:
            CascadeError: as :meth:`add`.
        """
        leapt = self._has_leapt
        if not leapt:
            await self._check_settled()
        guess = self._text.unread
        chunk = self._text.chunk()
        if not leapt:
            await self._check_chunk(chunk, guess)
        if leapt or self._hits or self._is_worth_a_look():
            alarmed = any(answer.action == ACTION_BLOCK for _, answer in self._chunks)
            await self._check_whole(self._text.length)
            self._false_alarms += alarmed and not self._hits
        self.blocked = self._hits >= HITS
        if self._worst().action == ACTION_ALLOW:
            self._released = max(self._released, self._text.held_back(HOLD_BACK))
        return self._state()

    async def finish(self) -> ModerateStreamResponse:
        """The generation is complete: the verdict on all of it.

        Raises:
            CascadeError: as :meth:`add`; InvalidRequestError if there was neither a prompt nor a text.
        """
        await self._check_whole(self._text.length)
        if self._worst().action == ACTION_ALLOW:
            self._released = self._text.length
        return self._state(final=True)

    @property
    def _unread(self) -> float:
        """Tokens that came since the last reading, roughly."""
        return self._text.unread * self._scale

    @property
    def _read(self) -> int:
        """Tokens that were in a reading."""
        return self._since + (self._whole.coverage.tokens_total if self._whole else 0)

    @property
    def _has_leapt(self) -> bool:
        """Whether so much came at once that the whole is read rather than a chunk of it."""
        return self._unread >= max(self._window, self._read / GROWTH)

    async def _check_chunk(self, chunk: Chunk, guess: float) -> None:
        """Judges a chunk by itself; ``guess`` is how many new tokens it was taken for."""
        request = self._request()
        request.text = chunk.text
        answer = await self._check(request, self._chunk_memory)
        self._chunk_memory.turn()
        coverage = answer.coverage
        coverage.tokens_scored -= (again := self._stage1.stage.encode(chunk.text[: chunk.again]).tokens)
        coverage.tokens_total -= again
        for span in answer.spans:
            span.field, span.start, span.end = RESPONSE, span.start + chunk.start, span.end + chunk.start
        self._since += coverage.tokens_total
        self._scale = min(max(coverage.tokens_total / guess, 1 / MOST_WRONG), MOST_WRONG)
        self._chunks.append((self._text.seen, answer))
        self._smoothed += SMOOTHING * (answer.unsafe_probability - self._smoothed)

    def _is_worth_a_look(self) -> bool:
        """Whether the chunks since the latest whole check, or their run, call for another one, and it is affordable.

        A chunk that would block is looked into at any cost, until such alarms have proved to be false twice.
        """
        worst = max(answer.action for _, answer in self._chunks)
        if worst == ACTION_BLOCK and self._false_alarms < TRUST:
            return True
        alarming = self._pipeline.policies.get(self._start.policy).stage1.unsafe_threshold / 2
        newest = self._chunks[-1][1].unsafe_probability
        suspicious = worst != ACTION_ALLOW or max(newest, self._smoothed) >= alarming
        return suspicious and self._affords(self._window)

    async def _check_settled(self) -> None:
        """Judges what full windows cover, if one more is full: these the check at the end will need, too."""
        if self._since < max(self._window, self._read / GROWTH):
            return
        text = self._text.whole()
        (encoding,) = await encode(self._stage1.stage, [text])
        ends = [window.end for window in encoding.windows[:-1] if between_words(text, window.end)]
        if ends and ends[-1] > self._checked:
            await self._check_whole(ends[-1])

    async def _check_whole(self, end: int, *, patient: bool = True) -> None:
        """Judges the exchange with the first ``end`` code points of its answer."""
        before = self._whole.coverage.tokens_total if self._whole else 0
        request = self._request()
        request.exchange.prompt, request.exchange.response = self._start.prompt, self._text.whole()[:end]
        self._whole = await self._check(request, self._memory, patient=patient)
        self._memory.turn()
        self._checked = end
        self._chunks = [(seen, answer) for seen, answer in self._chunks if seen > end]
        news = self._whole.coverage.tokens_total - before
        self._since = max(0, self._since - news) if self._chunks else 0
        self._hits = self._hits + 1 if self._whole.action == ACTION_BLOCK else 0
        # The next check will have one window more than a check of full ones alone.
        self._cost = self._memory.kept(self._stage1) + (self._window if 0 < end < self._text.length else 0)

    async def _check(self, request: CheckRequest, memory: Memory, *, patient: bool = True) -> CheckResponse:
        while True:
            try:
                return await self._pipeline.check(request, deadline=self._deadline, memory=memory)
            except OverloadedError as error:
                if not patient:
                    raise
                await asyncio.sleep(error.retry_after_s)

    def _affords(self, tokens: float) -> bool:
        """Whether so many more tokens leave the cost at twice that of one whole check, or ``FREE`` windows above it."""
        extra = self._memory.wasted(self._stage1) + self._chunk_memory.scored(self._stage1)
        whole = max(self._cost, self._memory.kept(self._stage1) + self._since + self._unread)
        return extra + tokens <= max(FREE * self._window, whole)

    def _worst(self) -> CheckResponse:
        """The worse of the latest whole check and the chunks since."""
        answers = [answer for _, answer in self._chunks]
        if self._whole:
            answers.insert(0, self._whole)
        return max(answers, key=lambda answer: (answer.action, answer.verdict, answer.unsafe_probability))

    def _state(self, *, final: bool = False) -> ModerateStreamResponse:
        state = ModerateStreamResponse(
            request_id=self.request_id, released_upto=self._released, final=final or self.blocked
        )
        state.verdict.CopyFrom(self._worst())
        state.verdict.ClearField("coverage")
        for answer in [self._whole, *(answer for _, answer in self._chunks)]:
            if answer:
                state.verdict.coverage.tokens_total += answer.coverage.tokens_total
                state.verdict.coverage.tokens_scored += answer.coverage.tokens_scored
                state.verdict.coverage.segments += answer.coverage.segments
                state.verdict.coverage.truncated |= answer.coverage.truncated
        return state

    def _request(self) -> CheckRequest:
        return CheckRequest(request_id=self.request_id, policy=self._start.policy, options=self._start.options)

    def _check_start(self) -> None:
        request = self._request()
        request.text = self._start.prompt or "-"
        adapters = [name for batcher in self._pipeline.stages.values() for name in batcher.stage.info.adapters]
        try:
            parts(request, self._pipeline.limits, adapters)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"start.{error}", f"start.{error.field}") from None
        self._pipeline.policies.get(self._start.policy)
