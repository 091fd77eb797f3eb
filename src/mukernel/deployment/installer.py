"""Installer: from a request to an environment that is whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from ..contract import ContractError, MukernelError, NotFound, Unavailable
from .environment import (
    OWN,
    RUNTIME,
    Environment,
    Hold,
    Installed,
    chosen,
    interpreter,
    missing_files,
    name_place,
    seen_in,
    site_packages,
    size_of,
    write_record,
)
from .lock_file import Locked, LockFile, LockFileUnsound, LockFileUnwritable, Resolution
from .pythons import Python, digest_of, find_python
from .request import Request, distribution_of
from .runtime import NEEDED, Runtime, check_as_it_began, unfulfilled
from .sources import commit_of, source_of, wheel_of
from .store import READ_ONLY, Failure, Store, wheel_in
from .tools import Tools, Uv, Wanted, requirement_line, tools_for
from .wheel import check_wheel, digest, read_name
from .work import CHOSEN_ANEW, ToolFailed, Work

T = TypeVar("T")
COMPILERS = ["Cython>=3.1", "setuptools>=77"]
MEGABYTE = 1 << 20
APART = ("mukernel", *NEEDED)
SOURCES = {"directory": "a directory", "git": "a repository"}  # the kinds of requests that have to be built


@dataclass(frozen=True, slots=True)
class Subject:
    """What one installation has to do with. `wheel`: the file on this machine that was asked for, or was built;
    `wanted`: what is resolved."""

    request: Request
    python: Python
    tools: Tools
    runtime: Runtime
    wanted: Wanted
    distribution: str
    wheel: str | None = None
    source: str = ""  # what names the content of a directory or a repository

    @property
    def lock_key(self) -> tuple[str, str, str]:
        return self.request.use, self.python.minor, self.python.platform


class Installer:
    """Installs into the store in `folder`. `lock_file`: what it obeys and writes; by default in the store itself, where
    there is another for what that does not have, if it can't be written.
    `wheels`: folders in which wheels are looked for, besides what the tools are set up to use. `settings`: the folder
    in which a tool looks for settings of its own, such as an index. `only_wheels`: refuse whatever would have to be
    built, since that runs what its author wrote: then nothing of a package is run while it is installed."""

    def __init__(
        self, folder: str | os.PathLike[str], *, lock_file: str | os.PathLike[str] | None = None,
        wheels: Sequence[str] = (), settings: str | None = None, only_wheels: bool = False,
    ) -> None:  # fmt: skip
        self.store = Store(folder)
        if lock_file is None:
            self.lock_file = LockFile(self.store.folder / "app.lock")
        else:
            spare = self.store.folder / f"read-only-{digest_of(os.path.realpath(lock_file))}.lock"
            self.lock_file = LockFile(lock_file, LockFile(spare))
        self.wheels = tuple(os.path.abspath(each) for each in wheels)
        self.settings, self.only_wheels = settings, only_wheels
        self.tried: set[str] = set()  # folders of wheels of mukernel whose compiling failed just now

    def install(
        self, request: Request, work: Work | None = None, *, upgrade: bool = False, verify: bool = False
    ) -> tuple[Installed, Hold]:
        """The environment of a request, made unless it is there; the hold keeps it from being removed.

        `upgrade`: resolve anew, whatever the lock file says. `verify`: make one anew that lacks files, too, or whose
        mukernel could not be compiled and can be now. Raises NotFound, ContractError or Unavailable, which are
        remembered as the failure of this request; Cancelled. Nothing that was there is changed then.
        """
        work = work or Work()
        try:
            with self.store.locked(work, if_writable=True):
                tools = tools_for(self.store)  # that there are none is no failure of this request
                check_as_it_began()  # nor is this
                try:
                    subject, resolution = self.resolved(request, tools, work, upgrade, verify)
                    lock_file = self.lock_file.taking(resolution)
                    name = environment_name(subject, resolution, is_compiled(self.wheel_folder(subject)))
                    environment = self.environment(name, subject, resolution, work, verify)
                    installed = chosen(environment, self.store.path(name), request, subject.distribution)
                    if self.lock_file.find(*subject.lock_key) != resolution:
                        lock_file.add(resolution)
                except (LockFileUnsound, LockFileUnwritable):  # no failure of this request
                    raise
                except MukernelError as error:
                    self.remember(request, None, str(error))
                    raise
                self.remember(request, name)
                return installed, Hold(self.store.path(name))
        except OSError as error:
            reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
            if error.errno in READ_ONLY and str(error.filename).startswith(f"{self.store.folder}/"):
                reason = f"it is not there as it is wanted, and {self.store.unwritable(error)}"
            raise Unavailable(f"use = {request.use!r} can't be installed: {reason}") from None

    def present(self, request: Request) -> Installed:
        """What was installed for a request, without doing anything for it. Raises NotFound, ContractError."""
        self.check_built(request)
        environment = self.remembered(request)
        if environment is None:
            raise NotFound(f"use = {request.use!r} is not installed; `mukernel install` does it")
        return chosen(environment, self.store.path(environment.name), request, self.distribution(request))

    def check_built(self, request: Request) -> None:
        """Raises ContractError for a source tree where only wheels are wanted."""
        if self.only_wheels and request.kind in SOURCES:
            raise ContractError(
                f"use = {request.use!r}: {SOURCES[request.kind]} is a source tree, and only_wheels refuses to build "
                "one, since that runs what its author wrote; wanted a wheel, or a requirement"
            )

    def is_present(self, request: Request) -> bool:
        return self.remembered(request) is not None

    def remembered(self, request: Request) -> Environment | None:
        """The environment that was made for a request, if it is still there."""
        name = self.store.notes().environments.get(self.note_key(request))
        return self.store.find(name) if name is not None else None

    def keep_locked(self, requests: Iterable[Request], work: Work) -> None:
        """Let the lock file leave out what is none of these any more."""
        with self.store.locked(work, if_writable=True):
            self.lock_file.keep({each.use for each in requests})

    def failure(self, request: Request) -> str | None:
        """Why a request could not be installed the last time; None where it was, or was not tried with the present
        settings."""
        found = self.store.notes().failures.get(self.failure_key(request))
        if found is None or (found.wheels, found.only_wheels) != (self.wheels, self.only_wheels):
            return None
        return found.reason

    def remember(self, request: Request, name: str | None, failure: str = "") -> None:
        notes = self.store.notes()
        notes.failures.pop(self.failure_key(request), None)
        if name is None:
            notes.failures[self.failure_key(request)] = Failure(
                request.whole, request.python, failure, self.wheels, self.only_wheels
            )
        else:
            notes.environments[self.note_key(request)] = name
            if self.lock_file.path.parent != self.store.folder:  # else it is no application file's
                notes.askers[name] = sorted({*notes.askers.get(name, ()), os.path.realpath(self.lock_file.path)})
        if notes != self.store.notes():  # else there is nothing to write, which a full disk would refuse
            try:
                self.store.write_notes(notes)
            except OSError as error:
                if error.errno not in READ_ONLY:  # where it is found again, each time, without them
                    raise

    def note_key(self, request: Request) -> str:
        """By which the environment of a request is remembered, whichever of its plug-ins is meant. Applications that
        share a store may have locked something else each."""
        asked = (request.target, request.reference, request.subdirectory, request.python)
        return "|".join((*asked, os.path.realpath(self.lock_file.path)))

    def failure_key(self, request: Request) -> str:
        """By which a failure is: that may be of the one plug-in that was named, or of none that was."""
        return f"{self.note_key(request)}|{request.entry}"

    @property
    def own(self) -> list[str]:
        """Paths of what changes with every installation, and is no part of a directory in which it lies."""
        folders = (self.store.folder, self.store.environments, self.store.wheels, self.store.tools)
        return [str(each) for each in (self.lock_file.path, *folders)]

    @property
    def hint(self) -> str:
        """What a tool does not know when it says that there is no file which it may take."""
        return " (only_wheels is set: what has no wheel for this Python is not taken)" if self.only_wheels else ""

    # -- one step after the other ---------------------------------------------------------------------------------

    def resolved(
        self, request: Request, tools: Tools, work: Work, upgrade: bool, verify: bool = False
    ) -> tuple[Subject, Resolution]:
        """What is to be installed: as the lock file says, or else found out now."""
        self.check_built(request)
        python = find_python(request.python, tools.command if isinstance(tools, Uv) else None)
        runtime = Runtime(python)
        folder = self.runtime_folder(runtime, tools, work, upgrade or verify)
        wanted = Wanted([], (*self.wheels, folder), self.settings, self.only_wheels)
        subject = Subject(request, python, tools, runtime, wanted, "")
        locked = None if upgrade else self.lock_file.find(*subject.lock_key)
        subject = self.looked_up(subject, locked, work)
        if subject.distribution == "mukernel":
            raise ContractError(
                f"use = {request.use!r}: got mukernel itself, which every environment has in the version of its "
                "kernel; wanted a distribution with a plug-in"
            )
        staying: list[Locked] = []
        if locked is not None and self.holds(subject, locked):
            lacking = unfulfilled({each.name: each.version for each in locked.distributions})
            if not lacking:
                return subject, locked
            work.say(f"what is locked does not fulfil {', '.join(lacking)}, which this mukernel needs: choosing anew")
            names = [distribution_of(each) for each in lacking]
            staying = [each for each in locked.distributions if each.name not in names]
        work.say(f"resolving {request.use} for Python {python.version}, with {tools.name}")
        try:
            found = self.resolution(subject, staying, work)
        except ToolFailed as error:
            raise ToolFailed(f"use = {request.use!r}: {error}{self.hint}") from None
        except ContractError as error:
            raise ContractError(f"use = {request.use!r}: {error}") from None
        kept = [each for each in found if each.name != "mukernel"]
        if subject.distribution not in (each.name for each in kept):
            raise ContractError(
                f"use = {request.use!r}: what stands after ';' excludes Python {python.version} on {python.platform}, "
                "so there is nothing to install; wanted a marker that holds there, or another Python (`python`)"
            )
        if subject.source:  # built here, and so by no other machine into the very same file
            kept = [msgspec.structs.replace(e, hashes=[]) if e.name == subject.distribution else e for e in kept]
        without = [
            each.name for each in kept if not each.hashes and not (subject.source and each.name == subject.distribution)
        ]
        if without:
            raise ContractError(
                f"use = {request.use!r}: no hash is known of {', '.join(without)}; wanted one of each file"
            )
        use, minor, platform = subject.lock_key
        return subject, Resolution(use, minor, platform, subject.distribution, subject.source, kept)

    def resolution(self, subject: Subject, staying: list[Locked], work: Work) -> list[Locked]:
        """What a tool chooses for a subject. `staying`: of what is locked, what is to stay so, by its very hashes, if
        that can be."""
        target = subject.request.target
        if subject.wheel:
            target = f"{subject.distribution} @ {Path(subject.wheel).as_uri()}"
        asked = [target, f"mukernel=={subject.runtime.version}"]
        built = subject.distribution if subject.wheel else ""
        pinned = [f"{each.name}=={each.version}" for each in staying if each.name != built]
        try:
            found = subject.tools.resolve(replace(subject.wanted, requirements=[*asked, *pinned]), subject.python, work)
        except ToolFailed as error:
            if not pinned:
                raise
            work.say(f"choosing all of {subject.request.use} anew, as what is locked can't stay: {error}")
            return subject.tools.resolve(replace(subject.wanted, requirements=asked), subject.python, work)
        known = {(each.name, each.version): each for each in staying}
        return [known.get((each.name, each.version), each) for each in found]

    def looked_up(self, subject: Subject, locked: Resolution | None, work: Work) -> Subject:
        """The subject with what its request names: a distribution of an index, or a file on this machine."""
        request = subject.request
        if request.kind == "requirement":
            return replaced(subject, distribution=distribution_of(request.target))
        source = ""
        if request.kind == "wheel":
            path = request.target
            if not os.path.isfile(path):
                raise NotFound(f"use = {request.use!r}: there is no file {path}")
            check_wheel(path)
            check_platform(path, subject.python, request.use)
        else:
            source = source_of(request, locked.source if locked is not None else "", self.own, work)
            path, source = wheel_of(
                request, source, self.own, subject.python, self.store, subject.tools, subject.wanted, work
            )
        return replaced(subject, wheel=path, source=source, distribution=read_name(path).distribution)

    def holds(self, subject: Subject, locked: Resolution) -> bool:
        """Does what is locked still describe what is asked for? Raises ContractError where a wheel file is another
        one: nobody may put one in its place unnoticed."""
        if subject.request.kind == "wheel":
            assert subject.wheel is not None
            own = next((each for each in locked.distributions if each.name == subject.distribution), None)
            if own is None or digest(subject.wheel) not in own.hashes:
                raise ContractError(
                    f"use = {subject.request.use!r}: the file is another than the one in {self.lock_file.path}; "
                    f"if that is meant, {CHOSEN_ANEW}"
                )
        return locked.source == subject.source

    def runtime_folder(self, runtime: Runtime, tools: Tools, work: Work, anew: bool) -> str:
        """The folder that has the wheel of mukernel for a Python, made unless it is there. `anew`: one that is not
        compiled is, if it can be by now: what kept it from that, such as a network that was gone, may have passed.
        What is there stays until the new one is whole."""
        folder = self.store.wheels / runtime.folder_name
        there = self.store.has_wheel(folder)
        anew = anew and runtime.folder_name not in self.tried and os.access(self.store.wheels, os.W_OK)
        if there and (not anew or is_compiled(folder)):
            return str(folder)
        self.tried.add(runtime.folder_name)
        compiler = None
        if not runtime.fits and os.environ.get("MUKERNEL_EXTENSIONS") != "skip":
            compiler = self.compiler(runtime.python, tools, work)
        if there and compiler is None:
            return str(folder)
        with self.store.making(folder) as unfinished:
            runtime.build(unfinished, work, compiler)
            if there:
                self.store.remove(folder)
        return str(folder)

    def wheel_folder(self, subject: Subject) -> Path:
        """Where the wheel of mukernel for it is."""
        return self.store.wheels / subject.runtime.folder_name

    def compiler(self, python: Python, tools: Tools, work: Work) -> str | None:
        """An interpreter of a kind that has what compiles mukernel; None where that can't be had."""
        folder = self.store.tools / f"cython-{python.identity}"
        try:
            if not folder.exists():
                wanted = Wanted(COMPILERS, self.wheels, self.settings, self.only_wheels)
                with self.store.making(folder) as unfinished:
                    tools.create(unfinished, python, work)
                    found = tools.resolve(wanted, python, work)
                    tools.install(unfinished, python, written(unfinished, found, {}), wanted, work)
        except ToolFailed as error:
            work.say(f"mukernel is not compiled for Python {python.version}, packets serve instead: {error}")
            return None
        return interpreter(str(folder))

    def environment(
        self, name: str, subject: Subject, resolution: Resolution, work: Work, verify: bool
    ) -> Environment:  # fmt: skip
        """The environment of that name, filled unless it is there. Raises Unavailable, too, for a damaged one that
        somebody uses; else it is made anew."""
        found = self.store.find(name)
        if found is not None and not (verify and self.store.damage(name)):
            return found
        if name in self.store.names():
            if not self.store.remove_unused(name):
                raise Unavailable(
                    f"use = {subject.request.use!r}: its environment {self.store.path(name)} is damaged, and is being "
                    "used; stop the plug-in that runs in it, and `mukernel install` makes it anew"
                )
            work.say(f"{name} is damaged, and is made anew")
        count = len(resolution.distributions) + 1
        work.say(f"installing {count} distributions for {subject.request.use}, Python {subject.python.version}")
        ours = wheel_in(self.wheel_folder(subject))
        local = {"mukernel": ours, **({subject.distribution: subject.wheel} if subject.wheel else {})}
        everything = [*resolution.distributions, Locked("mukernel", subject.runtime.version)]
        with self.store.making(self.store.environments / name) as unfinished:
            try:
                subject.tools.create(unfinished, subject.python, work)
                listed = written(unfinished, everything, local)
                subject.tools.install(unfinished, subject.python, listed, subject.wanted, work)
                name_place(unfinished, self.store.path(name))
                check_own_names(unfinished, subject.request.use)
                self.add_runtime(unfinished, subject, [each for each in everything if each.name in APART], local, work)
            except ToolFailed as error:
                raise ToolFailed(f"use = {subject.request.use!r}: {error}{self.hint}") from None
            try:
                packages = site_packages(unfinished, subject.python.library)
                (versions, plugins), lacking = seen_in(packages), sorted(missing_files(unfinished, packages))
            except ContractError as error:
                raise ContractError(f"use = {subject.request.use!r}: {error}") from None
            sources = [os.path.basename(os.path.dirname(subject.wheel))] if subject.source and subject.wheel else []
            made = Environment(
                name, subject.python, subject.runtime.version, versions, plugins, sources, size_of(unfinished),
                lacking, commit_of(subject.source),
            )  # fmt: skip
            chosen(made, unfinished, subject.request, subject.distribution)  # else nothing of it is kept
            write_record(unfinished, made)
        work.say(f"installed {subject.request.use} into {name} ({made.size / MEGABYTE:.1f} MB)")
        return made

    def add_runtime(
        self, folder: str, subject: Subject, needed: list[Locked], local: dict[str, str], work: Work
    ) -> None:  # fmt: skip
        """mukernel once more, where no distribution of the environment can have put a file in place of one of its."""
        target = os.path.join(folder, RUNTIME)
        os.mkdir(target)
        listed = written(target, needed, local)
        subject.tools.install_apart(target, subject.python, listed, subject.wanted, work)

    def distribution(self, request: Request) -> str:
        """The name of the distribution that a request is about, as far as the store knows."""
        if request.kind == "requirement":
            return distribution_of(request.target)
        if request.kind == "wheel":
            return read_name(request.target).distribution
        return next((each.distribution for each in self.lock_file.everything() if each.use == request.use), "")


def written(folder: str, distributions: Sequence[Locked], local: dict[str, str]) -> str:
    """A file of requirements in an environment; returns its path."""
    path = Path(folder, "requirements.txt")
    lines = [requirement_line(each, local.get(each.name)) for each in distributions]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def check_own_names(folder: str, use: str) -> None:
    """Raises ContractError where a distribution of an environment has put something where mukernel has its own."""
    if taken := [name for name in OWN if os.path.lexists(os.path.join(folder, name))]:
        raise ContractError(
            f"use = {use!r}: one of its distributions has files for {', '.join(map(repr, taken))} in the environment, "
            "where mukernel has its own; wanted a version without"
        )


def is_compiled(folder: Path) -> bool:
    """Has the wheel of mukernel in a folder its compiled parts?"""
    return not any(path.name.endswith("-any.whl") for path in folder.iterdir())


def environment_name(subject: Subject, resolution: Resolution, compiled: bool) -> str:
    """A name that stands for the content: equal environments have the same."""
    content = [
        subject.python.identity, subject.runtime.version, compiled, subject.source,
        sorted((each.name, each.version, each.hashes) for each in resolution.distributions),
    ]  # fmt: skip
    own = next((each for each in resolution.distributions if each.name == subject.distribution), None)
    return f"{subject.distribution}-{own.version if own is not None else '0'}-{digest_of(content)}"


def check_platform(path: str, python: Python, use: str) -> None:
    """Raises ContractError where a wheel is plainly for another system, whatever a tool would say of it."""
    tags = read_name(path).tags
    platforms = tags.rpartition("-")[2].split(".")
    machine = python.platform.partition("-")[2]
    if not any(each == "any" or ("linux" in each and each.endswith(machine)) for each in platforms):
        raise ContractError(
            f"use = {use!r}: the wheel is for {tags}, which does not run here; wanted one for "
            f"Python {python.minor} on {python.platform}"
        )


def replaced(subject: Subject, **changes: object) -> Subject:
    return replace(subject, **changes)  # type: ignore[arg-type]
