"""When a look at the whole may tell something: *readings so far* -> how near to unsafe -> look now, soon or not at all.

Nearness is the distance to the threshold in calibrated logits, positive from the threshold on. That of a chunk is told
as if it were one of the windows of the whole: what the policy's merge of windows takes off for their number is taken
off it, too. A chunk that is alarming in a short answer may so mean nothing in a long one, and no look is wasted on it.
"""

from __future__ import annotations

from math import inf

from cascade.merging.segments import pool_largest
from cascade.policy import Policy
from cascade.routing.logits import logit
from cascade.v1.check_pb2 import CheckResponse
from stages.stage import Calibration

DOUBT = 1.3  # a chunk that comes so near calls for a look: what surrounds it can make it so much worse
NEXT = 1.7  # a whole that came so near is looked at again at the next reading,
LATER = 3.7  # and one that came so near at the reading after that one
JUMP = 1.7  # a whole that is not so near but came nearer by so much has something new in it, too
SKIPPED = 48  # tokens: more than from one reading to the next, less than to the second one
SMOOTHING = 0.5  # weight of the newest chunk in the smoothed nearness
CALM = -10.0  # the nearness before anything was read


class Alarm:
    """What the readings of one generation say about where to look; ``window`` is the size of one in tokens.

    Attributes:
        rings: whether the latest chunk, or the run of them, calls for a look at the whole now.
    """

    def __init__(self, policy: Policy, calibration: Calibration, window: int) -> None:
        self.rings = False
        self._policy, self._calibration, self._window = policy, calibration, window
        self._whole = self._smoothed = CALM  # how near the latest check of the whole came, and the chunks since
        self._until: float = window  # what alarmed is in the last window up to so many tokens; the beginning always is
        self._again = inf  # tokens with which the whole is due to be looked at again

    def chunk(self, answer: CheckResponse, tokens: float, *, windows: int) -> None:
        """Takes note of a chunk that ends after so many tokens, in a text of so many windows."""
        nearness = self._nearness(answer) - self._taken_off(answer, windows)
        self._smoothed += SMOOTHING * (nearness - self._smoothed)
        self.rings = max(nearness, self._smoothed) >= -DOUBT
        if self.rings:
            self._until = tokens + self._window

    def whole(self, answer: CheckResponse, tokens: float) -> None:
        """Takes note of a check of the whole, which has so many tokens."""
        nearness = self._nearness(answer)
        if nearness - self._whole > (0 if nearness >= -NEXT else JUMP):  # what is new has done that
            self._until = tokens + self._window
        self.rings, self._whole, self._smoothed = False, nearness, nearness
        self._again = tokens if nearness >= -NEXT else tokens + SKIPPED if nearness >= -LATER else inf

    def asks_again(self, tokens: float) -> bool:
        """Whether what alarmed before is to be looked at again, now that there are so many tokens."""
        return self._again <= tokens < self._until

    def _nearness(self, answer: CheckResponse) -> float:
        by_stage1 = answer.merge_rule in ("", "stage1")
        threshold = (self._policy.stage1 if by_stage1 else self._policy.stage2).unsafe_threshold
        return logit(answer.unsafe_probability) - logit(threshold)

    def _taken_off(self, answer: CheckResponse, windows: int) -> float:
        """Calibrated logits that stage 1's score of a chunk loses as one of so many windows."""
        if not answer.stages:
            return 0.0
        raw = logit(answer.stages[0].unsafe_probability)
        pooled = pool_largest(raw, windows, self._policy.merge.segments, self._calibration.length_penalty)
        return self._calibration.unsafe.logit(raw) - self._calibration.unsafe.logit(pooled)
