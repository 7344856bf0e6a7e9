"""Say once, in the status and in the log, why a stage is not ready, and when it is again."""

import logging
from collections.abc import Sequence

from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.status import Status
from keycloak_bridge.logs import log_event

logger = logging.getLogger(__name__)

JOINING = "joining the consumer group"
"""Why a stage is not ready before Kafka has settled its group."""

BRAKE = "brake"
"""Code of the reason when too much became a dead letter."""

_HOW_TO_RELEASE = (
    "look at `keycloak-bridge dead-letters list`, mend the cause, "
    "then restart or run `keycloak-bridge guard release`"
)


class Readiness:
    """What was said last of one stage; at first that it is joining."""

    def __init__(self, stage: str, status: Status) -> None:
        self._stage = stage
        self._status = status
        self._told: str | None = JOINING

    def tell(
        self, brake: str | None, problems: Sequence[BridgeError | None], *, joined: bool
    ) -> None:
        """Note what is wrong: the brake's reason, else the first of `problems`; news are logged."""
        sentence, code = self._why_not(brake, problems, joined)
        if sentence == self._told:
            return
        before, self._told = self._told, sentence
        self._status.set_problem(self._stage, sentence)
        if sentence is None:
            log_event(logger, "ready", stage=self._stage)
        elif code == BRAKE:
            log_event(
                logger,
                "brake-engaged",
                level=logging.WARNING,
                message=sentence,
                stage=self._stage,
                reason=code,
            )
        elif sentence != JOINING:
            log_event(
                logger,
                "waiting",
                level=logging.WARNING if before in (None, JOINING) else logging.DEBUG,
                message=f"{sentence}; trying again until it works",
                stage=self._stage,
                reason=code,
            )

    def _why_not(
        self, brake: str | None, problems: Sequence[BridgeError | None], joined: bool
    ) -> tuple[str | None, str | None]:
        """Return the sentence and the code of the reason."""
        if brake is not None:
            return f"the brake holds the flow: {brake}; {_HOW_TO_RELEASE}", BRAKE
        for error in problems:
            if error is not None:
                return error.message, error.code
        if self._told == JOINING and not joined:
            return JOINING, None
        return None, None
