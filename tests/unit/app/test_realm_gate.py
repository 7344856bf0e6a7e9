import pytest

from keycloak_bridge.app.realm_check import IMPORT_GRACE_S, Problem, RealmGate, refuse
from keycloak_bridge.domain.errors import ConfigError, KeycloakUnavailableError
from keycloak_bridge.mapping.profile_findings import Severity
from keycloak_bridge.testing.fake_clock import FakeClock

MISSING = Problem("realm-not-found", "there is no such realm", "check keycloak.realm")


def test_a_missing_realm_may_be_on_its_way() -> None:
    """Keycloak answers before its import is through: first it is waited for, then it counts as misspelt."""
    clock = FakeClock()
    clock.advance(1000.0)
    gate = RealmGate(lambda: (MISSING,), clock)

    with pytest.raises(KeycloakUnavailableError):
        gate()
    clock.advance(IMPORT_GRACE_S - 1)
    with pytest.raises(KeycloakUnavailableError):
        gate()
    clock.advance(1)
    assert (MISSING,) == gate()


def test_other_problems_come_at_once() -> None:
    """A wrong secret does not mend itself."""
    wrong = Problem("keycloak-credentials", "the secret is wrong", "correct it")

    assert (wrong,) == RealmGate(lambda: (wrong,), FakeClock())()


def test_errors_are_refused_together_and_warnings_pass() -> None:
    """One sentence names every error with its remedy; a warning alone refuses nothing."""
    warning = Problem("odd", "something is odd", "look", Severity.WARNING)
    refuse((warning,))

    with pytest.raises(ConfigError) as caught:
        refuse((warning, MISSING, Problem("x", "another thing", "mend it")))

    assert "realm-not-found" == caught.value.code
    told = caught.value.message
    assert [True, True, False] == [
        text in told for text in ("check keycloak.realm", "mend it", "something is odd")
    ]
