"""Examples at the end of a help text."""


def examples(*lines: str) -> str:
    """Return an epilog that click prints line by line instead of as one paragraph."""
    heading = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(("\b", heading, *(f"  {line}" for line in lines)))
