import json
from pathlib import Path
from typing import Any

import pytest
from stage_harness import event_of

from keycloak_bridge.app.interpretation import Interpretation, invitation_terms
from keycloak_bridge.domain.errors import (
    ConfigError,
)
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.users import DesiredUser, InvitationTerms, OutOfScope
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.settings.model import (
    EnvelopeSettings,
    EventsSettings,
    InviteSettings,
    MappingSettings,
    SchemasSettings,
    Settings,
)


def record(**changes: Any) -> Record:
    """Return an event as it stands in a file."""
    return Record("x.json", 0, 1, 0, None, json.dumps(event_of(**changes)).encode())


def desired_of(read: Prepared | Skipped) -> DesiredUser | OutOfScope:
    """Return what the mapping made of an event that was not ignored."""
    assert isinstance(read, Prepared)
    return read.desired


def test_the_shipped_files_fit_together() -> None:
    """Without any setting everything is checked and sound."""
    Interpretation(Settings()).check()


def test_an_event_is_read_step_by_step() -> None:
    """Decoded, validated and mapped are traced, without a value of the data."""
    steps: list[tuple[str, object]] = []

    read = Interpretation(Settings()).read(record(), lambda *step: steps.append(step))

    desired = desired_of(read)
    assert isinstance(read, Prepared)
    assert isinstance(desired, DesiredUser)
    assert ("event-1", "u-1", "planted.mail@acme.example") == (
        read.event.id,
        desired.matching[0].value,
        desired.representation["email"],
    )
    assert ["decoded", "validated", "mapped"] == [step for step, _ in steps]
    assert "planted" not in str(steps).lower()


def test_an_ignored_type_is_not_looked_into() -> None:
    """`events.ignore_types` comes before schema and mapping, so that any data will do."""
    settings = Settings(events=EventsSettings(ignore_types=("order.placed",)))
    steps: list[tuple[str, object]] = []
    order = record(type="order.placed", data={"email": "nowhere"})

    read = Interpretation(settings).read(order, lambda *step: steps.append(step))

    assert isinstance(read, Skipped)
    assert read.event is not None
    assert ("event-1", "order.placed") == (read.event.id, read.event.type)
    assert ["decoded"] == [step for step, _ in steps]


def test_settings_of_events_are_kept() -> None:
    """Limits, ignored keys and the envelope reach the rules."""
    settings = Settings(
        events=EventsSettings(max_bytes=2048, max_depth=7, match_key=False),
        envelope=EnvelopeSettings(
            id="body.id",
            type="body.kind",
            data="body.payload",
            types={"UserCreated": "user.created"},
        ),
    )

    rules = Interpretation(settings).rules

    assert (2048, 7, False, {"UserCreated": "user.created"}) == (
        rules.limits.max_bytes,
        rules.limits.max_depth,
        rules.match_key,
        rules.types,
    )
    assert rules.custom is not None


def test_the_subject_may_be_something_else() -> None:
    """`events.match_subject = false` takes any subject."""
    settings = Settings(events=EventsSettings(match_subject=False))

    read = Interpretation(settings).read(record(subject="else"))

    assert isinstance(desired_of(read), DesiredUser)


@pytest.mark.parametrize("part", ["mapping", "schemas", "envelope"])
def test_a_broken_part_is_found_before_anything_is_consumed(part: str, tmp_path: Path) -> None:
    """Every file and expression is read by the check."""
    (tmp_path / "user.created").mkdir()
    (tmp_path / "user.created" / "9.0.json").write_text("{")
    (tmp_path / "mapping.toml").write_text("[user]\nnickname = 'data.x'\n")
    broken = {
        "mapping": Settings(mapping=MappingSettings(file=tmp_path / "mapping.toml")),
        "schemas": Settings(schemas=SchemasSettings(folders=(tmp_path,))),
        "envelope": Settings(envelope=EnvelopeSettings(id="[[")),
    }

    with pytest.raises(ConfigError):
        Interpretation(broken[part]).check()


def test_terms_of_the_mail_come_from_the_settings() -> None:
    """Actions, lifespan, client and page."""
    invite = InviteSettings(
        actions=("UPDATE_PASSWORD", "CONFIGURE_TOTP"),
        lifespan=90.0,
        client_id="demo-app",
        redirect_uri="https://app.example/",
    )

    assert InvitationTerms(
        ("UPDATE_PASSWORD", "CONFIGURE_TOTP"), 90, "demo-app", "https://app.example/"
    ) == invitation_terms(Settings(invite=invite))


def test_mode_none_has_no_terms() -> None:
    """Neither from the settings nor in what the mapping makes."""
    settings = Settings(invite=InviteSettings(mode="none"))

    desired = desired_of(Interpretation(settings).read(record()))

    assert invitation_terms(settings) is None
    assert isinstance(desired, DesiredUser)
    assert desired.invitation is None
