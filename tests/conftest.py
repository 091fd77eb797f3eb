"""What all tests share: hypothesis measures no time, since other work on the machine is no failure of the code; and
Ctrl-C means what it does on a terminal, though the tests be started by a shell's `&`, which has it ignored."""

import os
import signal

from hypothesis import settings

settings.register_profile("ours", deadline=None)
settings.load_profile("ours")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # and so it would be in every process that a test starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["MUKERNEL_PACKING"] = "0"  # half of the tests start a fork server of their own
