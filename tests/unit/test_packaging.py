import configparser
from pathlib import Path

import keycloak_bridge

ROOT = Path(__file__).parents[2]


def test_every_package_is_listed() -> None:
    """setup.cfg lists packages by name, because two folders stand outside the package; none may be forgotten."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    package = Path(keycloak_bridge.__file__).parent
    found = {
        ".".join(("keycloak_bridge", *folder.parent.relative_to(package).parts))
        for folder in package.rglob("__init__.py")
    }

    outside = {"keycloak_bridge.schemas", "keycloak_bridge.sandbox.keycloak_config"}
    assert found | outside == listed


def test_every_data_file_is_listed() -> None:
    """Files beside the code reach the wheel only when package_data names them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]
    package = Path(keycloak_bridge.__file__).parent
    forgotten = []
    for path in package.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(package).parts)
        if hidden or not path.is_file() or path.suffix in (".py", ".pyc"):
            continue
        owner = next(parent for parent in path.parents if (parent / "__init__.py").exists())
        name = ".".join(("keycloak_bridge", *owner.relative_to(package).parts))
        globs = [glob.strip() for glob in patterns.get(name, "").split(",")]
        if not any(path.relative_to(owner).match(glob) for glob in globs if glob):
            forgotten.append(path.name)

    assert [] == forgotten


def test_no_formats_of_jsonschema_are_installed() -> None:
    """The formats are our own; with the libraries for its own ones, importing jsonschema takes a second more."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")

    assert "jsonschema[" not in config["options"]["install_requires"]
