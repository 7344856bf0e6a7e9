"""What `make test-compose` finds wrong in a composition, on samples of what the engine and Keycloak say."""

import json

import pytest
from ship.compose import CONFINED, STATES, confinement, states_of, token_problems
from ship.engine import Engine
from ship.machine import ShipError
from ship.standins import build, full_name

DATA = {
    "userId": "1",
    "tenantId": "tenant-1",
    "department": "Sales",
    "locale": "de",
    "email": "ada@acme.example",
    "givenName": "Ada",
    "familyName": "Berg",
    "groups": ["/staff"],
    "roles": ["viewer"],
}
CLAIMS = {
    "user_id": "1",
    "tenant_id": "tenant-1",
    "department": "Sales",
    "locale": "de",
    "email": "ada@acme.example",
    "email_verified": True,
    "given_name": "Ada",
    "family_name": "Berg",
    "groups": ["/staff"],
    "roles": ["viewer", "default-roles-acme"],
}
CONTAINER = {
    "Config": {"User": "10001:10001"},
    "HostConfig": {"ReadonlyRootfs": True, "SecurityOpt": ["no-new-privileges:true"]},
    "EffectiveCaps": None,
}


def listed(**changed: str) -> str:
    """Return what Compose lists when all is up, but for one field of the bridge."""
    lines = [
        {"Service": name, "State": "running", "Health": "healthy", "ExitCode": 0}
        for name, state in STATES.items()
        if state == "healthy"
    ] + [
        {"Service": name, "State": "exited", "Health": "", "ExitCode": 0}
        for name, state in STATES.items()
        if state != "healthy"
    ]
    return "\n".join(
        json.dumps(line | (changed if line["Service"] == "bridge" else {})) for line in lines
    )


@pytest.mark.parametrize(
    "changed",
    [{"Health": "starting"}, {"Health": "unhealthy"}, {"Health": ""}, {"Service": "sidecar"}],
)
def test_each_service_has_to_be_what_it_should(changed: dict[str, str]) -> None:
    """A health that is not there counts for nothing, and a service of another name is another service."""
    assert STATES == states_of(listed())
    assert STATES != states_of(listed(**changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"Config": {"User": "0:0"}},
        {"HostConfig": {"ReadonlyRootfs": False, "SecurityOpt": ["no-new-privileges:true"]}},
        {"HostConfig": {"ReadonlyRootfs": True, "SecurityOpt": []}},
        {"EffectiveCaps": ["CAP_CHOWN"]},
    ],
)
def test_each_right_that_a_container_has_too_much_is_seen(changed: dict[str, object]) -> None:
    """As the engine describes the container."""
    assert CONFINED == confinement(CONTAINER)
    assert CONFINED != confinement(CONTAINER | changed)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_token_without_one_attribute_of_the_event_is_found(claim: str) -> None:
    """Other claims and other roles are no fault."""
    without = {name: value for name, value in CLAIMS.items() if name != claim}

    assert [] == token_problems(CLAIMS, DATA)
    assert 1 == len(token_problems(without, DATA))


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("postgres:17.6-alpine", "docker.io/library/postgres:17.6-alpine"),
        ("axllent/mailpit:v1.33.1", "docker.io/axllent/mailpit:v1.33.1"),
        ("quay.io/keycloak/keycloak:26.7.5", "quay.io/keycloak/keycloak:26.7.5"),
    ],
)
def test_an_image_has_the_name_under_which_docker_would_pull_it(image: str, full: str) -> None:
    """A point in the tag does not make a registry."""
    assert full == full_name(image)


@pytest.mark.parametrize("image", ["redis:8.2.1", "apache/kafka:3.0.0", "postgres:16.1"])
def test_no_other_image_is_built_under_a_name(image: str) -> None:
    """What nothing stands in for, and another version than what stands in, are refused before anything is built."""
    with pytest.raises(ShipError, match=r"tests/ship/standins\.py"):
        build(Engine.__new__(Engine), [image])
