"""Tools: what resolves requirements and fills environments: uv, or venv and pip where it is missing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ..contract import ContractError, Unavailable
from .environment import interpreter, site_packages
from .lock_file import Locked
from .pythons import Python
from .request import normalised
from .store import Store
from .wheel import digest, read_name
from .work import ToolFailed, Work

SETTING = "MUKERNEL_INSTALLER"
# pip, kept from starting any other program, and so from building anything: `--only-binary` does not keep it from what
# is named by a direct reference, "NAME @ ADDRESS". What it starts only to describe itself to an index, it does without.
ALONE = """
import runpy, sys
def refuse(event, given):
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"):
        where = event == "subprocess.Popen" and given[2] or given[0]
        raise PermissionError(f"what is no wheel would have to be built ({where})")
sys.addaudithook(refuse)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be resolved. `requirements`: as pip reads them; `wheels`: folders in which wheels are looked for, too;
    `folder`: in which a tool finds its own settings; `only_wheels`: nothing is built, as what is built is run."""

    requirements: Sequence[str]
    wheels: Sequence[str]
    folder: str | None
    only_wheels: bool = False


class Tools(ABC):
    """What an installation does with an interpreter. Each raises ToolFailed or Cancelled."""

    name: str

    @abstractmethod
    def create(self, folder: str, python: Python, work: Work) -> None:
        """An empty environment in `folder`."""

    @abstractmethod
    def resolve(self, wanted: Wanted, python: Python, work: Work) -> list[Locked]:
        """The distributions that fulfil the requirements, and each other's; every file by its hash."""

    @abstractmethod
    def install(self, folder: str, python: Python, requirements: str, wanted: Wanted, work: Work) -> None:
        """Put exactly these into an environment; `requirements` names each with its hashes. Nothing of a wheel is
        run."""

    @abstractmethod
    def install_apart(self, target: str, python: Python, requirements: str, wanted: Wanted, work: Work) -> None:
        """The same into a folder that is no environment."""

    @abstractmethod
    def build(self, source: str, target: str, python: Python, wanted: Wanted, work: Work) -> None:
        """Make a wheel of a source tree, in folder `target`."""


class Uv(Tools):
    """uv, which is fast and shares the files of equal distributions."""

    name = "uv"

    def __init__(self, command: str) -> None:
        self.command = command

    def create(self, folder: str, python: Python, work: Work) -> None:
        more = ["--no-project", "--relocatable", "--allow-existing", "--quiet"]
        work.run([self.command, "venv", "--python", python.executable, *more, folder], "no environment can be made")

    def resolve(self, wanted: Wanted, python: Python, work: Work) -> list[Locked]:
        more = ["--generate-hashes", "--no-header", "--no-annotate", "--no-progress", "--python", python.executable]
        given = "\n".join(wanted.requirements)
        command = [self.command, "pip", "compile", "-", *more, *found_in(wanted)]
        return read_requirements(work.run(command, "it can't be resolved", folder=wanted.folder, given=given), wanted)

    def install(self, folder: str, python: Python, requirements: str, wanted: Wanted, work: Work) -> None:
        self.fill(["--python", interpreter(folder)], requirements, wanted, work)
        self.compile(site_packages(folder, python.library), python, work)

    def install_apart(self, target: str, python: Python, requirements: str, wanted: Wanted, work: Work) -> None:
        self.fill(["--python", python.executable, "--target", target], requirements, wanted, work)
        self.compile(target, python, work)

    def fill(self, where: list[str], requirements: str, wanted: Wanted, work: Work) -> None:
        more = ["--no-deps", "--require-hashes", "--no-compile-bytecode", "--no-progress", "-r", requirements]
        command = [self.command, "pip", "install", *where, *more]
        work.run([*command, *found_in(wanted)], "it can't be installed", folder=wanted.folder)

    def compile(self, folder: str, python: Python, work: Work) -> None:
        """Not by uv, which starts the environment's own interpreter for it: that would run what is in a .pth file."""
        with contextlib.suppress(ToolFailed):  # files that are no Python of this version: they are not imported
            work.run([python.executable, "-I", "-S", "-m", "compileall", "-q", "-j", "0", folder], "not compiled")

    def build(self, source: str, target: str, python: Python, wanted: Wanted, work: Work) -> None:
        more = ["--wheel", "--out-dir", target, "--python", python.executable, "--no-progress"]
        work.run(
            [self.command, "build", *more, *found_in(wanted), source],
            "no wheel of it can be built",
            folder=wanted.folder,
        )


class Pip(Tools):
    """venv and pip. pip runs in an environment of its own, one for each interpreter, made when it is first needed."""

    name = "pip"

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(self, folder: str, python: Python, work: Work) -> None:
        work.run([python.executable, "-P", "-m", "venv", "--without-pip", folder], "no environment can be made")

    def pip(self, python: Python, work: Work, *more: str, alone: bool = False) -> list[str]:
        """The command that runs pip under an interpreter. `alone`: it can start no other program."""
        folder = self.store.tools / f"pip-{python.identity}"
        if not folder.exists():
            work.say(f"setting up pip for Python {python.version}")
            with self.store.making(folder) as unfinished:
                self.create(unfinished, python, work)
                # By itself it says why it fails; venv would only say that it did.
                work.run([interpreter(unfinished), "-I", "-m", "ensurepip", "--default-pip"], "pip can't be set up")
        quiet = ["--no-input", "--disable-pip-version-check", "--quiet"]
        asked = ["-c", ALONE] if alone else ["-m", "pip"]
        return [interpreter(str(folder)), "-P", *asked, *quiet, *more]  # nothing of the folder that it is called in

    def resolve(self, wanted: Wanted, python: Python, work: Work) -> list[Locked]:
        with self.store.scratch() as folder:
            report, requirements = os.path.join(folder, "report.json"), os.path.join(folder, "requirements.txt")
            Path(requirements).write_text("\n".join(wanted.requirements), encoding="utf-8")
            more = ["install", "--dry-run", "--ignore-installed", "--report", report, "-r", requirements]
            command = [*self.pip(python, work, alone=wanted.only_wheels), *more, *found_in(wanted)]
            work.run(command, "it can't be resolved", folder=wanted.folder)
            return read_report(Path(report).read_text(encoding="utf-8"), wanted)

    def install(self, folder: str, python: Python, requirements: str, wanted: Wanted, work: Work) -> None:
        self.fill(self.pip(python, work, "--python", interpreter(folder), "install"), requirements, wanted, work)

    def install_apart(self, target: str, python: Python, requirements: str, wanted: Wanted, work: Work) -> None:
        self.fill(self.pip(python, work, "install", "--target", target), requirements, wanted, work)

    def fill(self, command: list[str], requirements: str, wanted: Wanted, work: Work) -> None:
        more = ["--no-deps", "--require-hashes", "--no-warn-script-location", "-r", requirements]
        work.run([*command, *more, *found_in(wanted)], "it can't be installed", folder=wanted.folder)

    def build(self, source: str, target: str, python: Python, wanted: Wanted, work: Work) -> None:
        command = [*self.pip(python, work), "wheel", "--no-deps", "--wheel-dir", target]
        work.run([*command, *found_in(wanted), source], "no wheel of it can be built", folder=wanted.folder)


def found_in(wanted: Wanted) -> list[str]:
    """Options of either tool: which files it may take. Folders as addresses: in a path uv takes " #" for a comment."""
    folders = [argument for folder in wanted.wheels for argument in ("--find-links", Path(folder).as_uri())]
    return [*folders, *(["--only-binary", ":all:"] if wanted.only_wheels else [])]


def tools_for(store: Store) -> Tools:
    """uv where there is one, else pip; MUKERNEL_INSTALLER says which. Raises ContractError, Unavailable."""
    wanted = os.environ.get(SETTING, "")
    if wanted not in ("", "uv", "pip"):
        raise ContractError(f"{SETTING}: got {wanted!r}, wanted 'uv' or 'pip'")
    command = None if wanted == "pip" else find_uv()
    if command is None and wanted == "uv":
        raise Unavailable(f"{SETTING}: got 'uv', which is not there; `pip install 'mukernel[environments]'` brings it")
    return Pip(store) if command is None else Uv(command)


def find_uv() -> str | None:
    """The command: beside our own interpreter, as the extra installs it, or on PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "uv")
    return beside if os.access(beside, os.X_OK) else shutil.which("uv")


def read_requirements(text: str, wanted: Wanted) -> list[Locked]:
    """What `uv pip compile` prints: "name==version" or "name @ file://...", each with its hashes."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if not words or words[0].startswith(("#", "-")):
            continue
        hashes = sorted(word.removeprefix("--hash=") for word in words if word.startswith("--hash="))
        name, _, version = words[0].partition("==")
        name = normalised(re.sub(r"\[.*\]", "", name))
        if words[1:2] == ["@"]:
            check_direct(name, words[2], wanted)
            version = read_name(unquote(words[2].partition("#")[0])).version
        found.append(Locked(name, version, hashes))
    return found


def read_report(text: str, wanted: Wanted) -> list[Locked]:
    """What `pip install --report` writes."""
    found = []
    for each in json.loads(text)["install"]:
        about = each["metadata"]
        name = normalised(about["name"])
        if each["is_direct"]:
            check_direct(name, each["download_info"]["url"], wanted)
        archive = each["download_info"].get("archive_info", {})
        algorithm, _, value = archive.get("hash", "").partition("=")  # all that pip before 23.1 writes
        hashes = {algorithm: value, **archive.get("hashes", {})}
        if "sha256" not in hashes:
            raise ContractError(f"{name} comes without a hash of its file; wanted one that has it")
        found.append(Locked(name, about["version"], [f"sha256:{hashes['sha256']}"]))
    return sorted(found, key=lambda each: each.name)


def check_direct(name: str, address: str, wanted: Wanted) -> None:
    """Raises ContractError for what is named by its address, unless it is what was asked for: a lock file, which names
    no places, could not tell where it is from."""
    if not any(normalised(each.partition(" @ ")[0]) == name for each in wanted.requirements if " @ " in each):
        raise ContractError(
            f"it depends on '{name} @ {address}', a direct reference, which can't be locked; wanted a version, such as "
            f"'{name}==1.0', in an index or in a folder of wheels"
        )


def requirement_line(locked: Locked, path: str | None) -> str:
    """One line for an installer. `path`: of the wheel, where it is on this machine."""
    if path is not None:
        return f"{locked.name} @ {Path(path).as_uri()} --hash={digest(path)}"
    return " ".join([f"{locked.name}=={locked.version}", *(f"--hash={value}" for value in locked.hashes)])
