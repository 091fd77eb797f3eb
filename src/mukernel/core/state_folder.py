"""State folder: where a running application keeps its control socket and its logs, and how others find it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from ..contract import NotFound, Unavailable

LONGEST_SOCKET = 107  # bytes of a Unix socket's path (sun_path)
LONGEST_OWNER = 8192  # bytes: a pid and a path
FILES = frozenset(  # all that is kept in the state folder of an application
    {"control", "logs", "pid", "environments", "wheels", "tools", "lock", "notes.json", "app.lock"}
)


class StateFolder:
    """The folder of one application, of mode 0700. Whoever holds the lock on its file `pid` is the running
    kernel; it says there which process it is, and from which application file, if from one.

    The lock goes with its process however that ends, so a file that a dead kernel left behind means nothing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.lock = -1

    @property
    def socket(self) -> str:
        return str(self.path / "control")

    @property
    def logs(self) -> str:
        return str(self.path / "logs")

    def claim(self, file: str = "") -> None:
        """Become the one that runs here; `file`: from which application file. Raises Unavailable with who does already,
        or what is wrong here."""
        if len(self.socket.encode()) > LONGEST_SOCKET:
            raise Unavailable(f"{self.socket} is too long for a Unix socket; choose a shorter folder with --state")
        make_private(self.path)
        try:
            os.makedirs(self.logs, mode=0o700, exist_ok=True)
            lock = os.open(self.path / "pid", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Unavailable(self.unwritten(error)) from None
        while not locked(lock):
            owner = self.owner()
            if owner is None:  # somebody only looked, as `owner` does, and has let go by now
                continue
            os.close(lock)
            pid, other = owner
            of = f" of {other}" if other else ""
            raise Unavailable(f"it is running already, as process {pid}{of} with its state in {self.path}")
        try:
            os.ftruncate(lock, 0)
            os.write(lock, b"%d\n%s" % (os.getpid(), os.fsencode(placed(file)) if file else b""))
        except OSError as error:
            os.close(lock)
            raise Unavailable(self.unwritten(error)) from None
        self.lock = lock

    def unwritten(self, error: OSError) -> str:
        return f"the state folder {self.path} can't be written: {error.strerror}; choose another with --state"

    def release(self) -> None:
        """Give the folder back; logs stay."""
        if self.lock >= 0:
            os.ftruncate(self.lock, 0)
            os.close(self.lock)
            self.lock = -1

    def pid(self) -> int | None:
        """Of the kernel that runs here; None where none does."""
        owner = self.owner()
        return owner[0] if owner is not None else None

    def owner(self) -> tuple[int, str] | None:
        """The kernel that runs here: its pid, and its application file, as `placed` has it ("": it was started
        without one). None where none runs."""
        try:
            lock = os.open(self.path / "pid", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _, file = os.read(lock, LONGEST_OWNER).partition(b"\n")
            return (int(pid), os.fsdecode(file)) if pid else None  # else it is just coming or going
        finally:
            os.close(lock)
        return None


def placed(file: str) -> str:
    """The path of an application file, with no symbolic link in that of its folder. A file that is one is another than
    that which it leads to: the sources beside it are others, too."""
    folder, name = os.path.split(os.path.abspath(file))
    return os.path.join(os.path.realpath(folder), name)


def locked(file: int) -> bool:
    """Take the lock on a file, for as long as it is open, unless somebody holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_private(path: Path) -> None:
    """Make a folder that only we may enter. Raises Unavailable where it can't be made, where somebody else owns what
    is there, and where others may enter it: a folder that is in use is not closed to them behind its owner's back."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise Unavailable(
            f"the state folder {path} can't be made: {error.strerror}; choose another with --state"
        ) from None
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Unavailable(
            f"the state folder {path} is not a folder of ours (owner {found.st_uid}); choose another with --state"
        )
    mode = stat.S_IMODE(found.st_mode)
    if not mode & 0o077:
        return
    if not unused_or_ours(path):
        raise Unavailable(
            f"the state folder {path} exists, holds other files, and has mode {mode:04o}; wanted one "
            f"that only you may enter: `chmod 700 {path}`, or choose another with --state"
        )
    os.chmod(path, 0o700)


def unused_or_ours(path: Path) -> bool:
    """Is there nothing in a folder but what a kernel left there?"""
    names = set(os.listdir(path))
    return not names or ("pid" in names and names <= FILES)


def base() -> Path:
    """Where the folders of this user's applications lie."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime, "mukernel") if os.path.isdir(runtime) else Path(f"/tmp/mukernel-{os.getuid()}")


def state_folder(name: str) -> StateFolder:
    """The folder of an application by its name, for who is to run it: what lies above it is ours alone,
    too."""
    make_private(base())
    return StateFolder(base() / name)


def running_applications() -> dict[str, StateFolder]:
    """Every application of this user that runs now, by name."""
    try:
        if os.lstat(base()).st_uid != os.getuid():
            return {}
        names = sorted(os.listdir(base()))
    except OSError:
        return {}
    folders = {name: StateFolder(base() / name) for name in names}
    return {name: folder for name, folder in folders.items() if folder.pid() is not None}


def find_running(name: str | None, path: str | None, here: str | None = None, alone: bool = True) -> StateFolder:
    """The running application that is meant: by its state folder, by its name, by that of the one whose file lies
    `here`, else the only one, unless that does not do (`alone`). Raises NotFound that says what there is."""
    if path is not None:
        folder = StateFolder(path)
        if folder.pid() is None:
            raise NotFound(f"no kernel has its state in {folder.path}")
        return folder
    running = running_applications()
    names = ", ".join(running)
    others = f"; running: {names}" if running else ""
    if name is not None:
        if name not in running:
            raise NotFound(f"no application named {name!r} is running{others}")
        return running[name]
    if here is not None:
        if here not in running:
            say = ", which --app NAME names" if running else ""
            raise NotFound(
                f"{here}, whose app.toml lies here, is not running{others}{say}; `mukernel run` starts it, and --state "
                "DIR names the state folder, where it was given one"
            )
        return running[here]
    if not running:
        raise NotFound("no application is running; `mukernel run app.toml` starts one")
    if len(running) > 1:
        raise NotFound(f"several applications are running: {names}; say which with --app NAME")
    if not alone:
        raise NotFound(f"no app.toml lies here, and no application was named; running: {names}; say so with --app NAME")
    return next(iter(running.values()))
