"""One moderated generation: *prompt, deltas* -> chunks and whole checks -> verdict and what may be shown.

Two kinds of readings share the work, and both are the pipeline's own ``check``:

- a *chunk*: what is new with the words before it, judged as a text by itself. It is short and so costs little more
  than the new text does;
- the *whole*: the exchange of the prompt and all that was written, with the scores of earlier windows remembered, so
  that only the windows at its end are new.

There is a reading every 32 tokens or so, or every 64 once there is not much left to spend
(:mod:`cascade.streaming.budget`). While the answer is short it is the whole. Later it is a chunk, and the whole is read
whenever the text has filled another window, since that one's score will be needed in any case, and at the end.

Beyond that a look at the whole costs as much as six chunks, so looks go where they may tell something: to a chunk that
comes near to what would make the whole unsafe (:mod:`cascade.streaming.alarm`), and to the readings after it, as long
as its passage is in the last window and the whole came near. For the last window slides with the text, and what stands
in it often counts for more when more has followed.

So the verdict at the end is that of a ``Check`` of the whole exchange, and one on the way is the worse of the last
whole check and the chunks since. A chunk alone never blocks: the whole has to say so, twice in a row (the debounce of
Qwen3Guard, arXiv 2510.14276), or bad luck with one cut would end a generation. In the meantime nothing is shown.

What may be shown lies ``HOLD_BACK`` code points behind what was read and is not held by the policy's ``stream.hold``:
if a chunk turns out to end a bad sentence, its beginning has not been shown yet.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

from cascade.content import parts
from cascade.errors import InvalidRequestError, LimitExceededError, OverloadedError
from cascade.memory import Memory
from cascade.pipeline import Pipeline
from cascade.scoring import encode
from cascade.streaming.alarm import Alarm
from cascade.streaming.budget import LONG, Budget, Windows
from cascade.streaming.cuts import between_words
from cascade.streaming.growing import GrowingText
from cascade.v1.cascade_service_pb2 import ModerateStart, ModerateStreamResponse
from cascade.v1.check_pb2 import ACTION_BLOCK, ACTION_REVIEW, CheckRequest, CheckResponse

CREDIT = 1200  # tokens of text still to come: what they will allow may be spent on alarms before, on about four looks
CLOSE = 112  # tokens that are watched most closely: each reading is the whole
STEP = 32  # tokens between readings, and twice as many where hardly one more can be afforded
HOLD_BACK = 128  # code points, about one step
HITS = 2  # readings in a row that make a block
TRUST = 2  # chunks that asked for a block and were not confirmed, until no more is borrowed for such a look
NEAR = 8  # tokens: rather than to read a chunk so near to the end of a window, that end is waited for
BEYOND = 2  # tokens that are waited for behind the end of a window, as the count of tokens is a guess
GROWTH = 16  # between two whole checks on the way the text grows by a 16th at least: to cut it anew costs time too
MOST_WRONG = 4.0  # a guess of how many tokens a text has may be off by this factor
RESPONSE = "exchange.response"
HELD = {"REVIEW": ACTION_REVIEW, "BLOCK": ACTION_BLOCK}


class Moderation:
    """One generation, moderated. Belongs to one caller: each method is awaited before the next is called.

    ``blocked`` tells that the generation has ended badly, whatever is still to come.

    Raises:
        InvalidRequestError: the start has an option that makes no sense.
        LimitExceededError: its prompt is too long.
        NotFoundError: it names a policy or adapter that is not there.
    """

    def __init__(
        self, pipeline: Pipeline, start: ModerateStart, deadline: float | None = None, caller: str = ""
    ) -> None:
        self.request_id = start.request_id or uuid4().hex
        self.blocked = False
        self._pipeline, self._start, self._deadline, self._caller = pipeline, start, deadline, caller
        self._check_start()
        self._prompt_bytes = len(start.prompt.encode())
        self._policy = pipeline.policies.get(start.policy)
        self._stage1 = pipeline.stages["stage1"]
        self._window = self._stage1.stage.info.window_tokens
        self._cut = Windows.of(self._stage1.stage)
        self._budget = Budget(self._window)
        self._text = GrowingText()
        self._memory, self._chunk_memory = Memory(), Memory()
        self._whole: CheckResponse | None = None
        self._checked = 0  # code points of the answer in the latest whole check
        self._chunks: list[tuple[int, CheckResponse]] = []  # where each of them ends, and what was said of it
        self._read = 0  # tokens of the answer that were in a reading
        self._since = 0  # those of them that are not in the latest whole check
        self._due: float = self._cut.size + BEYOND  # tokens of the answer with which another window is full
        self._unsettled = 0  # tokens of the latest whole check that the next one will have no use for
        self._scale = 1.0  # tokens of what was read last, as a multiple of what they had been taken for
        self._alarm = Alarm(self._policy, self._stage1.stage.calibration.of(start.options.adapter), self._cut.size)
        self._hits = 0
        self._false_alarms = 0  # blocks asked for by a chunk that the whole did not confirm
        self._released = 0

    @property
    def scored_tokens(self) -> int:
        """Tokens that stage 1 scored for this generation, the special ones of the windows included."""
        return self.scored_by_stage["stage1"]

    @property
    def scored_by_stage(self) -> dict[str, int]:
        """The same of each stage, "stage1" first."""
        return {
            name: self._memory.scored(batcher) + self._chunk_memory.scored(batcher)
            for name, batcher in self._pipeline.stages.items()
        }

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
        answer = await self._check_whole(0, patient=False)
        self._budget = Budget(self._window, answer.coverage.tokens_total, len(self._start.prompt))
        self._read = 0
        self.blocked = self._hits > 0  # nothing that is answered could clear the exchange of its prompt
        return self._state()

    async def add(self, delta: str) -> ModerateStreamResponse | None:
        """Takes the next piece of text; judges if enough has come.

        Raises:
            CascadeError: as :meth:`Pipeline.check`, but where that is overloaded this waits.
        """
        self._text.add(delta)
        limit = self._pipeline.limits.max_text_bytes
        if self._text.size + self._prompt_bytes > limit:
            raise LimitExceededError("bytes of text", limit)
        if self._has_leapt:
            return await self.judge()
        if self._reach >= self._due and await self._check_full_windows() and self._unread < STEP:
            again = self._is_alarmed and self.pending and not self._hits  # two hits in a row are a step apart
            return await self.judge() if again else self._conclude()
        if self._unread < STEP or not (self._hits or self._is_alarmed or self._is_time):
            return None
        return await self.judge()

    async def judge(self) -> ModerateStreamResponse:
        """Judges what has come since the last reading; there must be some.

        Raises:
            CascadeError: as :meth:`add`.
        """
        look = self._budget.look(self._reach)
        closely = self._reach <= CLOSE and self._affords(look)
        if self._hits or self._has_leapt or closely or self._is_alarmed:
            await self._check_whole(self._text.length)
        else:
            await self._check_chunk()
            if self._is_worth_a_look(look):
                alarmed = any(answer.action == ACTION_BLOCK for _, answer in self._chunks)
                await self._check_whole(self._text.length)
                self._false_alarms += alarmed and not self._hits
        return self._conclude()

    async def finish(self) -> ModerateStreamResponse:
        """The generation is complete: the verdict on all of it.

        Raises:
            CascadeError: as :meth:`add`; InvalidRequestError if there was neither a prompt nor a text.
        """
        await self._check_whole(self._text.length)
        if not self._is_held:
            self._released = self._text.length
        return self._state(final=True)

    @property
    def _unread(self) -> float:
        """Tokens that came since the last reading, roughly."""
        return self._text.unread * self._scale

    @property
    def _reach(self) -> float:
        """Tokens of the answer, roughly."""
        return self._read + self._unread

    @property
    def _has_leapt(self) -> bool:
        """Whether so much came at once that the whole is read rather than a chunk of it."""
        return self._unread >= max(self._window, self._read / GROWTH)

    @property
    def _is_time(self) -> bool:
        """Whether what is new is worth a reading now: enough of it, affordable, and no window is about to be full."""
        step = STEP if self._affords(3 * STEP) else 2 * STEP
        return self._unread >= step and self._reach < self._due - NEAR and self._affords(self._unread)

    @property
    def _is_alarmed(self) -> bool:
        """Whether the whole is to be looked at again for what alarmed before, and that is affordable."""
        look = self._budget.look(self._reach)
        return self._alarm.asks_again(self._reach) and self._affords(look, on_credit=True)

    @property
    def _is_held(self) -> bool:
        """Whether the policy holds back a text of which this is known."""
        return self._worst().action >= HELD[self._policy.stream.hold]

    def _conclude(self) -> ModerateStreamResponse:
        """What a reading that is not the last leads to."""
        self.blocked = self._hits >= HITS
        if not self._is_held:
            self._released = max(self._released, self._text.held_back(HOLD_BACK))
        return self._state()

    async def _check_chunk(self) -> None:
        """Judges what is new by itself."""
        guess, chunk = self._text.unread, self._text.chunk()
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
        self._read += coverage.tokens_total
        self._scale = self._measured(coverage.tokens_total, guess)
        self._chunks.append((self._text.seen, answer))
        self._alarm.chunk(answer, self._read, windows=self._cut.count(self._read))

    def _measured(self, tokens: int, guess: float) -> float:
        """How many tokens a text had for each that it was taken for; as before where there was none."""
        return min(max(tokens / guess, 1 / MOST_WRONG), MOST_WRONG) if guess else self._scale

    def _is_worth_a_look(self, look: int) -> bool:
        """Whether the chunks since the latest whole check call for another one, and it is affordable.

        A chunk that would block is looked into on credit, until such alarms have proved to be false twice.
        """
        worst = max(answer.action for _, answer in self._chunks)
        if worst == ACTION_BLOCK and self._false_alarms < TRUST:
            return self._affords(look, on_credit=True)
        if worst >= HELD[self._policy.stream.hold] and self._affords(look):
            return True
        return self._alarm.rings and self._affords(look, on_credit=True)

    async def _check_full_windows(self) -> bool:
        """Judges what full windows cover, if one more is full now: these the check at the end will need, too."""
        text = self._text.whole()
        (encoding,) = await encode(self._stage1.stage, [text])
        full = [window.end for window in encoding.windows[:-1] if window.end > self._checked]
        ends = [end for end in full if between_words(text, end)]
        if not ends:
            self._scale = self._measured(encoding.tokens - self._read, self._text.unread)
            if full:  # within a word: it will be read with the next one
                self._due = self._next_due(encoding.tokens)
            elif self._reach >= self._due:  # the count of tokens was wrong, and is so beyond measure
                self._due = self._reach + max(STEP, self._reach / GROWTH)
            return False
        await self._check_whole(ends[-1])
        self._unsettled = 0
        return True

    def _next_due(self, tokens: float) -> float:
        """With how many tokens of the answer it is time to look for another full window."""
        return max(self._cut.next_end(tokens), tokens * (1 + 1 / GROWTH)) + BEYOND

    async def _check_whole(self, end: int, *, patient: bool = True) -> CheckResponse:
        """Judges the exchange with the first ``end`` code points of its answer."""
        request = self._request()
        request.exchange.prompt, request.exchange.response = self._start.prompt, self._text.whole()[:end]
        self._whole = await self._check(request, self._memory, patient=patient)
        self._memory.turn()
        covered = self._whole.coverage.tokens_total - self._budget.prompt
        if end == self._text.length:
            self._scale = self._measured(covered - self._read, self._text.unread)
        self._since = max(0, self._read - covered) if end < self._text.seen else 0
        self._read = covered + self._since
        self._checked = end
        self._due = self._next_due(covered)
        self._unsettled = self._budget.look(covered)
        self._chunks = [(seen, answer) for seen, answer in self._chunks if seen > end]
        if end > self._text.seen:
            self._text.read_upto(end)
        self._hits = self._hits + 1 if self._whole.action == ACTION_BLOCK else 0
        self._alarm.whole(self._whole, self._read)
        return self._whole

    async def _check(self, request: CheckRequest, memory: Memory, *, patient: bool = True) -> CheckResponse:
        while True:
            try:
                return await self._pipeline.check(request, deadline=self._deadline, memory=memory, caller=self._caller)
            except OverloadedError as error:
                if not patient:
                    raise
                await asyncio.sleep(error.retry_after_s)

    def _affords(self, tokens: float, *, on_credit: bool = False) -> bool:
        """Whether so many more tokens may be spent on a reading that the check at the end has no use for.

        ``on_credit`` counts with text that is still to come, too, as far as a long answer goes.
        """
        stage = self._stage1
        spent = self._memory.wasted(stage) + self._unsettled + self._chunk_memory.scored(stage)
        whole = self._memory.kept(stage) - self._unsettled + self._since + self._unread
        read = max(self._reach, min(self._reach + CREDIT, LONG)) if on_credit else self._reach
        return self._budget.affords(tokens, spent=spent, read=read, whole=whole)

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
        try:
            parts(request, self._pipeline.limits, self._pipeline.adapters)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"start.{error}", f"start.{error.field}") from None
