"""Options on their way to another process."""

from pathlib import Path

import pytest

from keycloak_bridge.sandbox.options import SandboxOptions


@pytest.mark.parametrize(
    "options",
    [
        SandboxOptions(),
        SandboxOptions(
            config_dir=Path("/a"),
            run_dir=Path("/b c"),
            cache_dir=Path("/d"),
            client_secret="s",
            keycloak_port=8080,
            keycloak_java_options=(),
        ),
    ],
)
def test_options_survive_the_way_through_text(options: SandboxOptions) -> None:
    """What is unpacked equals what was packed."""
    assert SandboxOptions.from_json(options.to_json()) == options
