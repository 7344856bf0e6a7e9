import pytest

from keycloak_bridge.delivery.fencing import Lease


@pytest.mark.parametrize(
    ("proofs_s", "now_s", "holds"),
    [
        ([], 0.0, False),
        ([10.0], 10.0, True),
        ([10.0], 14.9, True),
        ([10.0], 15.0, False),
        ([10.0], 1000.0, False),
        ([10.0, 14.0], 18.9, True),
        ([14.0, 10.0], 18.9, True),
        ([10.0, 30.0], 34.0, True),
    ],
)
def test_it_holds_for_its_length_after_the_latest_proof(
    proofs_s: list[float], now_s: float, holds: bool
) -> None:
    """Without one, never; an older proof that is told later does not shorten it."""
    lease = Lease(5.0)
    for proof_s in proofs_s:
        lease.renew(proof_s)

    assert holds == lease.holds(now_s)
