"""Guardian: runs one tool, and ends it with all that it has started when whoever asked for it is gone.

A script for `python -I -S`, which needs nothing but the standard library: `guardian.py PARENT COMMAND...`. It leads a
session without a terminal, and its process group, in which the tool and its own processes are. The parent's death comes
as a signal: then the group is killed. Its exit status is the tool's.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        return
    try:
        tool = os.posix_spawnp(command[0], command, os.environ)
    except OSError as error:
        sys.exit(f"error: {command[0]} can't be run: {error.strerror}")
    code = os.waitstatus_to_exitcode(os.waitpid(tool, 0)[1])
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
