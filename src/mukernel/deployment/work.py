"""Work: one installation that is under way. It says how far it is, runs what it needs, and can be cancelled."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from ..contract import Unavailable
from . import guardian

LONGEST_REASON = 600  # characters of what a tool says
WAIT = 0.1  # seconds between two looks at what is waited for
CHOSEN_ANEW = (
    "`mukernel install --upgrade` locks the new one, or, where it is only swapped to, "
    "`mukernel swap NAME USE --upgrade`"
)
LEFT_OUT = (  # what would lead a tool, or the Python that it starts, somewhere else, or to something else
    "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX",
    "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV", "PIP_PYTHON", "PIP_PLATFORM",
    "PIP_PYTHON_VERSION", "PIP_IMPLEMENTATION", "PIP_ABI", "PIP_NO_DEPS", "PIP_REQUIRE_HASHES", "PIP_DRY_RUN",
    "PIP_REPORT", "PIP_REQUIREMENT", "PIP_EDITABLE", "PIP_GROUP",
    "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_COMPILE_BYTECODE", "UV_VENV_SEED",
    "UV_OVERRIDE", "UV_EXCLUDE",
    "COLUMNS",  # the lines of what uv says would be broken there, and not be found
    # Of git, which says in a hook which repository it is in: all of `git rev-parse --local-env-vars` but settings.
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_OBJECT_DIRECTORY", "GIT_DIR", "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE", "GIT_GRAFT_FILE", "GIT_INDEX_FILE", "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX", "GIT_INTERNAL_SUPER_PREFIX", "GIT_SHALLOW_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE",
    "GIT_QUARANTINE_PATH",
)  # fmt: skip
UNREACHABLE = re.compile(
    r"failed to fetch|connection refused|dns error|name resolution|newconnectionerror|max retries|network is "
    r"unreachable|network was disabled|could not resolve host|couldn't connect to server|failed to connect|connection "
    r"timed out|request failed after",
    re.IGNORECASE,
)
UNKNOWN_HOST = re.compile(r"host key verification failed", re.IGNORECASE)
NOT_ALLOWED = re.compile(
    r"permission denied \(|authentication failed|terminal prompts disabled|/dev/tty", re.IGNORECASE
)
LOCAL = re.compile(r"transport 'file' not allowed\s+fatal: clone of ('[^']*')")
OTHER = re.compile(r"hash mismatch|do not match the hashes", re.IGNORECASE)
# The frames of a traceback, in what a tool itself says of an error that it has not foreseen.
FRAMES = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n)+", re.MULTILINE)
RAISED = re.compile(FRAMES.pattern + r"(\S.*)", re.MULTILINE)
# What a build backend has said: as uv shows it, as pip does, and as `uv build` passes it on before its own error.
BACKEND = re.compile(
    r"\[std(?:out|err)\]\n(.*?)(?:^hint:|\Z)|\[\d+ lines? of output\]\n(.*?)\[end of output\]"
    r"|\A(?:Building wheel\.\.\.\n)?+(.+?)^error: Failed to build[^\n]*\n[^\n]*uild backend",
    re.DOTALL | re.MULTILINE,
)
FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


class Cancelled(Exception):
    """Whoever asked for this work does not want it any more."""


class ToolFailed(Unavailable):
    """A tool that an installation needs has failed; the message is what it said, shortened."""


class Work:
    """`say`: called with a line of text at each step, in whatever thread the work is done."""

    def __init__(self, say: Callable[[str], object] = lambda text: None) -> None:
        self.say = say
        self._cancelled = threading.Event()
        self._running: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """End the work soon: what it runs is killed, and it raises Cancelled."""
        with self._lock:
            self._cancelled.set()
            if self._running is not None:
                _kill(self._running)

    def check(self) -> None:
        """Raises Cancelled once it is."""
        if self._cancelled.is_set():
            raise Cancelled

    def pause(self) -> None:
        """Let a moment pass, for what is waited for to come about. Raises Cancelled."""
        self._cancelled.wait(WAIT)
        self.check()

    def run(self, command: Sequence[str], what: str, *, folder: str | None = None, given: str = "") -> str:
        """Run a tool; returns what it printed. `given`: its standard input. Raises ToolFailed that begins with
        `what`, or Cancelled. It ends with this process, or where the
        work is cancelled, and so does all that it has started."""
        guarded = [sys.executable, "-I", "-S", guardian.__file__, str(os.getpid()), *command]
        with self._lock:
            self.check()
            self._running = subprocess.Popen(
                guarded, cwd=folder, env=environment_variables(), text=True, errors="replace",
                start_new_session=True,  # without a terminal: ssh would ask there, and wait for ever in the background
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        running = self._running
        try:
            output, errors = running.communicate(given)
        finally:
            with self._lock:
                self._running = None
            if running.returncode is None:
                _kill(running)
                running.wait()
        self.check()
        if running.returncode:
            raise ToolFailed(explained(command[0], what, errors or output, running.returncode))
        return output


def _kill(running: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)


def environment_variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, but for what is about our own environment. Nothing asks, as nobody may be there to answer."""
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    silent = {"GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never", "SSH_ASKPASS": ""}  # ssh: before 8.4, too
    return {**kept, **silent, "NO_COLOR": "1", **(more or {})}


def explained(tool: str, what: str, errors: str, status: int) -> str:
    """What a tool said when it failed, in one line."""
    if FULL.search(errors):
        return f"{what}: the disk is full"
    if OTHER.search(errors):
        another = f"a file is another than the one that is locked ({shortened(errors)})"
        return f"{what}: {another}; if that is meant, {CHOSEN_ANEW}"
    if found := LOCAL.search(errors):
        return (
            f"{what}: got the submodule {found[1]}, a path of this machine, from which git takes none; wanted an "
            "address such as https://..., or, if you trust it, `git config --global protocol.file.allow always`"
        )
    said = (ending(errors) if tool == "git" else backend_reason(errors) or shortened(errors)) or (
        f"ended by signal {-status}" if status < 0 else f"exit status {status}"
    )
    if tool == "git" and UNKNOWN_HOST.search(errors):
        return (
            f"{what}: ssh does not know the key of that host, or knows another ({said}); wanted the right one in "
            "~/.ssh/known_hosts: `ssh HOST`, once and by hand, adds it"
        )
    if tool == "git" and NOT_ALLOWED.search(errors):
        return (
            f"{what}: the repository was not opened, and nobody is asked for a password or a passphrase ({said}); "
            "`ssh-add` gives ssh-agent the key, or, for https, set a credential helper of git"
        )
    if UNREACHABLE.search(errors) and tool == "git":
        return f"{what}: the repository could not be reached ({said}); see to its address, and to the network"
    if UNREACHABLE.search(errors):
        return (
            f"{what}: no package index could be reached ({said}); see to the network, or name a folder of wheels: "
            "wheels = ['FOLDER'] of [app]"
        )
    return f"{what}: {said}"


def backend_reason(text: str) -> str:
    """The last lines of what a build backend said, as one; "" if there is none."""
    said = ["".join(part or "" for part in found) for found in BACKEND.findall(text)]
    return ending(said[-1]) if said else ""


def shortened(text: str) -> str:
    """The lines of a tool's output that say what was wrong, as one: from its first error on."""
    lines = lines_of(FRAMES.sub("", text))
    wrong = next((number for number, line in enumerate(lines) if re.match(r"(ERROR|error|fatal)\b", line)), 0)
    said = joined(lines[wrong:])
    return said if len(said) <= LONGEST_REASON else said[: LONGEST_REASON - 3] + "..."


def ending(text: str) -> str:
    """The last lines of the output of a tool which runs another that says what was wrong, as one."""
    said = joined(lines_of(text))
    if len(said) <= LONGEST_REASON:
        return said
    said = said[3 - LONGEST_REASON :]
    # What was raised and what was printed come by two pipes, and may be shown the other way round.
    raised = [joined(lines_of(each)) for each in RAISED.findall(text)][-1:]
    return "..." + next((each[3 - LONGEST_REASON :] for each in raised if each not in said), said)


def lines_of(text: str) -> list[str]:
    lines = [re.sub(r"\x1b\[[0-9;]*m|[×╰─▶│├]+|^\s*[\^~]+$", " ", line).strip() for line in text.splitlines()]
    return [
        line for line in lines if line and not re.match(r"(hint|WARNING|\[notice\]|Using Python|Resolved \d)", line)
    ]


def joined(lines: Sequence[str]) -> str:
    return re.sub(r"\s+", " ", " ".join(re.sub(r"^((ERROR|error|cause|fatal): )+", "", line) for line in lines))
