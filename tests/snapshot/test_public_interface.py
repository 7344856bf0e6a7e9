"""What users see stays as it is, except for what the CHANGELOG names."""

import json

import public_interface as snapshot
import pytest


@pytest.mark.parametrize("part", sorted(snapshot.public_names()))
def test_names_and_shapes_are_those_of_the_snapshot(part: str) -> None:
    """Commands, settings, topics, messages, codes, metrics and log actions are promises to users."""
    expected = json.loads(snapshot.NAMES.read_text(encoding="utf-8"))

    assert json.loads(snapshot.as_json(snapshot.public_names()[part])) == expected[part]


@pytest.mark.parametrize("part", sorted(snapshot.public_texts()))
def test_texts_are_those_of_the_snapshot(part: str) -> None:
    """Texts may change; `python -m tests.snapshot.public_interface` then shows what changed in the diff."""
    expected = json.loads(snapshot.TEXTS.read_text(encoding="utf-8"))

    assert json.loads(snapshot.as_json(snapshot.public_texts()[part])) == expected[part]
