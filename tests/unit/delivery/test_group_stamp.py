"""A consumer group belongs to one realm; its commits say to which."""

import logging
from dataclasses import replace
from uuid import UUID

import pytest
from delivery_harness import GROUP, TOPIC, Hand
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.delivery.group_stamp import GroupStamp, notes_of, realm_address, topic_of
from keycloak_bridge.delivery.offsets import CommitNotes, read_notes, write_notes
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import Commit, TopicPartition
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker

ACME = GroupStamp(GROUP, "http://keycloak:8080/realms/acme", "0123456789ab")
PARTNERS = replace(ACME, realm="http://keycloak:8080/realms/partners")
CHANGED = replace(ACME, mapping="ba9876543210")
P0, P1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


@given(st.text(max_size=60))
def test_notes_come_back_without_the_stamp(text: str) -> None:
    """Whatever a commit says, also one of an older version or of somebody else."""
    assert text == notes_of(ACME.on(text))
    assert None is ACME.mapping_of([ACME.on(text), ACME.on(""), ""])
    notes = CommitNotes((range(7, 9),))
    assert notes == read_notes(5, notes_of(ACME.on(write_notes(5, notes))))
    assert notes == read_notes(5, notes_of(write_notes(5, notes)))


TOPIC_ID = str(UUID(int=1))


@given(st.text(max_size=60))
def test_a_stamp_names_the_topic(text: str) -> None:
    """Where Kafka gives it an id; one of an older version names none. Notes and mapping are read beside either."""
    stamped = ACME.on(text, TOPIC_ID)

    assert (TOPIC_ID, text, None) == (topic_of(stamped), notes_of(stamped), ACME.mapping_of([stamped]))  # fmt: skip
    assert None is topic_of(ACME.on(text)) is topic_of(text)
    assert CHANGED.mapping == ACME.mapping_of([CHANGED.on(text, TOPIC_ID)])


@pytest.mark.parametrize(
    "metadata", ["", "kb1:FlwlZQI", "kbs1:", "kbs1:x", "kbs1:x y|ab", "kbs1:é|ab", "kbs1:x|zz"]
)
def test_what_is_no_stamp_says_nothing(metadata: str) -> None:
    """Commits of an older version, and of other programs."""
    assert None is ACME.mapping_of([metadata])
    assert metadata == notes_of(metadata)


def test_the_group_of_another_realm_is_refused() -> None:
    """The message names both, and what to do for each reason that there may be."""
    with pytest.raises(ConfigError) as caught:
        ACME.mapping_of([ACME.on(""), PARTNERS.on("kb1:x")])

    assert "foreign-realm" == caught.value.code
    assert PARTNERS.realm in caught.value.message
    assert ACME.realm in caught.value.message
    assert f"set keycloak.known_as to {PARTNERS.realm}" in str(caught.value.remedy)


def test_another_mapping_is_named() -> None:
    """It may be the bridge's own of yesterday, so it refuses nothing."""
    assert CHANGED.mapping == ACME.mapping_of([ACME.on(""), CHANGED.on("")])


@pytest.mark.parametrize(
    ("url", "realm", "address"),
    [
        ("http://keycloak:8080", "acme", "http://keycloak:8080/realms/acme"),
        ("HTTPS://SSO.Acme.Example:443/auth/", "acme", "https://sso.acme.example/auth/realms/acme"),
        ("http://localhost:80", "acme", "http://localhost/realms/acme"),
        ("http://localhost", "größe", None),
        ("http://localhost/" + "x" * 200, "acme", None),
    ],
)
def test_the_address_of_a_realm(url: str, realm: str, address: str | None) -> None:
    """The same however it is written; what a stamp cannot hold is hashed."""
    found = realm_address(url, realm)

    assert (address or found) == found
    assert (address is None) is found.startswith("sha256:")
    assert None is replace(ACME, realm=found).mapping_of([replace(ACME, realm=found).on("x")])


# in a group


def bridge(broker: InMemoryBroker, stamp: GroupStamp | None) -> Hand:
    """Return a bridge whose commits bear this stamp."""
    return Hand(broker=broker, stamp=stamp)


def test_every_partition_is_stamped_before_there_is_work() -> None:
    """So that whoever joins later sees whose it is; the notes stay what they are."""
    broker = InMemoryBroker(partitions=2)
    mine = bridge(broker, ACME)

    mine.turn()
    mine.turn(advance_s=2.0)

    assert {P0: Commit(0, ACME.on("")), P1: Commit(0, ACME.on(""))} == broker.commits[GROUP]


def test_a_partition_of_another_realm_is_not_touched() -> None:
    """Two bridges of two realms in one group: the one that gets what the other had stops, and commits nothing."""
    broker = InMemoryBroker()
    broker.commits[GROUP][P0] = Commit(0, PARTNERS.on(""))
    mine = bridge(broker, ACME)
    mine.publish(1)

    with pytest.raises(ConfigError, match="belongs to another realm"):
        mine.worker.run(mine.stop)

    assert Commit(0, PARTNERS.on("")) == broker.commits[GROUP][P0]
    assert [] == mine.handler.handled


def test_two_realms_that_join_an_unused_group_at_once_find_out() -> None:
    """No commit says whose it is then; a moment later, those of the other one do."""
    broker = InMemoryBroker(partitions=2)
    mine = bridge(broker, ACME)
    mine.source.revoke(P1)
    theirs = bridge(broker, PARTNERS)
    theirs.source.assign(P1)
    for _ in range(3):
        mine.turn(advance_s=2.0)
        theirs.turn(advance_s=2.0)
    assert 2 == len({commit.metadata for commit in broker.commits[GROUP].values()})

    for one in (mine, theirs):
        with pytest.raises(ConfigError, match="belongs to another realm"):
            one.turn(advance_s=5.0)


def test_a_changed_mapping_goes_on_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The partitions become its own with the next commit."""
    broker = InMemoryBroker(partitions=2)
    for partition in (P0, P1):
        broker.commits[GROUP][partition] = Commit(0, CHANGED.on(""))
    mine = bridge(broker, ACME)

    with caplog.at_level(logging.WARNING):
        mine.turn()
        mine.turn(advance_s=2.0)

    assert ["foreign-mapping"] == [vars(one)["bridge_fields"]["action"] for one in caplog.records]
    assert {ACME.on("")} == {commit.metadata for commit in broker.commits[GROUP].values()}
