"""Wait for what another process does, with a limit that a busy machine keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

#: Generous: the machine is shared, and a limit only matters where something is broken.
LIMIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.01


def wait_until(
    condition: Callable[[], Result],
    limit: float = LIMIT_SECONDS,
    pause: float = _PAUSE_SECONDS,
) -> Result:
    """Call ``condition`` until it returns something true, and return that; fail at the limit."""
    deadline = time.monotonic() + limit
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {limit:.0f} s for the condition in vain"
        time.sleep(pause)
    return result
