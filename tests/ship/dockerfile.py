"""What compose/Dockerfile says, read as data."""

import re
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "compose" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions in order as word and argument, comments and line breaks resolved."""
    code = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", code).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


def default_base() -> str:
    """Return the image that the Dockerfile builds on unless another is named: repository and tag, without its digest."""
    default = next(
        argument
        for word, argument in instructions()
        if word == "ARG" and argument.startswith("BASE_IMAGE=")
    )
    name = default.removeprefix("BASE_IMAGE=").partition("@")[0]
    return name.removeprefix("docker.io/library/")
