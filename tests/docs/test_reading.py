"""What is counted as read to follow an event or an invitation."""

import pytest
from reading import stage_of


@pytest.mark.parametrize(
    ("thread", "stage"),
    [
        ("provision", "provision"),
        ("provision-12", "provision"),
        ("batch-1", "provision"),
        ("known-users", "provision"),
        ("users_0", "provision"),
        ("invite", "invite"),
        ("invite-1", "invite"),
        ("bridge", None),
        ("activation", None),
        ("ui-outcomes", None),
        ("MainThread", None),
    ],
)
def test_a_module_counts_for_the_stage_of_its_thread(thread: str, stage: str | None) -> None:
    """Whatever else runs in the bridge meanwhile belongs to none."""
    assert stage == stage_of(thread)
