"""Wait out what only needs time, where no delivery does it: by hand, one event after the other."""

import time
from collections.abc import Callable
from typing import TypeVar

from keycloak_bridge.core.errors import HoldError

Found = TypeVar("Found")


def wait_out(
    attempt: Callable[[], Found],
    told: Callable[[HoldError], None],
    *,
    limit_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Found:
    """Return what `attempt` returns once it is not held any more; `told` hears of each pause before it.

    Raises HoldError when the pauses would take more than `limit_s` seconds in all.
    """
    left_s = limit_s
    while True:
        try:
            return attempt()
        except HoldError as hold:
            if hold.wait_s > left_s:
                raise HoldError(
                    f"{hold.message}; it would take {hold.wait_s:.0f} s more, so try again later",
                    wait_s=hold.wait_s,
                    code=hold.code,
                ) from hold
            told(hold)
            left_s -= hold.wait_s
            sleep(hold.wait_s)
