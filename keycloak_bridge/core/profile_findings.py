"""Compare a mapping, and the schema of what it maps, with the realm's user profile, before the first event."""

from collections.abc import Iterator, Sequence

from keycloak_bridge.core.findings import Finding, MappedTarget, Severity
from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX
from keycloak_bridge.core.profile import (
    LOCALE,
    PROFILE_FIELDS,
    ProfileAttribute,
    RealmProfile,
)
from keycloak_bridge.core.profile_value_findings import default_findings, value_findings

_PAGE = "Realm settings > User profile"


def check_mapping(
    profile: RealmProfile,
    targets: Sequence[MappedTarget],
    *,
    whole: bool = True,
    hidden: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Return what Keycloak would drop or refuse of users that have these targets, and who sees too much.

    `whole` says that `targets` are all that a user is created with; of a target that stands there twice the first counts
    then. `hidden` are attributes that are nobody's business
    but the bridge's.
    """
    findings = [finding for one in targets for finding in _target_findings(profile, one)]
    if whole:
        findings += _required_findings(profile, targets)
    findings += _visible_findings(profile, hidden)
    # versions of a schema say the same again
    return tuple({(one.code, one.target): one for one in reversed(findings)}.values())[::-1]


def _target_findings(profile: RealmProfile, target: MappedTarget) -> Iterator[Finding]:
    if target.is_attribute and target.name == LOCALE:
        return  # built in: internationalization decides
    if not target.is_attribute and target.name not in PROFILE_FIELDS:
        return
    attribute = profile.attributes.get(target.name)
    if attribute is None:
        if not profile.keeps_unmanaged and target.target not in ("username", "email"):
            yield _unknown(target)
        return
    yield from _permission_findings(attribute, target)
    yield from default_findings(attribute, target)
    yield from value_findings(attribute, target)


def _unknown(target: MappedTarget) -> Finding:
    what = "attribute" if target.is_attribute else "field"
    return Finding(
        "attribute-unknown",
        Severity.ERROR,
        target.target,
        f"the realm's user profile does not know the {what} {target.name}: Keycloak would drop it silently",
        f"add it under {_PAGE}, editable and visible for admins, or set "
        "'Unmanaged attributes' to 'Only administrators can write'",
    )


def _permission_findings(attribute: ProfileAttribute, target: MappedTarget) -> Iterator[Finding]:
    what = "attribute" if target.is_attribute else "field"
    for right, allowed in (("edit", attribute.edit), ("view", attribute.view)):
        if "admin" not in allowed:
            yield Finding(
                f"attribute-no-{right}",
                Severity.ERROR,
                target.target,
                f"the realm's user profile does not let admins {right} the {what} {attribute.name}",
                f"under {_PAGE} > {attribute.name}, allow admins to {right} it",
            )


def _required_findings(profile: RealmProfile, targets: Sequence[MappedTarget]) -> Iterator[Finding]:
    # the targets of a new user come first
    mapped = {target.name: target for target in reversed(targets)}
    for name, attribute in profile.attributes.items():
        if not attribute.demanded:
            continue
        where = name if name in PROFILE_FIELDS else ATTRIBUTE_PREFIX + name
        remedy = f"map it with a default, or make it optional for admins under {_PAGE} > {name}"
        if name not in mapped:
            message = f"the realm's user profile requires {name}, and the mapping does not give it: Keycloak would refuse every user"
            yield Finding("attribute-required", Severity.ERROR, where, message, remedy)
        elif not mapped[name].always:
            message = f"the realm's user profile requires {name}, and an event may lack it: Keycloak would refuse that user"
            yield Finding("attribute-required", Severity.WARNING, where, message, remedy)


def _visible_findings(profile: RealmProfile, hidden: Sequence[str]) -> Iterator[Finding]:
    for name in hidden:
        attribute = profile.attributes.get(name)
        if attribute is not None and "user" in attribute.view:
            yield Finding(
                "attribute-user-visible",
                Severity.WARNING,
                ATTRIBUTE_PREFIX + name,
                f"the realm shows users the bridge's own attribute {name}",
                f"under {_PAGE} > {name}, let only admins view it",
            )
