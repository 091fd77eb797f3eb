"""Enclosure: a process encloses itself, before any code of a plug-in runs in it. It does so wholly or not at all.

Three processes come of one: the **outer**, whom the kernel knows, hands on what is printed and ends as the plug-in
does; the **first** of the new process namespace, which the system wants there, reaps; the **inner** goes on as the
host of plug-ins. Killing any of them ends all: the first dies with the outer by its parent-death signal, and all of
the namespace with the first.

As root it first becomes a user of no other use, who owns nothing: from there on it is as for anybody.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from .landlock import restrict
from .policy import TEMPORARY, Policy, libraries
from .root_folder import DEVICES, Tree, clone_trees, enter_root, links_to, wanted_paths
from .system import (
    CLONE_NEWUSER,
    NAMESPACES,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    drop_capabilities,
    prctl,
    unshare,
)
from .system_calls import filter_system_calls

FIRST_USER, USERS = 61_184, 4_336  # those that systemd sets aside for services that want one for themselves
OURS = 2  # processes of a sandbox that are not the plug-in's: the outer and the first
CHUNK = 1 << 16  # bytes that are handed on at once
SIGNALS = 64  # signals that wait, and timers: the system counts those of a user in all
STACK = 8 << 20  # bytes of its main thread's stack, which RLIMIT_DATA does not count; as most systems have it
KEPT_VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "MUKERNEL_TRANSPORT", "MUKERNEL_WAITING")


class NotEnclosed(OSError):
    """A part of the sandbox could not be set up; the text says which, and why."""


@contextlib.contextmanager
def part(what: str) -> Iterator[None]:
    """Raises NotEnclosed that names what could not be set up."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        raise NotEnclosed(f"{what}: {reason}{where}") from error


def scrubbed_environment() -> dict[str, str]:
    """What a sandboxed process may know of the kernel's environment. Its interpreter is started with nothing else:
    what was taken away later could still be found in its memory."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    ours = {"HOME": TEMPORARY, "TMPDIR": TEMPORARY, "PATH": "/usr/bin:/bin"}
    return {**kept, **ours, "PYTHONNOUSERSITE": "1"}  # which would lie in that home, where anybody may write


def enclose(policy: Policy, keep: Sequence[int], report: int) -> None:
    """Return enclosed, in the inner process, with no descriptors but the standard ones and those of `keep`.

    The outer and the first never return. `report`: a descriptor that takes why it was not enclosed. Raises NotEnclosed,
    in whichever process: who calls this reports it and ends.
    """
    with part("the control group that limits all of it"):
        for folder in policy.cgroups:
            with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write("0")  # this very process
    with part("files"):
        root, parent, working = os.geteuid() == 0, os.getppid(), working_folder()
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")  # where memory runs out, it goes first
        paths = [*policy.read, *libraries()]
        links = links_to([*paths, *policy.write])
        wanted = wanted_paths(map(os.path.realpath, paths), map(os.path.realpath, policy.write))
    trees: list[Tree] = []
    if root:
        user = FIRST_USER + os.getpid() % USERS
        with part("files, as root"):
            trees = clone_trees(wanted, users := mapped_users(user))
            os.close(users)
        with part(f"user {user} in place of root"):
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            prctl("PR_SET_DUMPABLE", PR_SET_DUMPABLE, 1)  # else its own /proc would be root's
            prctl("PR_SET_PDEATHSIG", PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user has cleared it
            if os.getppid() != parent:
                os._exit(1)
    user, group = os.geteuid(), os.getegid()
    with part("namespaces of its own (user, mount, pid, network, ipc, uts, cgroup)"):
        unshare(NAMESPACES)
        map_user("self", user, user, group, group)
    if not root:
        with part("files"):
            trees = clone_trees(wanted, None)
    printed, prints = os.pipe()
    ended, ends = os.pipe()
    with part("the first process of its namespace"):
        first = os.fork()
    if first:
        be_outer(first, printed, ended, policy.output)
    os.dup2(prints, 1)
    os.dup2(prints, 2)
    os.close(ended)
    with part("dying with its parent"):
        prctl("PR_SET_PDEATHSIG", PR_SET_PDEATHSIG, signal.SIGKILL)
        if gone(ends):
            os._exit(1)
    with part("the name of the machine"):
        socket.sethostname("sandbox")
    with part("a root folder of its own"):
        enter_root(trees, links, policy.temporary)
        with contextlib.suppress(OSError):  # else it stays in the root folder
            os.chdir(working)  # relative paths mean what they mean outside, if what leads there was given
    with part("limits of resources"):
        limit(policy)
    with part("capabilities"):
        drop_capabilities()
    with part("Landlock"):
        devices = [f"/dev/{name}" for name in DEVICES]
        reads = [path for path, writes in wanted if not writes]
        restrict([*reads, "/dev"], [*(path for path, writes in wanted if writes), TEMPORARY, *devices])
    with part("the filter of system calls (seccomp)"):
        filter_system_calls()
    with part("the process of the plug-in"):
        inner = os.fork()
    if inner:
        be_first(inner, ends)
    close_others({0, 1, 2, *keep, report})


def working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it is gone
        return os.sep


def mapped_users(user: int) -> int:
    """A user namespace in which root, and nobody else, is `user`: for mounts. A descriptor."""
    ready, made = os.pipe()
    ended, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(end)
            failure = unshared_user()
            os.write(made, str(failure).encode())
            if not failure:
                os.read(ended, 1)
        finally:
            os._exit(0)
    try:
        os.close(made)
        failure = int(os.read(ready, 16) or errno.ECHILD)
        with part("namespaces of its own (user)"):
            if failure:
                raise OSError(failure, os.strerror(failure))
        map_user(str(child), 0, user, 0, user)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(end)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(ended)


def unshared_user() -> int:
    """Enter a new user namespace; 0, or the number of the error."""
    try:
        unshare(CLONE_NEWUSER)
    except OSError as error:
        return error.errno or errno.EPERM
    return 0


def map_user(process: str, inside: int, outside: int, group_inside: int, group_outside: int) -> None:
    """Say who is who in a new user namespace: one user and one group."""
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {outside} 1"),
        ("gid_map", f"{group_inside} {group_outside} 1"),
    ):
        with open(f"/proc/{process}/{name}", "w", encoding="ascii") as file:
            file.write(line)


def gone(pipe: int) -> bool:
    """Has the other end of a pipe been closed?"""
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


def limit(policy: Policy) -> None:
    """By the limits of processes, which count for each, but for that of processes, which counts for this sandbox."""
    for kind, most in (
        (resource.RLIMIT_DATA, policy.memory),
        (resource.RLIMIT_STACK, STACK),
        (resource.RLIMIT_NOFILE, policy.files),
        (resource.RLIMIT_NPROC, policy.processes + OURS),
        (resource.RLIMIT_MEMLOCK, CHUNK),
        (resource.RLIMIT_SIGPENDING, SIGNALS),
        (resource.RLIMIT_CORE, 0),
    ):
        least = min(most, resource.getrlimit(kind)[1] % 2**64)
        resource.setrlimit(kind, (least, least))


def close_others(keep: set[int]) -> None:
    """Close every descriptor but these."""
    first = 0
    for each in [*sorted(keep), (1 << 31) - 1]:
        if first < each:  # where they are equal, os.closerange closes all
            os.closerange(first, each)
        first = each + 1


def be_outer(first: int, printed: int, ended: int, most: int) -> NoReturn:
    """Hand on what is printed, and end as the inner process did. A file, whoever else writes there, gets no longer than
    `most` bytes: what comes is left out until the kernel has emptied it. Of anything else so many are handed on."""
    close_others({0, 1, 2, printed, ended})
    left, is_file, left_out = most, stat.S_ISREG(os.fstat(1).st_mode), False
    while data := os.read(printed, CHUNK):
        if is_file:
            left = most - os.fstat(1).st_size
        if left > 0:
            left_out = False
            with contextlib.suppress(OSError):  # a full disk: what is printed is lost, and nothing else
                os.write(1, data[:left])
            left -= len(data)
        if left <= 0 and not left_out:
            left_out = True
            with contextlib.suppress(OSError):
                os.write(1, f"\nmukernel: it printed more than {most} bytes; the rest is left out\n".encode())
    _, status = os.waitpid(first, 0)
    told = os.read(ended, 16)  # what became of the inner: the first of a namespace can't end by a signal of its own
    code = int(told) if told else os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def be_first(inner: int, ends: int) -> NoReturn:
    """Reap what dies here, until the inner process does."""
    close_others({ends})
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == inner:
            code = os.waitstatus_to_exitcode(status)
            os.write(ends, str(code).encode())
            os._exit(code & 0xFF)


def in_enclosure(policy: Policy, keep: Sequence[int], report: int, main: Callable[[], None]) -> None:
    """Run `main` enclosed, or report why not, and end."""
    try:
        enclose(policy, keep, report)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(report, str(error).encode(errors="replace")[:4000])
        os._exit(1)
    os.write(report, READY)
    os.close(report)
    main()


READY = b"\0"  # what a report says of a sandbox that was set up
