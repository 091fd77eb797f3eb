"""The environments of an application: what its plug-ins ask to be installed, found or made before they start."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract import ContractError, MukernelError
from ..deployment import Request, read_request
from ..deployment.lock_file import LockFileUnsound
from ..deployment.work import Work
from .application_file import ApplicationFile, count_text
from .deployments import in_thread, source_in
from .messages import Source

if TYPE_CHECKING:
    from ..deployment import Installer

FIELD = re.compile(r"(use|python|entry)\b")
Say = Callable[[str, str], object]  # called with the name of a plug-in and a line of text, in any thread


def installer_for(file: ApplicationFile, folder: str | None = None) -> Installer:
    """The installer of an application. `folder`: its state folder, where that was named. What is locked stands beside
    the application file, with its name: app.toml has app.lock."""
    from ..deployment import Installer  # here, since it imports much that most applications don't need
    from ..deployment.store import default_folder

    lock = Path(file.folder, file.label).with_suffix(".lock")
    wheels = [os.path.join(file.folder, each) for each in file.wheels]
    return Installer(
        folder or default_folder(file.name), lock_file=lock, wheels=wheels, settings=file.folder,
        only_wheels=file.only_wheels,
    )  # fmt: skip


def requests_of(file: ApplicationFile) -> dict[str, Request]:
    """What is to be installed, by the name of the plug-in."""
    found = {
        name: read_request(table.use, file.folder, table.python, table.entry) for name, table in file.plugins.items()
    }
    return {name: request for name, request in found.items() if request is not None}


def present(file: ApplicationFile, installer: Installer) -> tuple[dict[str, Source], dict[str, str]]:
    """Where the plug-ins that are installed are loaded from; and of the others, why they are not, or "" where it is the
    lock file that can't be read."""
    sources, problems = {}, {}
    for name, request in requests_of(file).items():
        try:
            sources[name] = source_in(installer.present(request), file.folder)
        except LockFileUnsound:
            problems[name] = ""  # which `lock_problems` says, once
        except MukernelError as error:
            failure = installer.failure(request)
            problems[name] = str(error) if failure is None else failed_before(failure)
    return sources, problems


def lock_problems(installer: Installer) -> list[str]:
    """What is wrong with the lock file."""
    try:
        installer.lock_file.read()
    except ContractError as error:
        return [str(error)]
    return []


async def installed(file: ApplicationFile, installer: Installer, say: Say) -> tuple[dict[str, Source], dict[str, str]]:
    """As `present`, but what is missing is installed. What could not be the last time is not tried again: somebody has
    to ask for it, else an application that is started again and again would try for ever."""
    sources, problems = {}, {}
    for name, request in requests_of(file).items():
        failure = installer.failure(request)
        if failure is not None and not installer.is_present(request):
            problems[name] = failed_before(failure)
            continue
        work = Work(lambda text, name=name: say(name, text))  # type: ignore[misc]
        try:
            found, hold = await in_thread(work, lambda request=request, work=work: installer.install(request, work))  # type: ignore[misc]
        except MukernelError as error:
            problems[name] = str(error)
        else:
            hold.close()  # its kernel holds it when it is loaded, and has it made again if it is gone by then
            sources[name] = source_in(found, file.folder)
    return sources, problems


def failed_before(reason: str) -> str:
    return f"{reason} (this was so when it was last tried; `mukernel install` tries again)"


def as_problems(file: ApplicationFile, problems: dict[str, str]) -> list[str]:
    return [of_plugin(file, name, text) for name, text in problems.items() if text]


def of_plugin(file: ApplicationFile, name: str, text: str) -> str:
    """A problem as a line that names its plug-in, and the field where it begins with one."""
    return f"{file.label}: plugins.{name}{'.' if FIELD.match(text) else ': '}{text}"


def checked(file: ApplicationFile, problems: list[str]) -> ApplicationFile:
    """Raises ContractError whose `differences` are all that is wrong with an application."""
    if problems:
        raise ContractError(f"{file.label} has {count_text(len(problems), 'problem')}", problems)
    return file
