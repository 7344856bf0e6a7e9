"""The rights that the commands of `kafka-acls.sh` on a page give."""

import shlex
from collections.abc import Iterator
from itertools import pairwise, product

from keycloak_bridge.sandbox.rights import Right

KINDS = ("topic", "group", "transactional-id")


def rights(page: str) -> list[Right]:
    """Return the rights that all commands on `page` give."""
    return [one for line in page.splitlines() if line.startswith("kafka-acls.sh ") for one in _rights(line)]  # fmt: skip


def _rights(line: str) -> Iterator[Right]:
    words = shlex.split(line)
    given: dict[str, list[str]] = {}
    for option, value in pairwise(words):
        if option.startswith("--"):
            given.setdefault(option.removeprefix("--"), []).append(value)
    for principal, operation, kind in product(given["allow-principal"], given["operation"], KINDS):
        for name in given.get(kind, ()):
            yield Right(principal, operation, kind, name)
