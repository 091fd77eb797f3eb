"""Application: from the tables of an application file to plug-ins that run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..contract import MukernelError, RemoteError, Unavailable
from ..kernel.process import Limits
from ..sandbox.policy import Sandbox
from .application_environments import (
    Say,
    as_problems,
    checked,
    installed,
    installer_for,
    lock_problems,
    present,
    requests_of,
)
from .application_file import ApplicationFile, PluginTable, read_application_file
from .application_grants import grant_problems
from .application_reach import reach_problems
from .application_routes import brokered_now, keeping_calls, route_problems
from .application_sharing import sharing_problems, unlike_environments
from .capabilities import is_sandbox
from .checks import too_many_replicas
from .composition import Composition, compose
from .inspection import Inspected, explained, inspect_plugins, short_of_memory
from .instances import check_serves_no_more
from .messages import Source

if TYPE_CHECKING:
    from .kernel import Kernel


class Application:
    """A checked application: its file, its classes as they say they are, and how they fit together."""

    def __init__(self, file: ApplicationFile, inspected: dict[str, Inspected], composition: Composition) -> None:
        self.file, self.inspected, self.composition = file, inspected, composition
        self.sources: dict[str, Source] = {}  # of the plug-ins that are installed, each in an environment of its own

    @property
    def order(self) -> list[str]:
        """The names of the plug-ins, each after those that it needs."""
        return self.composition.order

    async def start(self, kernel: Kernel, on_loaded: Callable[[PluginTable], object] = lambda table: None) -> None:
        """Load every plug-in into `kernel`, in order. Raises Unavailable that names the first that can't be
        started, and why; a traceback is a note of it."""
        if self.file.folder not in sys.path:
            sys.path.insert(0, self.file.folder)
        started: list[str] = []
        for name in self.order:
            table = self.file.plugins[name]
            try:
                await kernel.load(
                    self.sources.get(name, table.use),
                    name=name,
                    placement=table.placement,
                    config=table.config,
                    replicas=table.replicas,
                    concurrency=table.concurrency,
                    threads=table.threads,
                    limits=Limits(memory=table.memory, cpu_seconds=table.cpu),
                    shared_memory=table.shared_memory,
                    log_size=table.log_size,
                    checkpoint=table.checkpoint,
                    drain=table.drain,
                    bind=table.bind,
                    grants=table.grants,
                    restart=table.restart,
                    folder=self.file.folder,
                    sandbox=table.sandbox,
                )
                serves = kernel.registry.entry(name).interfaces  # in its sandbox it may say what was not seen before
                check_serves_no_more(name, table.placement, self.inspected[name].interfaces, serves)
                started.append(name)
                for interface in brokered_now(self.file, self.inspected, started):
                    await kernel.route(interface, brokered=True, queue=self.file.routes[interface].queue)
            except Exception as error:
                raise self.not_started(name, error) from error
            on_loaded(table)

    def not_started(self, name: str, error: Exception) -> Unavailable:
        if isinstance(error, MukernelError) and not (isinstance(error, RemoteError) and error.traceback):
            text = str(error)
        else:
            text = explained(error, self.file.folder)
        memory = self.file.plugins[name].memory
        if memory is not None and isinstance(error, RemoteError) and error.type_name == "MemoryError":
            first, line, rest = text.partition("\n")
            text = first + short_of_memory(memory) + line + rest
        problem = Unavailable(f"{self.file.label}: plugins.{name} can't be started: {text}")
        if isinstance(error, RemoteError) and error.traceback:
            problem.add_note(error.traceback.rstrip())
        return problem


async def read_application(path: str, state: str | None = None, say: Say | None = None) -> Application:
    """Read and check an application without starting any of it. What is wrong in the table of one plug-in does not keep
    the classes of the others from being looked at.

    `state`: its state folder, where that was named. `say`: what has to be installed is, and told to this; where it is
    None, what is not installed is a problem.

    Raises NotFound, or ContractError whose `differences` are all its problems, one each.
    """
    file, problems = read_application_file(path)
    sources: dict[str, Source] = {}
    missing: dict[str, str] = {}
    problems += (reaching := reach_problems(file, state))
    problems += sharing_problems(file)
    if requests_of(file):
        installer = installer_for(file, state)
        problems += (unsound := lock_problems(installer))
        if say is None or unsound or reaching:
            sources, missing = present(file, installer)
        else:
            sources, missing = await installed(file, installer, say)
    problems += unlike_environments(file, sources)
    boxed = {name for name, table in file.plugins.items() if is_sandbox(table.placement)}
    unseen = {*missing, *(boxed if reaching else ())}  # no sandbox is set up where one of them might be led astray
    tables = {name: table for name, table in file.plugins.items() if name not in unseen}
    uses = {name: (sources.get(name, table.use), table.config) for name, table in tables.items()}
    hangs = {name: table.restart.hang for name, table in tables.items()}
    boxes = {
        name: (table.sandbox or Sandbox(), Limits(memory=table.memory))
        for name, table in tables.items()
        if name in boxed
    }
    inspected = await inspect_plugins(uses, file.folder, file.label, hangs, boxes)
    for name in unseen:
        inspected[name] = Inspected(name)
    # Where a table, an environment or a class could not be read, somebody may serve what nobody seems to.
    complete = not (file.unread or unseen or any(each.unreadable for each in inspected.values()))
    composition = compose(inspected, file.label, complete, {name: table.bind for name, table in tables.items()})
    problems += as_problems(file, missing)
    problems += [problem for each in inspected.values() for problem in each.problems] + composition.problems
    problems += [
        f"{file.label}: plugins.{name}.{too_many_replicas(name, table.replicas)}"
        for name, table in tables.items()
        if table.replicas > 1 and inspected[name].one_replica
    ]
    problems += grant_problems(file, inspected, complete) + route_problems(file, inspected, complete)
    checked(file, problems)
    application = Application(keeping_calls(file, inspected), inspected, composition)
    application.sources = sources
    return application
