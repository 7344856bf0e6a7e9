"""Become another program that the kernel kills when the process that started it is gone.

Run as a file, `python -I tether.py PARENT_PID COMMAND...`, and free of imports of this package:
it stands between fork and exec, where a few milliseconds count. On systems without prctl it just
becomes the program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, then exec the command."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above took effect
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606  (there is no shell to want)


if __name__ == "__main__":
    main(sys.argv[1:])
