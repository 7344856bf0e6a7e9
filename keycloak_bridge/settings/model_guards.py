"""The settings that guard the realm: what is read back, and how much harm may be done before somebody looks."""

from dataclasses import dataclass
from typing import Literal

from keycloak_bridge.core.limits import Limit
from keycloak_bridge.settings import kinds
from keycloak_bridge.settings.fields import setting


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """Whether users are read back after a write: Keycloak drops what it does not know and says nothing."""

    mode: Literal["sampled", "always", "off"] = setting(
        kinds.choice(("sampled", "always", "off")), "sampled", "Which written users are read back."
    )
    share: int = setting(
        kinds.integer(0, 100), 1, "Percent of the events that `sampled` reads back."
    )
    first: int = setting(
        kinds.integer(0, 1_000_000),
        100,
        "How many in a row must agree after the start before `sampled` goes down to its share.",
    )


@dataclass(frozen=True, slots=True)
class LimitsSettings:
    """How much each process may do within a time; more engages the brake until somebody has looked."""

    disables: Limit | None = setting(kinds.limit(), "500/1 h", "Users that are disabled.")
    deletes: Limit | None = setting(
        kinds.limit(), "500/1 h", "Users that are deleted or anonymised."
    )
    email_changes: Limit | None = setting(
        kinds.limit(), "1000/1 h", "E-mail addresses of existing users that are changed."
    )
    mails: Limit | None = setting(kinds.limit(), "none", "Mails that are sent.")
