"""The tokens that the bridge logs in to Kafka with."""

import pytest

from keycloak_bridge.domain.errors import KeycloakUnavailableError
from keycloak_bridge.kafka import tokens
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import KeycloakSettings
from keycloak_bridge.testing.fake_clock import FakeClock


class Script:
    """Gives out what it was told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: str | Exception = "t-1"

    def token(self) -> str:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_keycloak_that_does_not_answer_is_not_asked_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread that asks sends heartbeats too: after a failure it is left alone for a while, then asked again."""
    script, clock = Script(), FakeClock()
    monkeypatch.setattr(tokens, "TokenSource", lambda *_, **__: script)
    keycloak = KeycloakSettings(realm="acme", client_secret=Secret("keycloak-hush"))
    source = tokens.KafkaTokens(keycloak, None, clock)
    assert source.token() == "t-1"

    script.answer = KeycloakUnavailableError("away")
    for _ in range(3):
        with pytest.raises(KeycloakUnavailableError):
            source.token()
    assert script.asked == 2
    clock.advance(6)
    script.answer = "t-2"
    assert source.token() == "t-2"
