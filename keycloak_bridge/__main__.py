"""Run the command line as `python -m keycloak_bridge`."""

from keycloak_bridge.cli.main import main

if __name__ == "__main__":
    main()
