"""Users whose events need more than one step, compared with the realm."""

from dataclasses import replace

from samples import a_desired_user, an_event

from keycloak_bridge.domain.users import Intent
from keycloak_bridge.planning.fold import fold
from keycloak_bridge.population.population import PopulationUser
from keycloak_bridge.population.reconciliation import Finding, Reconciliation
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak


def test_who_comes_back_under_a_reserved_name_is_refused() -> None:
    """By the names that the mapping reserves, as where one event alone is planned."""
    keycloak = InMemoryKeycloak()
    policy = ProvisionPolicy(reserved=frozenset({"operator"}))
    planner = Provisioner(keycloak, lambda _: (), FakeClock(), policy=policy)
    created, deleted = a_desired_user(), replace(a_desired_user(), intent=Intent.DELETE)
    planner.provision(an_event(), created, one_partition=False)
    user = fold(None, an_event(), created)
    user = fold(user, an_event("event-2", day=2), deleted)
    user = fold(user, an_event("event-3", day=3), a_desired_user(username="operator"))

    compared = Reconciliation(planner, keycloak).compare(PopulationUser(user))

    assert (Finding.CONFLICT, "reserved-user") == (compared.finding, compared.reason)
