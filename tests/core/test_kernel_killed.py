"""A kernel that is killed with -9 leaves no process and no shared memory behind."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

APP = """
    import asyncio, os, sys
    sys.path.insert(0, {folder!r})
    from core_samples import Counter, Sum, Summing, Tally
    from mukernel import Kernel
    async def main():
        async with Kernel() as kernel:
            await kernel.load(Tally, name="counter", placement="process", replicas=2)
            await kernel.load(Sum, name="sum", placement="process:group")
            pids = {{await kernel.get(Counter).where() for _ in range(8)}} | set(await kernel.get(Summing).where())
            with open(f"/proc/{{min(pids)}}/stat") as stat:
                pids.add(int(stat.read().rpartition(")")[2].split()[1]))
            print(*sorted(pids), flush=True)
            await asyncio.get_running_loop().create_future()
    asyncio.run(main())
"""


def test_nothing_is_left_of_a_kernel_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(textwrap.dedent(APP.format(folder=os.path.dirname(__file__))))
    shared = set(os.listdir("/dev/shm"))
    kernel = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert kernel.stdout is not None
    pids = [int(pid) for pid in kernel.stdout.readline().split()]
    assert len(pids) == 4, "two replicas, a group, the fork server"
    poll, descriptors = select.poll(), []
    for pid in pids:
        descriptors.append(os.pidfd_open(pid))
        poll.register(descriptors[-1], select.POLLIN)
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()
    left = set(descriptors)
    while left:  # each pidfd becomes readable when its process has ended
        for descriptor, _ in poll.poll():
            poll.unregister(descriptor)
            left.discard(descriptor)
    for descriptor in descriptors:
        os.close(descriptor)
    assert set(os.listdir("/dev/shm")) <= shared
