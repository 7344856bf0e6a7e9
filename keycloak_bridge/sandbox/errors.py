"""The one error that leaves the sandbox."""


class SandboxError(Exception):
    """Something a person has to act on; the message says what, where and the remedy."""


class SandboxCancelled(SandboxError):  # noqa: N818  (not a fault: somebody asked to stop)
    """The start was given up because something else failed or somebody pressed Ctrl-C."""
