"""What mapping and schemas say of a target before there is an event."""

import json
from pathlib import Path

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES
from keycloak_bridge.keycloak.user_profile import read_profile
from keycloak_bridge.mapping.profile_findings import MappedTarget, all_mapped_targets, check_mapping
from keycloak_bridge.settings import Settings

REALM = Path(__file__).parents[3] / "keycloak-config" / "acme-realm.json"


def shipped() -> dict[str, MappedTarget]:
    """Return the targets of the shipped mapping that a new user gets."""
    interpretation = Interpretation(Settings())
    targets = all_mapped_targets(interpretation.mapping, interpretation.catalog)
    return {target.target: target for target in reversed(targets)}


def test_a_copied_property_brings_its_facts() -> None:
    """The length of the schema is known; of a computed value nothing is."""
    targets = shipped()

    assert {255} == {one.longest for one in targets["firstName"].facts}
    assert () == targets["email"].facts


def test_what_an_event_may_lack() -> None:
    """Required by the schema, or by default: there; else not for certain."""
    targets = shipped()
    always = {name: targets[name].always for name in ("username", "email", "enabled")}

    assert {"username": True, "email": True, "enabled": True} == always
    assert targets["attributes.userId"].always
    assert not targets["attributes.department"].always


def test_the_shipped_parts_agree() -> None:
    """Mapping, schemas and realm of this repository give no finding."""
    realm = json.loads(REALM.read_text(encoding="utf-8"))
    (component,) = realm["components"]["org.keycloak.userprofile.UserProfileProvider"]
    profile = read_profile(json.loads(component["config"]["kc.user.profile.config"][0]))
    interpretation = Interpretation(Settings())
    targets = all_mapped_targets(interpretation.mapping, interpretation.catalog)

    assert () == check_mapping(profile, targets, hidden=BOOKKEEPING_ATTRIBUTES)
