"""What every UserImporter promises; the one in memory and the real Keycloak answer the same tests."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple, cast
from uuid import uuid4

import pytest

from keycloak_bridge.domain.errors import KeycloakUnavailableError
from keycloak_bridge.domain.ports import UserDirectory, UserImporter
from keycloak_bridge.domain.users import MatchCriterion, UserRepresentation
from keycloak_bridge.keycloak.partial_import import KeycloakUserImporter
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.in_memory_keycloak import InMemoryImporter, InMemoryKeycloak
from keycloak_bridge.testing.realm_tools import bridge_admin, temporary_realm


class Service(NamedTuple):
    """An importer, and a look at the users behind it."""

    importer: UserImporter
    directory: UserDirectory


@pytest.fixture(scope="module")
def real_service(sandbox: Sandbox) -> Iterator[Service]:
    """The real Keycloak, seen by an account that may import."""
    clock = SystemClock()
    with (
        temporary_realm(sandbox, "manage-realm") as realm,
        bridge_admin(sandbox, realm) as admin,
    ):
        yield Service(KeycloakUserImporter(admin, clock), KeycloakUserDirectory(admin, clock))


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.integration)])
def service(request: pytest.FixtureRequest) -> Service:
    """The fake, or the real one."""
    if request.param == "memory":
        keycloak = InMemoryKeycloak(groups=["/staff"])
        return Service(InMemoryImporter(keycloak), keycloak)
    real: Service = request.getfixturevalue("real_service")
    return real


def a_user(**fields: object) -> UserRepresentation:
    """Return a user whose names no other test uses."""
    name = f"user-{uuid4().hex[:12]}"
    user = {
        "username": name,
        "email": f"{name}@acme.example",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "enabled": True,
        "attributes": {"userId": [name]},
        **fields,
    }
    return cast("UserRepresentation", user)


def bodies(service: Service, *users: UserRepresentation) -> list[UserRepresentation]:
    """Return the bodies to import."""
    assert service.importer.available()
    found = [body for user in users if (body := service.importer.import_body(user)) is not None]
    assert len(found) == len(users)
    return found


def is_there(service: Service, user: UserRepresentation) -> bool:
    """Say whether Keycloak has a user of that name."""
    external_id = MatchCriterion("attributes.userId", user["attributes"]["userId"][0])
    carriers = service.directory.having(external_id)
    return [one["username"] for one in carriers] == [user["username"]]


def test_all_are_created_and_reported_in_order(service: Service) -> None:
    """Each with the id of its own."""
    users = [a_user() for _ in range(5)]
    ids = service.importer.import_users(bodies(service, *users))

    names = [(service.directory.get(str(user_id)) or {}).get("username") for user_id in ids]
    assert names == [user["username"] for user in users]


def test_a_user_that_exists_is_left_alone(service: Service) -> None:
    """Nothing of the user changes, and the others are created."""
    there, new = a_user(), a_user()
    user_id = service.directory.create(there)
    before = service.directory.get(user_id)
    other: UserRepresentation = {**there, "lastName": "Byron"}
    ids = service.importer.import_users(bodies(service, other, new))

    assert (ids[0], ids[1] is None) == (None, False)
    assert service.directory.get(user_id) == before


def test_one_bad_user_fails_them_all(service: Service) -> None:
    """A group that the realm lacks; no user of the batch is stored, and all can be imported without it."""
    users = [a_user(), a_user(groups=["/nowhere"]), a_user()]
    with pytest.raises(KeycloakUnavailableError) as raised:
        service.importer.import_users(bodies(service, *users))

    assert raised.value.status == 500
    assert [is_there(service, user) for user in users] == [False, False, False]
    assert None not in service.importer.import_users(bodies(service, users[0], users[2]))


def test_an_address_that_is_taken_creates_no_user(service: Service) -> None:
    """Keycloak skips the user, or fails the batch because it cannot find whom it would skip."""
    there = a_user()
    service.directory.create(there)
    user = a_user(email=there["email"])
    with contextlib.suppress(KeycloakUnavailableError):
        assert list(service.importer.import_users(bodies(service, user))) == [None]

    assert not is_there(service, user)
