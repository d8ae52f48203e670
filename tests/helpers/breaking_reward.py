"""A reward that goes wrong on purpose, for the fault tests; plugged into Trinity by dotted path."""

from __future__ import annotations

import os
from typing import Any

from trinity.common.rewards.math_reward import MathBoxedRewardFn

NAN_AFTER_CALLS = "CHORD_TEST_NAN_AFTER_CALLS"
RAISE_AFTER_CALLS = "CHORD_TEST_RAISE_AFTER_CALLS"


class RewardThatBreaks(MathBoxedRewardFn):
    """Trinity's boxed reward until as many calls as the environment says, then NaN, or an exception."""

    calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        type(self).calls += 1
        if self.calls > int(os.environ.get(RAISE_AFTER_CALLS, "1000000")):
            raise RuntimeError("the reward broke on purpose")
        reward = super().__call__(*args, **kwargs)
        if self.calls > int(os.environ.get(NAN_AFTER_CALLS, "1000000")):
            reward["accuracy"] = float("nan")
        return reward
