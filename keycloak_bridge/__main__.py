"""Run the command line, as `keycloak-bridge` or as `python -m keycloak_bridge`."""

import sys
from importlib import import_module

from keycloak_bridge.cli.interruption import INTERRUPTED, importing


def main() -> None:
    """Run the command line and exit."""
    try:
        with importing():
            command_line = import_module("keycloak_bridge.cli.main")
        command_line.main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
