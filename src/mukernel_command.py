"""The script `mukernel`. It lies beside the package, since Python imports all of `mukernel` before any module in it."""

from __future__ import annotations

import signal


def main() -> int:
    """Run the command of the process's arguments; return its exit status. Ctrl-C ends it without a word, by the signal,
    while Python imports what it needs and once it is done; what a command does is interrupted as that command wants."""
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # where it is ignored, it remains so
    if handled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mukernel.cli.main import main as run_command

    try:
        return run_command()
    finally:
        if handled:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
