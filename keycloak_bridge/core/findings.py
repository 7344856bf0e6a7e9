"""What is known of a mapping's targets before an event, and what can be found wrong with them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX
from keycloak_bridge.core.property_facts import PropertyFacts


class Severity(StrEnum):
    """Whether the bridge would do harm or nothing (`error`), or merely less than it could (`warning`)."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that mapping, schema and profile do not agree on, and how to mend it; `target` as in the mapping."""

    code: str
    severity: Severity
    target: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class MappedTarget:
    """What is known of one target of a mapping before there is an event.

    `facts` are the schema's word on the property that it copies, one for each version of the schema; none where an
    expression computes the value. `always` says that no event can leave the target without a value.
    """

    target: str
    facts: tuple[PropertyFacts, ...] = ()
    default: Any = None
    always: bool = True

    @property
    def name(self) -> str:
        """The name in the user profile."""
        return self.target.removeprefix(ATTRIBUTE_PREFIX)

    @property
    def is_attribute(self) -> bool:
        """Whether it is an attribute, rather than a field of the user."""
        return self.target.startswith(ATTRIBUTE_PREFIX)
