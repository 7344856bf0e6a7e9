"""What a mapping and the schemas of its events say about each target, for a comparison with the user profile."""

import re
from collections.abc import Sequence

from keycloak_bridge.core.findings import MappedTarget
from keycloak_bridge.core.lifecycle import Mappings
from keycloak_bridge.core.mapping_rules import TargetRule
from keycloak_bridge.core.model import USER_CREATED, USER_UPDATED
from keycloak_bridge.core.property_facts import PropertyFacts
from keycloak_bridge.core.schema_walk import Path
from keycloak_bridge.core.validation import SchemaCatalog

_PLAIN_PATH = re.compile(r"data((?:\.[A-Za-z_][A-Za-z0-9_]*)+)")


def mapped_targets(
    rules: Sequence[TargetRule], schemas: SchemaCatalog, event_type: str
) -> tuple[MappedTarget, ...]:
    """Return each rule with what the schemas of `event_type` say about the property that it copies.

    Of an expression that computes something, only whether it always has a value is known.
    """
    return tuple(_mapped(rule, schemas, event_type) for rule in rules)


def _mapped(rule: TargetRule, schemas: SchemaCatalog, event_type: str) -> MappedTarget:
    path = plain_path(rule)
    facts: Sequence[PropertyFacts | None] = ()
    if path is not None:
        facts = schemas.property_facts(event_type, path)
    return MappedTarget(
        target=rule.target,
        facts=tuple(one for one in facts if one is not None),
        default=rule.default,
        always=_always(rule, schemas, event_type),
    )


def plain_path(rule: TargetRule) -> Path | None:
    """Return the property that the rule copies as it is; None where it computes a value or has none."""
    match = None if rule.expression is None else _PLAIN_PATH.fullmatch(rule.expression.text.strip())
    return None if match is None else tuple(match[1].split(".")[1:])


def _always(rule: TargetRule, schemas: SchemaCatalog, event_type: str) -> bool:
    """Say whether every valid event gives a value: by a default, or by a property that the schema requires.

    A rule with `required` refuses the event itself, so Keycloak never sees the user.
    """
    if rule.expression is None or rule.default is not None or rule.required:
        return True
    return any(
        all(one is not None and one.required for one in schemas.property_facts(event_type, path))
        for path in rule.expression.data_paths
    )


def all_mapped_targets(mappings: Mappings, schemas: SchemaCatalog) -> tuple[MappedTarget, ...]:
    """Return the targets of every mapping with what the schemas of its events say; those of a new user come first."""
    creating = mappings.by_type.get(USER_CREATED, mappings.default)
    updating = mappings.by_type.get(USER_UPDATED, mappings.default)
    others = [(event_type, one) for (event_type, _), one in mappings.by_major.items()]
    pairs = [(USER_CREATED, creating), (USER_UPDATED, updating), *others]
    return tuple(
        target
        for event_type, mapping in pairs
        for target in mapped_targets(mapping.rules.targets, schemas, event_type)
    )
