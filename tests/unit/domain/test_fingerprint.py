"""The number that stands for an id."""

from keycloak_bridge.domain.fingerprint import fingerprint


def test_a_fingerprint_stays_the_same() -> None:
    """It is committed to Kafka and read by later releases."""
    assert 0xE4A6A0577479B2B4 == fingerprint(b"")
    assert 0x40F89E395B66422F == fingerprint(b"a")
