"""A hostile plug-in: each way out that it knows, by name. It says what it got, or what the system answered."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable

from mukernel import Interface, Plugin, raises
from mukernel.drivers.http import Http, OriginRefused, opened

LIBC = ctypes.CDLL(None, use_errno=True)
SECRET = "MUKERNEL_TEST_SECRET"
FAMILIES = ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG", "AF_CAN")
SYS = {"add_key": 248, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "kexec_load": 246,
       "init_module": 175, "io_uring_setup": 425, "process_vm_readv": 310, "ptrace": 101, "setns": 308,
       "personality": 135, "clone3": 435, "open_by_handle_at": 304, "mount_setattr": 442, "pidfd_getfd": 438,
       "unknown": 9_999, "x32": 0x4000_0000 + 39}  # fmt: skip
Escape = Callable[[str], str]


class Hostile(Interface, version="1.0"):
    """Tries to get out."""

    async def attempt(self, way: str, argument: str) -> str: ...
    async def names(self) -> list[str]: ...


class Neighbour(Interface, version="1.0"):
    """Serves on, whatever the other does."""

    async def ping(self) -> int: ...


class Quiet(Plugin, Neighbour):
    async def ping(self) -> int:
        return os.getpid()


class Escapist(Plugin, Hostile):
    async def attempt(self, way: str, argument: str) -> str:
        """What it got, after "ESCAPED"; else the error."""
        try:
            return f"ESCAPED {WAYS[way](argument)}"
        except (OSError, ValueError, MemoryError, RuntimeError, subprocess.SubprocessError) as error:
            return f"{type(error).__name__}: {error}"

    async def names(self) -> list[str]:
        return list(WAYS)


def denied() -> str:
    raise OSError("it is tried by itself")


def call(number: int, *arguments: object) -> int:
    """A system call that Python has no name for. Raises OSError."""
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = LIBC.syscall(ctypes.c_long(number), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def libc(name: str, *arguments: object) -> int:
    result: int = getattr(LIBC, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path: str) -> str:
    with open(path, "rb") as file:
        return repr(file.read(100))


def write(path: str) -> str:
    with open(path, "ab") as file:
        file.write(b"# written by a sandboxed plug-in\n")
    return path


def own_source(_: str) -> str:
    return write(os.path.abspath(__file__))


def own_source_renamed(_: str) -> str:
    os.rename(os.path.abspath(__file__), os.path.abspath(__file__) + ".gone")
    return "renamed"


def follow_a_link(target: str) -> str:
    link = "/tmp/link"
    if not os.path.lexists(link):
        os.symlink(target, link)
    return read(link)


def any_socket(_: str) -> str:
    """One of each family that must not be had; the first that is had ends it."""
    for family in FAMILIES:
        try:
            socket.socket(getattr(socket, family), socket.SOCK_DGRAM if family != "AF_ALG" else socket.SOCK_SEQPACKET)
        except OSError:
            continue
        return family
    raise OSError("none of them")


def connect_unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(path)
    return path


def reconnect_unix(path: str) -> str:
    """By what it has: each of a pair is a socket like any other."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        one, _ = socket.socketpair(socket.AF_UNIX, kind)
        try:
            one.connect(path)
        except OSError as error:
            if error.errno != errno.EPERM:
                return f"asked: {error}"
            continue
        return path
    raise OSError("neither")


def datagram(path: str) -> str:
    """To a name that goes with each packet, which a connected socket may send, too."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        for new in (lambda kind: socket.socket(socket.AF_UNIX, kind), lambda kind: socket.socketpair(type=kind)[0]):
            try:
                new(kind).sendto(b"obey", path)
            except OSError:
                continue
            return path
    raise OSError("none of them")


def packet_to(path: str) -> str:
    """A packet that names where it is to go, by a socket of the kinds that it may have."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.sendto(b"obey", path)
    other.setblocking(False)
    raise OSError(f"the name was looked past: {other.recv(10)!r}")


def name_a_socket(path: str) -> str:
    socket.socketpair()[0].bind(path)
    return path


def lease(path: str) -> str:
    import fcntl

    with open(path) as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    return path


def kill(pid: str) -> str:
    os.kill(int(pid), 0)
    return pid


def kill_everybody(_: str) -> str:
    os.kill(-1, 0)  # there is nobody but itself and the first of its namespace, who can't be ended from in here
    seen = []
    for pid in range(3, 40_000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        except PermissionError:  # it is seen, if it is another user's
            pass
        seen.append(pid)
    if not seen:
        raise OSError("there is nobody else")
    return repr(seen)


def kill_the_first(_: str) -> str:
    os.kill(1, signal.SIGKILL)
    os.kill(1, 0)
    raise OSError("it lives on")


def open_files(_: str) -> str:
    """A descriptor of a file or folder on a disk, which the process was born with."""
    own = os.stat("/dev/null").st_dev
    for fd in range(3, 1024):
        try:
            status = os.fstat(fd)
        except OSError:
            continue
        if status.st_nlink and status.st_mode & 0o170000 in (0o100000, 0o040000) and status.st_dev != own:
            return f"{fd} of {status}"
    raise OSError("none")


def environment(_: str) -> str:
    """The kernel's environment: in one's own, and anywhere in one's own stack."""
    if SECRET in os.environ:
        return os.environ[SECRET]
    import posix

    if SECRET.encode() in posix.environ:
        return "posix.environ"
    raise OSError("not there")


def fork_bomb(_: str) -> str:
    children = []
    try:
        for _ in range(2_000):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return f"{len(children)} processes"


def thread_bomb(_: str) -> str:
    done = threading.Event()
    threads = []
    try:
        for _ in range(2_000):
            threads.append(threading.Thread(target=done.wait, daemon=True))
            threads[-1].start()
    finally:
        done.set()
    return f"{len(threads)} threads"


def fill_memory(_: str) -> str:
    held = [bytearray(1 << 24) for _ in range(1_000)]
    return f"{len(held)} times 16 MB"


def share_memory(megabytes: str) -> str:
    """Of no process, and so no process's limit counts it."""
    held = [os.memfd_create("shared") for _ in range(8)]
    for memory in held:
        for _ in range(int(megabytes) // 8):
            os.write(memory, bytes(1 << 20))
    for memory in held:
        os.close(memory)
    return f"{megabytes} MB"


def fill_memory_by_mapping(_: str) -> str:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    held = [mmap.mmap(-1, 1 << 28, flags=flags) for _ in range(100)]
    return f"{len(held)} times 256 MB"


def fill_disk(_: str) -> str:
    try:
        with open("/tmp/large", "wb") as file:
            for _ in range(1_000):
                file.write(bytes(1 << 20))
    finally:
        os.unlink("/tmp/large")
    return "1 GB"


def fill_disk_with_files(_: str) -> str:
    for number in range(100_000):
        with open(f"/tmp/{number}", "w"):
            pass
    return "100,000 files"


def exhaust_descriptors(_: str) -> str:
    held = []
    try:
        for _ in range(100_000):
            held.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for fd in held:
            os.close(fd)
    return f"{len(held)} descriptors"


def raise_limits(_: str) -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
    return "more descriptors"


def limits_of_others(pid: str) -> str:
    resource.prlimit(int(pid), resource.RLIMIT_NOFILE, (10, 10))
    return pid


def setuid_program(how: Callable[[str], object]) -> Escape:
    def make(_: str) -> str:
        path = "/tmp/setuid"
        if os.path.exists(path):
            os.unlink(path)
        how(path)
        return oct(os.stat(path).st_mode)

    return make


def made_then_changed(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o755))
    os.chmod(path, 0o4755)


def chroot_out(_: str) -> str:
    os.mkdir("/tmp/inner")
    os.chroot("/tmp/inner")
    return "chroot"


def remount(_: str) -> str:
    return str(libc("mount", b"none", b"/", None, ctypes.c_ulong(0x20 | 0x1000), None))


def device(_: str) -> str:
    os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0))
    return "a block device"


def become_root(_: str) -> str:
    os.setuid(0)
    return "root"


def run_a_program(path: str) -> str:
    return subprocess.run([path], capture_output=True, check=True).stdout.decode()


def type_for_the_operator(_: str) -> str:
    import fcntl

    fcntl.ioctl(1, 0x5412, b"x")
    return "typed"


def shared_memory(_: str) -> str:
    return str(libc("shmget", 0, ctypes.c_size_t(1 << 20), 0o1600))


def shared_semaphores(_: str) -> str:
    number = libc("semget", 0, 1, 0o1600)
    return str(libc("semctl", number, 0, 0))  # IPC_RMID


def huge_pages(_: str) -> str:
    return str(mmap.mmap(-1, 1 << 21, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000))  # MAP_HUGETLB


def give_up_pages(_: str) -> str:
    """Those of a segment that others were sent, who would pay for them as they look at them again."""
    with mmap.mmap(-1, 4096) as memory:
        memory.madvise(21)  # MADV_PAGEOUT
    return "they are gone"


def timers(_: str) -> str:
    """The system counts them for a user, over all processes."""
    made: list[ctypes.c_void_p] = []
    try:
        while len(made) < 1_000:
            made.append(ctypes.c_void_p())
            call(222, 0, None, ctypes.byref(made[-1]))  # timer_create
    finally:
        for each in made:
            ctypes.CDLL(None).syscall(226, each)  # timer_delete
    return f"{len(made)} timers"


def abstract_socket(name: str) -> str:
    with socket.socket(socket.AF_UNIX) as end:
        end.connect("\0" + name)
    return name


def interfaces(_: str) -> str:
    """Which network there is; the loopback, which is down, can't even be asked about without a socket."""
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    if not names:
        raise OSError("none")
    return repr(names)


WAYS: dict[str, Escape] = {
    "a socket of any other family": any_socket,
    "network interfaces": interfaces,
    "connect to a Unix socket of the machine": connect_unix,
    "connect what it has to a Unix socket": reconnect_unix,
    "a datagram to a Unix socket of the machine": datagram,
    "a packet to a Unix socket of the machine": packet_to,
    "a socket with a name": name_a_socket,
    "a lease on a file": lease,
    "connect to an abstract socket of the machine": abstract_socket,
    "read /etc/passwd": lambda _: read("/etc/passwd"),
    "read /etc/shadow": lambda _: read("/etc/shadow"),
    "list the home": lambda path: repr(os.listdir(path)),
    "read a file of the operator": read,
    "read it by a link": follow_a_link,
    "read it by ..": lambda path: read(f"/tmp/../../..{path}"),
    "write to a file of the operator": write,
    "write to its own source": own_source,
    "rename its own source": own_source_renamed,
    "write to Python's library": lambda _: write(os.__file__),
    "write a shared library": lambda _: write("/usr/lib/evil.so"),
    "write to the root": lambda _: write("/evil"),
    "the rings of another by /proc": lambda pid: repr(os.listdir(f"/proc/{pid}/fd")),
    "its own descriptors by /proc": lambda _: repr(os.listdir("/proc/self/fd")),
    "the machine by /sys": lambda _: repr(os.listdir("/sys")),
    "descriptors it was born with": open_files,
    "the kernel's environment": environment,
    "signal the kernel": kill,
    "signal anybody": kill_everybody,
    "kill the first of its namespace": kill_the_first,
    "ptrace": lambda pid: str(call(SYS["ptrace"], 16, int(pid), 0, 0)),
    "ptrace the first": lambda _: str(call(SYS["ptrace"], 16, 1, 0, 0)),
    "read another's memory": lambda _: str(call(SYS["process_vm_readv"], 1, 0, 0, 0, 0, 0)),
    "take another's descriptor": lambda _: str(call(SYS["pidfd_getfd"], 0, 0, 0)),
    "limits of the kernel": limits_of_others,
    "mount a file system": lambda _: str(libc("mount", b"none", b"/tmp", b"tmpfs", ctypes.c_ulong(0), None)),
    "make its root writable": remount,
    "change a mount": lambda _: str(call(SYS["mount_setattr"], 0, 0, 0, 0, 0)),
    "unshare namespaces": lambda _: str(libc("unshare", 0x10000000 | 0x00020000)),
    "enter a namespace": lambda _: str(call(SYS["setns"], 0, 0)),
    "clone into namespaces": lambda _: str(call(56, 0x10000000 | 17, 0, 0, 0, 0)),
    "clone3": lambda _: str(call(SYS["clone3"], 0, 0)),
    "chroot": chroot_out,
    "make a device": device,
    "open by a handle": lambda _: str(call(SYS["open_by_handle_at"], -100, 0, 0)),
    "become root": become_root,
    "make a setuid program": setuid_program(lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o4755))),
    "change a program to setuid": setuid_program(made_then_changed),
    "make it by openat2": lambda _: str(call(437, -100, b"/tmp/x", 0, 0)),
    "a key": lambda _: str(call(SYS["add_key"], b"user", b"name", b"x", 1, -4)),
    "keyctl": lambda _: str(call(SYS["keyctl"], 0, -4, 1)),
    "io_uring": lambda _: str(call(SYS["io_uring_setup"], 8, 0)),
    "bpf": lambda _: str(call(SYS["bpf"], 0, 0, 0)),
    "perf_event_open": lambda _: str(call(SYS["perf_event_open"], 0, 0, -1, -1, 0)),
    "userfaultfd": lambda _: str(call(SYS["userfaultfd"], 1)),
    "kexec_load": lambda _: str(call(SYS["kexec_load"], 0, 0, 0, 0)),
    "init_module": lambda _: str(call(SYS["init_module"], 0, 0, 0)),
    "personality": lambda _: str(call(SYS["personality"], 0x0040000)),
    "a call that nobody knows": lambda _: str(call(SYS["unknown"])),
    "a call by the numbers of x32": lambda _: str(call(SYS["x32"])),
    "name the machine": lambda _: str(libc("sethostname", b"mine", ctypes.c_size_t(4))),
    "type for the operator": type_for_the_operator,
    "shared memory of System V": shared_memory,
    "semaphores of System V": shared_semaphores,
    "huge pages of the machine": huge_pages,
    "give up pages of a segment": give_up_pages,
    "the inotify instances of a user": lambda _: str(libc("inotify_init1", 0)),
    "the timers of a user": timers,
    "run a program": lambda _: run_a_program("/bin/sh"),
    "run a program of its own": lambda _: run_a_program("/tmp/program"),
    "raise its limits": raise_limits,
    "a fork bomb": fork_bomb,
    "a bomb of threads": thread_bomb,
    "fill memory": fill_memory,
    "share memory": lambda megabytes: share_memory(megabytes) if megabytes else denied(),
    "fill memory by mapping": fill_memory_by_mapping,
    "fill the disk": fill_disk,
    "fill the disk with files": fill_disk_with_files,
    "exhaust descriptors": exhaust_descriptors,
}


class Browser(Interface, version="1.0"):
    """Looks at pages."""

    @raises(OriginRefused)
    async def visit(self, method: str, url: str) -> str: ...
    async def streamed(self, url: str) -> str: ...
    async def by_itself(self, host: str, port: int) -> str: ...


class Visitor(Plugin, Browser):
    def __init__(self, http: Http) -> None:
        self.http = http

    async def visit(self, method: str, url: str) -> str:
        response = await (self.http.get(url) if method == "GET" else self.http.request(method, url))
        return f"{response.status} {response.text()}"

    async def streamed(self, url: str) -> str:
        async with opened(self.http, "GET", url) as response:
            return b"".join([bytes(piece) async for piece in response]).decode()

    async def by_itself(self, host: str, port: int) -> str:
        try:
            with socket.create_connection((host, port)):
                return "connected"
        except OSError as error:
            return f"{type(error).__name__}: {error}"
