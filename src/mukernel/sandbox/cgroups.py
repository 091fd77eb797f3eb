"""Control groups: limits that hold for all of a sandbox together, where this process may make groups below its own.

Of version 2, and of version 1 for what is not in that. Only memory and the number of processes: who shares a core with
whom is the operator's to say. A group is locked by the kernel that made it; one that nobody locks was left by a kernel
that was killed, and the next removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import signal
from dataclasses import dataclass

from .family import descendants

CONTROLLERS = ("memory", "pids")
LONGEST_ENDING = 2.0  # seconds that the system has for ending a process
MOST_LOOKS = 100  # at who is left in a group: each look finds whom those before have started
PREFIX, LEAF = "mukernel-sandbox-", "mukernel-kernel"
MOUNT = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)")
ESCAPED = re.compile(r"\\([0-7]{3})")  # a blank in a path, say
LIMITS = {("memory", 1): "memory.limit_in_bytes", ("memory", 2): "memory.max", ("pids", 1): "pids.max",
          ("pids", 2): "pids.max"}  # fmt: skip
KILLS = {1: "memory.oom_control", 2: "memory.events"}  # who was ended for want of memory is counted there


@dataclass(frozen=True, slots=True)
class Parent:
    """The group of this process that has a controller; `version`: of the interface that its files have."""

    folder: str
    version: int


class Cgroups:
    """The groups of this process, in which each sandbox is given one of its own.

    `parents`: by controller, those in which groups can be made; `problems`: by controller, why they can't be.
    `process`, `root`: where the system's files are, /proc and /, but for tests.
    """

    def __init__(self, process: str = "/proc/self", root: str = "") -> None:
        self.parents: dict[str, Parent] = {}
        self.problems: dict[str, str] = {}
        found = own_groups(read(f"{process}/mountinfo"), read(f"{process}/cgroup"))
        for controller in CONTROLLERS:
            parent = found.get(controller) or found.get("")
            try:
                if parent is None:
                    raise OSError(errno.ENOENT, "no such controller is mounted")
                parent = Parent(root + parent.folder, parent.version)
                if parent.version == 2:
                    let_children_have(parent.folder, controller)
                remove_left_over(parent.folder)
                probe = os.path.join(parent.folder, new_name())
                os.mkdir(probe)
                is_removed(probe)
            except OSError as error:
                self.problems[controller] = f"{error.strerror or error}"
            else:
                self.parents[controller] = parent

    def new(self, memory: int, processes: int) -> Cgroup | None:
        """A group for one sandbox, whose processes may have so many bytes and be so many together; None where none can
        be made. Raises OSError."""
        if not self.parents:
            return None
        folders = {parent.folder for parent in self.parents.values()}
        try:
            group = Cgroup(folders)
        except (FileNotFoundError, BlockingIOError):  # another kernel took it for one that was left over
            group = Cgroup(folders)
        try:
            for controller, most in zip(CONTROLLERS, (memory, processes), strict=True):
                if (parent := self.parents.get(controller)) is not None:
                    group.limit(parent, LIMITS[controller, parent.version], most)
            group.controllers = tuple(self.parents)
            return group
        except OSError:
            group.remove()
            raise


class Cgroup:
    """The group of one sandbox: a folder of the same name in each of `parents`. It is removed, or its kernel dies."""

    controllers: tuple[str, ...] = ()

    def __init__(self, parents: set[str]) -> None:
        self.name = new_name()
        self.locks: dict[str, int] = {}  # by folder
        self.kills = ""
        try:
            for folder in sorted(os.path.join(parent, self.name) for parent in parents):
                os.mkdir(folder)
                try:
                    self.locks[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                except OSError:
                    is_removed(folder)
                    raise
                fcntl.flock(self.locks[folder], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.remove()
            raise

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(self.locks)

    def limit(self, parent: Parent, name: str, most: int) -> None:
        folder = os.path.join(parent.folder, self.name)
        write(os.path.join(folder, name), most)
        if name.startswith("memory"):
            self.kills = os.path.join(folder, KILLS[parent.version])
            for swap in ("memory.memsw.limit_in_bytes", "memory.swap.max"):  # else it goes on in there
                with contextlib.suppress(OSError):
                    write(os.path.join(folder, swap), most if parent.version == 1 else 0)

    def killed(self) -> int:
        """How many of its processes the system has ended because the group had no memory left."""
        found = re.search(r"^oom_kill (\d+)$", read(self.kills) if self.kills else "", re.MULTILINE)
        return int(found[1]) if found else 0

    def end(self) -> bool:
        """End whoever is left in it, and whom those have started meanwhile; wait for that, and remove it: True if it is
        gone. One that is not is removed by another kernel, once this process has ended."""
        for folder in self.folders:
            members, looks = os.path.join(folder, "cgroup.procs"), 0
            while (left := read(members).split()) and looks < MOST_LOOKS:
                looks += 1
                for pid in left:
                    end_process(int(pid))
        return self.remove()

    def remove(self) -> bool:
        """Once its processes have ended: True if it is gone."""
        for folder, lock in list(self.locks.items()):
            if not is_removed(folder):
                return False
            os.close(lock)
            del self.locks[folder]
        return True


def end_process(pid: int) -> None:
    """Kill a process and wait until it has ended, but for one that the system keeps."""
    try:
        process = os.pidfd_open(pid)
    except OSError:  # it has ended
        return
    try:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            poll = select.poll()  # and not `select`, which takes no descriptor above 1,023
            poll.register(process, select.POLLIN)
            poll.poll(LONGEST_ENDING * 1000)
    finally:
        os.close(process)


def new_name() -> str:
    return PREFIX + os.urandom(8).hex()


def own_groups(mounts: str, groups: str) -> dict[str, Parent]:
    """The groups of a process by controller, that of version 2 as "": from its /proc files mountinfo and cgroup."""
    paths: dict[str, str] = {}
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    found: dict[str, Parent] = {}
    for line in mounts.splitlines():
        if not (mounted := MOUNT.fullmatch(line)):
            continue
        top, point, kind, options = (ESCAPED.sub(lambda each: chr(int(each[1], 8)), part) for part in mounted.groups())
        for controller in [""] if kind == "cgroup2" else [each for each in CONTROLLERS if each in options.split(",")]:
            path, top = paths.get(controller, "/.."), top.rstrip("/")
            if (path != top and not path.startswith(f"{top}/")) or "/.." in path:  # it lies outside of what is mounted
                continue
            folder = f"{point}/{path[len(top) :].strip('/')}".rstrip("/")
            if os.path.basename(folder) == LEAF:
                folder = os.path.dirname(folder)
            found[controller] = Parent(folder, 2 if kind == "cgroup2" else 1)
    return found


def let_children_have(folder: str, controller: str) -> None:
    """Of version 2: a group hands on a controller once no process is in it but in its children. So this process, and
    what it has started, goes into one, unless there are others, which are not ours to move. Raises OSError."""
    control = os.path.join(folder, "cgroup.subtree_control")
    if controller not in read(os.path.join(folder, "cgroup.controllers")).split():
        raise OSError(errno.ENOENT, f"the group {folder} was not given that controller")
    if controller in read(control).split():
        return
    try:
        write(control, f"+{controller}")
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        members = {int(pid) for pid in read(os.path.join(folder, "cgroup.procs")).split()}
        if members - {os.getpid(), *descendants(os.getpid())}:
            raise OSError(errno.EBUSY, f"processes of others are in the group {folder}") from None
        leaf = os.path.join(folder, LEAF)
        os.makedirs(leaf, exist_ok=True)
        for pid in members:
            write(os.path.join(leaf, "cgroup.procs"), pid)
        write(control, f"+{controller}")


def remove_left_over(parent: str) -> None:
    """Remove the groups of kernels that were killed; what was in them has died with its kernel."""
    for entry in os.scandir(parent):
        if entry.name.startswith(PREFIX):
            with contextlib.suppress(OSError):  # somebody else was quicker
                lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.rmdir(entry.path)
                finally:
                    os.close(lock)


def is_removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def read(path: str) -> str:
    """What is in a file of the system; "" where it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def write(path: str, value: object) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))
