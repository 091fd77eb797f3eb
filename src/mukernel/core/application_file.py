"""The application file: TOML, checked key by key, to plain structs. It says every problem, not only the
first."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..contract import Capability, ContractError
from ..deployment.request import ENTRY, WANTED_PYTHON, checked_python, read_request
from ..sandbox.policy import Sandbox, is_given
from .brokering import QUEUE
from .checks import (
    APART,
    LEAST_MEMORY,
    LEAST_SHARED,
    LEAST_TEMPORARY,
    MOST_CALLS,
    MOST_MEMORY,
    MOST_PROCESSES,
    MOST_REPLICAS,
    MOST_THREADS,
    NAME,
    PLACEMENTS,
    RESERVED,
    SHORTEST_CHECKPOINT,
    WANTED_NAME,
    WANTED_OTHER,
    checked_grant_list,
    checked_placement,
    checked_threads,
    checked_whole,
    nearest,
)
from .quantity import duration, duration_text, size
from .registry import DEFAULT_LOG, RestartPolicy
from .toml_file import application_name, default_name, read_toml

Reader = Callable[[Any], Any]  # returns the checked value; raises ValueError with what was wanted
MOST_CPU = 10**9  # seconds


class PluginTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table `[plugins.NAME]`. `memory`, `shared_memory`, `log_size`: bytes; `checkpoint`, `drain`, `cpu`: seconds.
    `bind`: which plug-in is meant, by interface, where several serve it."""

    name: str
    use: str
    python: str = ""
    entry: str = ""
    placement: str = "inline"
    replicas: int = 1
    concurrency: int | None = None
    threads: int = 0
    memory: int | None = None
    shared_memory: int | None = None
    cpu: int | None = None
    log_size: int = DEFAULT_LOG
    checkpoint: float | None = None
    drain: float = 30.0
    bind: dict[str, str] = {}
    grants: tuple[Capability, ...] | None = None
    restart: RestartPolicy = RestartPolicy()
    config: dict[str, Any] = {}
    sandbox: Sandbox | None = None


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table `[routes.INTERFACE]`. `queue`: calls that may wait where it is brokered."""

    brokered: bool = False
    queue: int = QUEUE


class ApplicationFile(msgspec.Struct, frozen=True):
    """A checked application file. `label`: how messages name it; `folder`: where imports are looked for first;
    `unread`: the plug-ins that are not among `plugins`, since what they `use`, or their `config`, is not sound.
    `wheels`: folders, relative to it, in which wheels are looked for; `only_wheels`: nothing is built."""

    label: str
    folder: str
    name: str
    plugins: dict[str, PluginTable]
    unread: list[str] = []
    routes: dict[str, RouteTable] = {}
    wheels: tuple[str, ...] = ()
    only_wheels: bool = False


def read_application_file(path: str) -> tuple[ApplicationFile, list[str]]:
    """Read and check a file, as `check_application` does. Raises NotFound, or ContractError for what is no TOML."""
    content = read_toml(path)
    return check_application(content, os.path.basename(path), os.path.dirname(os.path.abspath(path)))


def check_application(content: Mapping[str, Any], label: str, folder: str) -> tuple[ApplicationFile, list[str]]:
    """The structs, and every problem in one line each; where there are problems, only what is sound is in the
    structs."""
    reader = _Check(label)
    reader.unknown("", content, ("app", "plugins", "routes"))
    keys = {"name": application_name, "wheels": folders_in(folder), "only_wheels": yes_or_no}
    app = reader.table("app", content.get("app", {}), keys)
    plugins: dict[str, PluginTable] = {}
    unread: list[str] = []
    tables = reader.mapping("plugins", content.get("plugins", {}))
    if not tables and not reader.problems:
        reader.problems.append(f"{label}: there is no [plugins.NAME] table, wanted at least one")
    for key, table in tables.items():
        where = f"plugins.{key}"
        if not NAME.fullmatch(key):
            reader.problem(where, key, WANTED_NAME)
        if key == RESERVED:
            reader.problem(where, key, WANTED_OTHER)
        values = reader.table(where, table, PLUGIN_KEYS)
        if isinstance(table, dict) and "restart" in table:
            policy = reader.table(f"{where}.restart", table["restart"], RESTART_KEYS)
            values["restart"] = RestartPolicy(**policy)
        if isinstance(table, dict) and "sandbox" in table:
            values["sandbox"] = Sandbox(**reader.table(f"{where}.sandbox", table["sandbox"], sandbox_keys(folder)))
        if isinstance(table, dict) and "use" not in table:
            reader.problems.append(f"{label}: {where}.use is missing, wanted {WANTED_USE}")
        lines = config_problems(values)
        if "use" in values and not lines and ("config" in values or "config" not in table):
            made = PluginTable(name=key, **values)
            lines = contradictions(made)
            try:
                lines += environment_problems(made, folder)
                plugins[key] = made
            except ContractError as error:  # nobody can say what its `use` means
                lines.append(str(error))
                unread.append(key)
        else:
            unread.append(key)
        reader.problems += [f"{label}: {where}.{line}" for line in lines]
    routes = {
        key: reader.route(f"routes.{key}", table)
        for key, table in reader.mapping("routes", content.get("routes", {})).items()
    }
    app.setdefault("name", default_name(folder))
    return ApplicationFile(label, folder, plugins=plugins, unread=unread, routes=routes, **app), reader.problems


def config_problems(values: Mapping[str, Any]) -> list[str]:
    """Numbers of the configuration that can't travel."""
    try:
        checked_whole("config", values.get("config", {}))
    except ContractError as error:
        return [str(error)]
    return []


def environment_problems(plugin: PluginTable, folder: str) -> list[str]:
    """Keys of a plug-in that is to be installed, or is not, that don't fit that. Raises ContractError where `use` looks
    like what is installed, and can't be."""
    request = read_request(plugin.use, folder, plugin.python, plugin.entry)
    if request is None:
        return [
            f"{key}: {plugin.use!r} runs with the Python of the kernel; wanted a `use` that is installed into an "
            "environment of its own, such as 'shop-catalog==2.0', or this key left out"
            for key, value in (("python", plugin.python), ("entry", plugin.entry)) if value
        ]  # fmt: skip
    if plugin.placement == "inline":
        return [
            f"placement: {plugin.use!r} has an environment of its own, and so a process of its own; wanted placement = "
            "'process', 'process:NAME', 'sandbox' or 'sandbox:NAME'"
        ]
    return []


def contradictions(plugin: PluginTable) -> list[str]:
    """Keys that are sound by themselves and don't fit each other."""
    kind = plugin.placement.partition(":")[0]
    lines = []
    if plugin.sandbox is not None and kind != "sandbox":
        lines.append(f"sandbox: a plug-in of placement {plugin.placement!r} has none; wanted placement = 'sandbox'")
    try:
        checked_threads(plugin.placement, plugin.threads, plugin.sandbox)
    except ContractError as error:
        lines.append(str(error))
    if kind != "inline":
        return lines
    if plugin.replicas != 1:
        lines.append(
            f"replicas: got {plugin.replicas}, wanted 1 for a plug-in that runs inline "
            "(placement = 'process' allows more)"
        )
    if plugin.memory is not None:
        lines.append(
            "memory: a plug-in that runs inline shares the kernel's memory; wanted placement = 'process', or no limit"
        )
    if plugin.log_size != DEFAULT_LOG:
        lines.append("log_size: what runs inline logs into the kernel's log; wanted placement = 'process', or no size")
    if plugin.shared_memory is not None:
        lines.append("shared_memory: it is a limit of a process; wanted placement = 'process', or no limit")
    if plugin.cpu is not None:
        lines.append("cpu: it is a limit of a process; wanted placement = 'process', or no limit")
    return lines


def count_text(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


class _Check:
    """Collects problems. Each begins with the file and the key."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.problems: list[str] = []

    def problem(self, where: str, got: object, wanted: str) -> None:
        self.problems.append(f"{self.label}: {where}: got {got!r}, wanted {wanted}")

    def mapping(self, where: str, given: Any) -> dict[str, Any]:
        if isinstance(given, dict):
            return given
        self.problem(where, given, "a table")
        return {}

    def unknown(self, where: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in given:
            if key not in known:
                hint = nearest(key, known, "known")
                self.problems.append(f"{self.label}: {where}{'.' if where else ''}{key} is unknown; {hint}")

    def route(self, where: str, given: Any) -> RouteTable:
        later = [key for key in given if key in LATER_ROUTE_KEYS] if isinstance(given, dict) else []
        self.problems += [
            f"{self.label}: {where}.{key} is not available in this version; leave it out" for key in later
        ]
        if later:
            given = {key: value for key, value in given.items() if key not in later}
        made = RouteTable(**self.table(where, given, ROUTE_KEYS))
        if isinstance(given, dict) and "queue" in given and not made.brokered:
            self.problems.append(f"{self.label}: {where}.queue: it is that of a brokered route; wanted brokered = true")
        return made

    def table(self, where: str, given: Any, readers: Mapping[str, Reader]) -> dict[str, Any]:
        """The values that are sound."""
        table = self.mapping(where, given)
        self.unknown(where, table, tuple(readers))
        values = {}
        for key, read in readers.items():
            if key in table:
                try:
                    values[key] = read(table[key])
                except ValueError as wanted:
                    self.problem(f"{where}.{key}", table[key], str(wanted))
        return values


def use(given: Any) -> str:
    if isinstance(given, str) and given.strip():
        return given
    raise ValueError(WANTED_USE)


def placement(given: Any) -> str:
    try:
        return checked_placement(given)
    except ContractError:
        reserved = given in [f"{kind}:{RESERVED}" for kind in APART]
        raise ValueError(WANTED_OTHER if reserved else PLACEMENTS) from None


def whole(least: int, most: int | None = None) -> Reader:
    def read(given: Any) -> int:
        whole_number = isinstance(given, int) and not isinstance(given, bool)
        if whole_number and given >= least and (most is None or given <= most):
            return int(given)
        raise ValueError(f"a whole number of at least {least}{'' if most is None else f' and at most {most:,}'}")

    return read


def duration_of(least: float) -> Reader:
    def read(given: Any) -> float:
        seconds = duration(given)
        if seconds < least:
            raise ValueError(f"a time of at least {duration_text(least)}, such as '5s'")
        return seconds

    return read


def cpu(given: Any) -> int:
    seconds: float = duration_of(1.0)(given)
    if seconds > MOST_CPU:
        raise ValueError(f"a time of at most {MOST_CPU:,} seconds")
    return math.ceil(seconds)  # the system counts whole ones


def memory_of(least: int, wanted: str) -> Reader:
    def read(given: Any) -> int:
        count = size(given)
        if not least <= count <= MOST_MEMORY:
            raise ValueError(f"{wanted} to '1024T'")
        return count

    return read


def sandbox_keys(folder: str) -> dict[str, Reader]:
    """The keys of a table [plugins.NAME.sandbox]; paths in it are relative to `folder`."""

    def paths(given: Any) -> tuple[str, ...]:
        wanted = "a list of paths of folders or files that exist, relative to the application file"
        if not isinstance(given, list) or not all(isinstance(each, str) and each for each in given):
            raise ValueError(wanted)
        found = tuple(os.path.abspath(os.path.join(folder, each)) for each in given)
        for path in found:
            if not os.path.exists(path):
                raise ValueError(f"{wanted}: there is no {path}")
            if not is_given(os.path.realpath(path)):
                raise ValueError(f"{wanted}; {path} as a whole is refused, name what is needed in it")
        return found

    return {"read": paths, "write": paths, "temporary": temporary, "processes": whole(1, MOST_PROCESSES)}


def folders_in(folder: str) -> Reader:
    def read(given: Any) -> tuple[str, ...]:
        wanted = "a list of folders that exist, relative to the application file"
        if not isinstance(given, list) or not all(isinstance(each, str) and each for each in given):
            raise ValueError(wanted)
        for each in given:
            if not os.path.isdir(os.path.join(folder, each)):
                raise ValueError(f"{wanted}: there is no {each}")
        return tuple(given)

    return read


def python(given: Any) -> str:
    if not given:
        raise ValueError(WANTED_PYTHON)
    try:
        return checked_python(given)
    except ContractError:
        raise ValueError(WANTED_PYTHON) from None


def entry(given: Any) -> str:
    if isinstance(given, str) and ENTRY.fullmatch(given):
        return given
    raise ValueError("the name of an entry point of group 'mukernel.plugins'")


def temporary(given: Any) -> int:
    count = size(given)
    if not LEAST_TEMPORARY <= count <= MOST_MEMORY:
        raise ValueError("'64K' to '1024T'")
    return count


def one_of(*known: str) -> Reader:
    def read(given: Any) -> str:
        if isinstance(given, str) and given in known:
            return given
        raise ValueError(" or ".join(repr(each) for each in known))

    return read


def bind(given: Any) -> dict[str, str]:
    if isinstance(given, dict) and all(isinstance(each, str) for each in given.values()):
        return given
    raise ValueError("a table of names of plug-ins by interface, such as { Store = 'books' }")


def grants(given: Any) -> tuple[Capability, ...] | None:
    if not isinstance(given, list):
        raise ValueError("a list, such as ['Catalog', 'Files:read:/data']")
    try:
        return checked_grant_list(given)
    except ContractError as error:
        raise ValueError(f"grants that can be read: {error}") from None


def yes_or_no(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    raise ValueError("true or false")


def table(given: Any) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    raise ValueError("a table")


WANTED_USE = (
    "'module:Class', 'file.py:Class' or the name of an entry point; or, for an environment of its own, a requirement "
    "such as 'shop-catalog==2.0', a wheel file, './a/directory' or 'git+https://...'"
)
LATER_ROUTE_KEYS = ("timeout", "retries", "split")
RESTART_KEYS: dict[str, Reader] = {
    "intensity": whole(0), "period": duration_of(SHORTEST_CHECKPOINT), "backoff": duration, "longest_backoff": duration,
    "strategy": one_of("one-for-one", "rest-for-one"), "hang": duration,
}  # fmt: skip
ROUTE_KEYS: dict[str, Reader] = {"brokered": yes_or_no, "queue": whole(1)}
PLUGIN_KEYS: dict[str, Reader] = {
    "use": use,
    "python": python,
    "entry": entry,
    "placement": placement,
    "replicas": whole(1, MOST_REPLICAS),
    "concurrency": whole(1, MOST_CALLS),
    "threads": whole(0, MOST_THREADS),
    "memory": memory_of(LEAST_MEMORY, "'32M', which a process needs to start,"),
    "shared_memory": memory_of(LEAST_SHARED, "'1M'"),
    "cpu": cpu,
    "log_size": temporary,
    "checkpoint": duration_of(SHORTEST_CHECKPOINT),
    "drain": duration,
    "bind": bind,
    "grants": grants,
    "restart": lambda given: RestartPolicy(),
    "config": table,
    "sandbox": lambda given: None,
}
