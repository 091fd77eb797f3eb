"""Machine: what of a sandbox this machine can enforce. It is tried, in a process that is thrown away."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass

from . import landlock
from .cgroups import Cgroups
from .enclosure import READY, in_enclosure, scrubbed_environment
from .policy import Policy, importable_from
from .system import LIBC

LIMIT = 20.0  # seconds
SPLICE_F_NONBLOCK = 2
MEMORY, PROCESSES = 1 << 30, 16
WORDS = {"memory": "memory", "pids": "number of processes"}
PARTS = (
    "namespaces (user, mount, pid, network, ipc, uts, cgroup)",
    "a root folder of its own",
    "seccomp",
    "no capabilities, no new privileges",
    "rlimits (memory and CPU of each process, files, processes)",
)


@dataclass(frozen=True, slots=True)
class Enforced:
    """`missing`: what kept a sandbox from being set up, "" where nothing did; `parts`: what is held; `gaps`: what this
    machine, or this version, does not hold."""

    missing: str
    parts: list[str]
    gaps: list[str]

    @property
    def text(self) -> str:
        """One line for people."""
        if self.missing:
            return f"a sandbox can't be set up on this machine, so none is started: {self.missing}"
        gaps = f". It does not enforce {'; '.join(self.gaps)}" if self.gaps else ""
        return f"this machine enforces {'; '.join(self.parts)}{gaps}"


def enforced() -> Enforced:
    """Set up a sandbox, and say what became of it."""
    parts = [*PARTS, f"Landlock version {landlock.version()}"]
    gaps = []
    cgroups = Cgroups()
    if cgroups.parents:
        held = " and ".join(f"{WORDS[each]} (v{parent.version})" for each, parent in cgroups.parents.items())
        parts.append(f"control groups: {held} of all of a sandbox together")
    for controller, why in cgroups.problems.items():
        gaps.append(f"the {WORDS[controller]} of all of a sandbox together, by a control group ({why})")
    if landlock.version() < landlock.NETWORK_SINCE:
        gaps.append("the network by Landlock, too")
    if landlock.version() < landlock.SCOPES_SINCE:
        gaps.append("signals and abstract sockets by Landlock, too")
    if not can_ring():
        gaps.append("that the kernel is never kept waiting by a plug-in that jams what rings it: vmsplice is refused")
    missing = tried(cgroups)
    return Enforced(missing, [] if missing else parts, gaps)


def can_ring() -> bool:
    """Has the system the call by which a bell is rung without waiting, whatever its flags are?"""
    heard, ringer = os.pipe()
    one = ctypes.create_string_buffer(1)
    parts = (ctypes.c_void_p * 2)(ctypes.addressof(one), 1)  # a `struct iovec`
    try:
        return int(LIBC.vmsplice(ringer, parts, ctypes.c_ulong(1), ctypes.c_uint(SPLICE_F_NONBLOCK))) == 1
    finally:
        os.close(heard)
        os.close(ringer)


def tried(cgroups: Cgroups) -> str:
    """What keeps a sandbox from being set up here; "" where it can be."""
    try:
        group = cgroups.new(MEMORY, PROCESSES)
    except OSError as error:
        return f"a control group: {error}"
    report, reports = os.pipe()
    folders = group.folders if group is not None else ()
    command = [sys.executable, "-P", "-m", "mukernel.sandbox.machine", str(reports), *folders]
    environment = {**scrubbed_environment(), "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    try:
        subprocess.run(
            command, pass_fds=[reports], env=environment, timeout=LIMIT, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reports)
        reports = -1
        words = os.read(report, 4096)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        os.close(report)
        if reports >= 0:
            os.close(reports)
        if group is not None:
            group.end()
    return "" if words == READY else words.decode(errors="replace") or "the process that tried it ended"


def main() -> None:
    """In the process that is thrown away. Its arguments: the descriptor that takes the report, folders of its group."""
    policy = Policy(tuple(importable_from(sys.path)), (), 1 << 20, PROCESSES, MEMORY, 256, cgroups=tuple(sys.argv[2:]))
    in_enclosure(policy, [], int(sys.argv[1]), lambda: os._exit(0))


if __name__ == "__main__":
    main()
