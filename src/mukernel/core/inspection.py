"""Inspection: what plug-in classes serve, need and take, found out in a process that is thrown away.

So the kernel's process imports no plug-in that is to run elsewhere, and a class that can't be imported, or
that ends the process that imports it, or never lets it go on, harms nobody. One that is to run in a sandbox is looked
at in such a sandbox, alone: its author's code runs as soon as it is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import sys
import traceback as tracebacks
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, NoReturn

import msgspec

from ..contract import ContractError, Description, MukernelError, RemoteError
from ..deployment.environment import imported_apart, interpreter, made_anew, read_environment, see_packages
from ..deployment.work import environment_variables
from ..kernel.process import PR_SET_PDEATHSIG, Limits, prctl
from ..sandbox.enclosure import READY, in_enclosure, scrubbed_environment
from ..sandbox.policy import Policy, Sandbox
from ..transports.descriptors import close_all
from .fork_servers import imported_from
from .import_output import ImportOutput
from .imported_for_plugins import this_process_is_of_plugins
from .injection import Setting, checked_configuration, read_constructor
from .instance import checked_grant_rights, checked_grant_scopes, checked_interfaces, one_replica
from .loader import load_class, source_of
from .messages import Source
from .plain import plugin_class
from .quantity import duration_text, size_text
from .sandboxed import LONGEST_POLICY, LONGEST_REPORT, policy_for, written
from .sources import sources_of

LIMIT = 30.0  # seconds that one class has for being imported and read; its `hang`, where that is more
LONGEST_LINE = 1 << 26  # bytes of what one class says of itself
SHOWN_FRAMES = 3  # of a traceback, in a problem
FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+), in .*\n(?P<code>(?:    .*\n)*)', re.MULTILINE)


class Needed(msgspec.Struct, frozen=True):
    """A constructor parameter that is an interface."""

    parameter: str
    interface: Description
    required: bool


class Inspected(msgspec.Struct):
    """What one class says of itself. `rights`: those in grants that it tells apart; `scopes`: what scopes are.
    `one_replica`: it can't have several. `files`: the sources under the application's folder that it is made of, and
    those that it would be if they were there."""

    name: str
    interfaces: list[Description] = []
    needs: list[Needed] = []
    settings: list[str] = []
    rights: list[str] = []
    scopes: str = ""
    one_replica: bool = False
    files: list[str] = []
    problems: list[str] = []

    @property
    def unreadable(self) -> bool:
        """So that it may serve anything."""
        return bool(self.problems) and not self.interfaces


class Subject(msgspec.Struct):
    """One class to look at, with the configuration that it is to get. `importing`: False where only its files are
    asked for."""

    name: str
    source: Source
    config: dict[str, Any]
    folder: str
    importing: bool = True


async def inspect_plugins(
    uses: Mapping[str, tuple[str | Source, dict[str, Any]]],
    folder: str,
    label: str = "app.toml",
    hangs: Mapping[str, float] | None = None,
    boxes: Mapping[str, tuple[Sandbox, Limits]] | None = None,
    importing: bool = True,
) -> dict[str, Inspected]:
    """For each name, what its (use, configuration) is. Never raises for a plug-in: `problems` says what is
    wrong with it. `hangs`: the seconds after which each counts as hanging; LIMIT where that is less. `boxes`: the
    sandboxes of those that are to have one. `importing`: False where it can't be imported: then only `files` is found
    out, as all that may be why."""
    found: dict[str, Inspected] = {}
    subjects = []
    for name, (use, config) in uses.items():
        try:
            subjects.append(Subject(name, source_of(use, folder), config, folder, importing))
        except MukernelError as error:
            found[name] = Inspected(name, problems=[str(error)])
    limits = {name: max(LIMIT, (hangs or {}).get(name, 0.0)) for name in uses}
    boxes = boxes or {}
    free = [each for each in subjects if each.name not in boxes]
    groups = [[each] for each in subjects if each.name in boxes]
    for environment in dict.fromkeys(each.source.environment for each in free):
        groups.append([each for each in free if each.source.environment == environment])
    for waiting in groups:
        while waiting:  # once, unless some class takes the process with it, or keeps it
            seen, how = await _inspect(waiting, limits, boxes.get(waiting[0].name))
            found.update(seen)
            left = [each for each in waiting if each.name not in seen]
            if left:
                problem = f"use: importing {left[0].source.module} {how}"
                found[left[0].name] = Inspected(left[0].name, problems=[problem])
            waiting = left[1:]
    for each in found.values():
        each.problems = [
            f"{label}: plugins.{each.name}." + "\n  ".join(problem.splitlines()) for problem in each.problems
        ]
    return {name: found[name] for name in uses}


async def _inspect(
    subjects: Sequence[Subject], limits: Mapping[str, float], box: tuple[Sandbox, Limits] | None
) -> tuple[dict[str, Inspected], str]:
    """What the classes of one environment ("": the kernel's own) say, up to the first that says nothing, and what
    became of that one. `box`: the sandbox that they are looked at in, if any."""
    environment = subjects[0].source.environment
    given, kept = list[int](), list[int]()
    printed = ImportOutput(asyncio.get_running_loop(), ", ".join(each.name for each in subjects))
    try:
        if box is not None:
            imported = imported_from(environment) if environment else sys.path
            given.append(written(policy_for(*box, subjects[0].source, imported)))
            report, reports = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            kept.append(report)
            given.append(reports)
        python, variables = interpreted_by(environment, box is not None)
        process = await asyncio.create_subprocess_exec(
            *python, "-P", "-m", "mukernel.core.inspection", *map(str, given), pass_fds=given,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE,
            stderr=printed.end,
            process_group=0,  # Ctrl-C is for us: we end it
            env=variables,
        )  # fmt: skip
        close_all(given)
        given.clear()
        printed.handed_over()
        return await _heard(process, subjects, limits, kept)
    except MukernelError as error:
        return {}, f"was not tried: {error}"
    except OSError as error:
        return {}, f"was not tried: {error}{made_anew(environment)}"
    finally:
        close_all([*given, *kept])
        printed.close()


def interpreted_by(environment: str, boxed: bool) -> tuple[list[str], dict[str, str]]:
    """The interpreter, and its variables."""
    if environment and not boxed:
        return [interpreter(environment)], environment_variables({"VIRTUAL_ENV": environment})
    if environment:
        python = read_environment(environment).python
        path = os.pathsep.join(imported_apart(environment, python))
        return [python.executable, "-S"], {**scrubbed_environment(), "PYTHONPATH": path}
    path = os.pathsep.join(each for each in sys.path if each)
    return [sys.executable], {**(scrubbed_environment() if boxed else os.environ), "PYTHONPATH": path}


def not_enclosed(reports: Sequence[int]) -> str:
    """Why a process that has ended had no sandbox; "" where it had one, or was to have none."""
    for report in reports:
        with contextlib.suppress(BlockingIOError):  # it said nothing
            words = os.read(report, LONGEST_REPORT)
            return "" if words == READY else words.decode(errors="replace")
    return ""


async def _heard(
    process: asyncio.subprocess.Process,
    subjects: Sequence[Subject],
    limits: Mapping[str, float],
    reports: Sequence[int],
) -> tuple[dict[str, Inspected], str]:
    assert process.stdin is not None and process.stdout is not None
    seen: dict[str, Inspected] = {}
    try:
        process.stdin.write(msgspec.msgpack.encode(subjects))
        process.stdin.write_eof()
        for subject in subjects:
            async with asyncio.timeout(limits[subject.name]):
                try:
                    line = await process.stdout.readline()
                except ValueError:
                    return seen, f"said more than {LONGEST_LINE:,} bytes of itself"
                if not line.endswith(b"\n"):
                    code = await process.wait()
                    if why := not_enclosed(reports):
                        return seen, f"was not tried: its sandbox could not be set up: {why}"
                    how = f"signal {-code}" if code < 0 else f"exit status {code}"
                    return seen, f"ended the process that did it ({how}){made_anew(subject.source.environment)}"
                if reports:  # in a sandbox, whose outer process hands on what was printed, and ends when it has
                    await process.wait()
            try:
                seen[subject.name] = msgspec.json.decode(line, type=Inspected)
            except Exception as error:  # what was imported has written there, too
                return seen, f"wrote to what its process says of it, which can't be read then: {error}"
    except TimeoutError:
        limit = duration_text(limits[subject.name])
        return seen, f"did not return within {limit}; one that has to take longer wants a longer restart.hang"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what the imports started
        # What they have started apart may hold the pipes, and live long: who waits for the process waits for them, too.
        for pipe in (0, 1):
            process._transport.get_pipe_transport(pipe).close()  # type: ignore[attr-defined]  # there is no public name
        await process.wait()
    return seen, ""


# -- in the process that is thrown away ----------------------------------------------------------------------


def main() -> None:
    """Look at all, in the sandbox that the arguments name by its descriptors, if any: that of its policy, and that
    which takes why it could not be set up."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # an import that never returns does not outlive who asked
    this_process_is_of_plugins()
    results = os.dup(1)
    os.dup2(2, 1)  # what plug-ins print as they are imported is no result
    if len(sys.argv) > 1:
        policy, report = map(int, sys.argv[1:])
        wanted = Policy.decode(os.pread(policy, LONGEST_POLICY, 0))
        in_enclosure(wanted, [results], report, lambda: look_at_all(results))
    look_at_all(results)


def look_at_all(results: int) -> NoReturn:
    """Read subjects from standard input, write one line of JSON for each. What an import forks has no part in that: it
    would answer, too, or keep whoever reads waiting where this process crashes."""
    own = os.getpid()
    os.register_at_fork(after_in_child=partial(close_all, [results]))
    subjects = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[Subject])
    if subjects[0].source.environment and len(sys.argv) > 1:  # in a sandbox, where nothing of it was seen yet
        see_packages(subjects[0].source.environment)
    try:
        with open(results, "wb") as output:
            for subject in subjects:
                seen = look_at(subject)
                if os.getpid() != own:  # its import has forked; that descriptor may be a file of the plug-in's by now
                    os._exit(0)
                _write(output, seen)
            sys.stdout.flush()
    except OSError:  # what was imported has closed it
        os._exit(1)
    os._exit(0)  # whatever threads the imports started


def _write(output: BinaryIO, inspected: Inspected) -> None:
    output.write(msgspec.json.encode(inspected) + b"\n")
    output.flush()


def look_at(subject: Subject) -> Inspected:
    """Import one class and read it; or only find its files."""
    seen = Inspected(subject.name)
    if not subject.importing:
        seen.files = sources_of(subject.source, None, subject.folder)
        return seen
    try:
        kind = plugin_class(load_class(subject.source), subject.source.only)
    except MukernelError as error:
        seen.problems.append(f"use: {error}")
        return seen
    except BaseException as error:  # a module may even exit
        seen.problems.append(f"use: importing {subject.source.module} raised {explained(error, subject.folder)}")
        return seen
    if home := sys.modules.get(kind.__module__):
        seen.files = sources_of(subject.source, home, subject.folder)
    try:
        seen.interfaces = [each.__contract__.describe() for each in checked_interfaces(kind)]
        seen.rights, seen.scopes = checked_grant_rights(kind), checked_grant_scopes(kind)
        seen.one_replica = one_replica(kind)
    except ContractError as error:
        seen.problems.append(f"use: {error}")
    except Exception as error:  # of a declaration that nobody foresaw: it is this plug-in's problem, and no other's
        seen.problems.append(f"use: reading its interfaces raised {explained(error, subject.folder)}")
    try:
        needs, settings = read_constructor(kind)
        seen.needs = [Needed(n.parameter, n.interface.__contract__.describe(), n.required) for n in needs]
    except ContractError as error:
        seen.problems.append(f"use: {error}")
        return seen
    except Exception as error:
        seen.problems.append(f"use: reading its constructor raised {explained(error, subject.folder)}")
        return seen
    seen.settings = [setting_text(each) for each in settings]
    seen.problems += misfits(kind, subject, settings)
    return seen


def misfits(kind: type, subject: Subject, settings: list[Setting]) -> list[str]:
    """What of the configuration does not fit the constructor, one line each."""
    known = {each.name: [each] for each in settings}
    lines = []
    for key in {**subject.config, **known}:
        given = {key: subject.config[key]} if key in subject.config else {}
        try:
            checked_configuration(kind, subject.name, known.get(key, settings if given else []), given)
        except ContractError as error:
            lines.append(str(error).removeprefix(f"plug-in {subject.name!r}: "))
        except Exception as error:  # such as of a type that nothing can be converted to
            lines.append(f"config.{key}: checking it raised {explained(error, subject.folder)}")
    if lines or not hasattr(kind, "config_problems"):
        return lines
    try:
        config = checked_configuration(kind, subject.name, settings, subject.config)
        return [f"config.{each}" for each in kind.config_problems(**config)]
    except Exception as error:
        return [f"config: checking it raised {explained(error, subject.folder)}"]


def setting_text(setting: Setting) -> str:
    """A constructor parameter as its author wrote it: "path: str = 'catalog.db'"."""
    kind = getattr(setting.annotation, "__name__", None) or str(setting.annotation)
    return f"{setting.name}: {kind}" + ("" if setting.required else f" = {setting.default!r}")


def explained(error: BaseException, folder: str) -> str:
    """An exception with the end of its traceback, without the frames of Python's import machinery and our
    own."""
    if isinstance(error, RemoteError) and error.traceback:
        return explained_text(error.traceback, folder)
    frames = [(each.filename, each.lineno, each.line) for each in tracebacks.extract_tb(error.__traceback__)]
    text = "".join(tracebacks.format_exception_only(error)).strip()
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if isinstance(error, MemoryError) and limit != resource.RLIM_INFINITY:
        text += short_of_memory(limit)
    return "\n".join([text, *shown_frames(frames, folder)])


def short_of_memory(limit: int) -> str:
    """What is said after "MemoryError" of a process that was given a limit."""
    return f"; its process may have {size_text(limit)} of its own: wanted a larger `memory`"


def explained_text(trace: str, folder: str) -> str:
    """The same for an exception of another process, of which there is the text of a traceback."""
    text = trace.rpartition("Traceback (most recent call last):\n")[2].rstrip()
    frames, end = [], 0
    for found in FRAME.finditer(text):
        frames.append((found["file"], int(found["line"]), found["code"].partition("\n")[0].strip()))
        end = found.end()
    return "\n".join([text[end:].strip(), *shown_frames(frames, folder)])


def shown_frames(frames: Sequence[tuple[str, int | None, str | None]], folder: str) -> list[str]:
    """A line for each of the last that are the plug-in's, of (file, line, source)."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    lines = []
    for file, line, source in frames:
        if not file.startswith(("<frozen", own + os.sep)) and os.sep + "importlib" + os.sep not in file:
            shown = os.path.relpath(file, folder) if file.startswith(folder + os.sep) else file
            lines.append(f"  {shown}:{line}: {source}")
    return lines[-SHOWN_FRAMES:]


if __name__ == "__main__":
    main()
