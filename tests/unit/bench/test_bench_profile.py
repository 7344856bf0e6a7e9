import pytest

from bench.profile import package_of, shares, table

KAFKA = "send (/usr/lib/python3.11/site-packages/kafka/net/manager.py:10)"
JSON = "loads (/usr/lib/python3.11/json/__init__.py:299)"


@pytest.mark.parametrize(
    ("frame", "package"),
    [
        (
            "run (/home/me/keycloak-bridge/keycloak_bridge/delivery/worker.py:12)",
            "keycloak_bridge.delivery",
        ),
        (KAFKA, "kafka.net"),
        ("visit (/venv/lib/python3.12/site-packages/jmespath/visitor.py)", "jmespath"),
        (JSON, "json"),
        ("wait (/usr/lib/python3.11/threading.py:320)", None),
        ("select (/usr/lib/python3.11/selectors.py:468)", None),
        ("<module> (<string>:1)", None),
        ("without a place", None),
    ],
)
def test_a_frame_counts_for_its_package(frame: str, package: str | None) -> None:
    """What the standard library does for others counts for them."""
    assert package == package_of(frame)


def test_a_sample_counts_for_the_innermost_package() -> None:
    """Whoever called it has no part of it; a stack of nothing but the standard library is of no package."""
    lock = "acquire (/usr/lib/python3.11/threading.py:1)"
    lines = [f"{KAFKA};{lock} 6", f"{KAFKA};{JSON} 3", f"{lock} 1", ""]

    assert {"kafka.net": 0.6, "json": 0.3, "other": 0.1} == shares(lines)


def test_the_table_has_a_column_for_each_run() -> None:
    """The largest first; what is small everywhere is left out."""
    rows = table({"a": {"json": 0.004, "kafka.net": 0.3}, "b": {"jmespath": 0.5, "kafka.net": 0.2}})

    assert ["| jmespath | 0 % | 50 % |", "| kafka.net | 30 % | 20 % |"] == rows.splitlines()[2:]


def test_packages_of_one_share_are_in_the_order_of_their_names() -> None:
    """The page is the same however often it is written."""
    rows = table({"a": dict.fromkeys("zxyab", 0.1)})

    assert ["a", "b", "x", "y", "z"] == [row.split()[1] for row in rows.splitlines()[2:]]
