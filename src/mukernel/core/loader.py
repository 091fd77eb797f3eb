"""Loader: from what an operator names to a plug-in class, in whichever process it is to run."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from ..contract import ContractError, NotFound
from .imported import (
    MAIN,
    SCRIPTS,
    Version,
    drop_stale_bytecode,
    file_of,
    import_anew,
    is_own,
    near,
    remember,
    run,
    stale_modules,
    unremembered,
)
from .imported_for_plugins import imported_for_plugin
from .messages import Source
from .plain import class_of_function

ENTRY_POINTS = "mukernel.plugins"
PRIVATE = "mukernel_file_"
ENTRY_POINT = "entry-point:"  # of any group
STANDARD_INPUT = "<stdin>"  # what Python calls the file of a program that it reads from there
given: dict[str, type] = {}  # the classes that this process was handed as objects: here they are used as they are


def source_of(use: type | str | Source, folder: str | None = None, fresh: bool = False) -> Source:
    """Where to load a plug-in from. `fresh`: as a new version, into a namespace of its own.

    `use`: a class; "module:Class"; "path/to/file.py:Class" (relative to `folder`, or the working directory); or the
    name of an entry point of the group "mukernel.plugins"; "entry-point:group/name", of any group; each may be a
    function instead. "[one, another]" after it: of a plain class, these of its
    methods are served. Raises NotFound or ContractError that says what was wanted.
    """
    if not (folder is None or (isinstance(folder, str) and os.path.isdir(folder))):
        raise ContractError(f"folder: got {folder!r}, wanted the path of a folder that is there, as a str")
    if isinstance(use, Source):
        return use
    if isinstance(use, type):
        return source_of_class(use)
    if not isinstance(use, str):
        raise ContractError(f"use: got {use!r}, wanted a class, 'module:Class', 'file.py:Class' or an entry point")
    path = tuple(dict.fromkeys([folder, *sys.path] if folder else sys.path))  # the same when `folder` is among them
    use, only = without_methods(use)
    if use.startswith(ENTRY_POINT):
        return source_of_entry_point(use, path, fresh, only)
    module, colon, name = use.rpartition(":")
    if colon and module.endswith(".py"):
        file = os.path.abspath(os.path.join(folder or os.getcwd(), module))
        if not os.path.exists(file):
            raise NotFound(f"use = {use!r}: there is no file {file}")
        return Source(module_name(file), name, file, path, fresh, only=only)
    if colon:
        if not module or not name:
            raise ContractError(f"use = {use!r}: wanted 'module:Class', 'file.py:Class' or the name of an entry point")
        return Source(module, name, "", path, fresh, only=only)
    from importlib.metadata import entry_points  # here, as it imports much that no process of plug-ins needs

    for point in entry_points(group=ENTRY_POINTS):
        if point.name == use:
            return Source(point.module, point.attr, "", path, fresh, only=only)
    known = ", ".join(sorted(point.name for point in entry_points(group=ENTRY_POINTS))) or "none are installed"
    from ..deployment.request import TO_BE_INSTALLED

    raise NotFound(
        f"use = {use!r}: no entry point of group {ENTRY_POINTS!r} has that name (known: {known}); "
        "wanted 'module:Class', 'file.py:Class' or an entry point; or, for what is to have an environment of its own, "
        f"{TO_BE_INSTALLED}"
    )


def module_name(file: str) -> str:
    """Under what name a plug-in's file is imported: its own, unless a module of Python's library, or an installed one,
    has that: others import it."""
    stem = os.path.splitext(os.path.basename(file))[0]
    installed = [folder for folder in sys.path if not is_own(os.path.join(folder, ""))]
    taken = stem in sys.stdlib_module_names or importlib.machinery.PathFinder.find_spec(stem, installed) is not None
    return PRIVATE + stem if taken and is_own(file) else stem


def source_of_entry_point(use: str, path: tuple[str, ...], fresh: bool, only: tuple[str, ...]) -> Source:
    """Where "entry-point:group/name" leads. Raises NotFound, ContractError."""
    from importlib.metadata import entry_points

    group, slash, name = use.removeprefix(ENTRY_POINT).partition("/")
    if not (group and slash and name):
        raise ContractError(f"use = {use!r}: wanted 'entry-point:group/name'")
    points = entry_points(group=group)
    found = {(point.module, point.attr) for point in points if point.name == name}
    if not found:
        known = ", ".join(sorted({point.name for point in points})) or "none are installed"
        raise NotFound(f"use = {use!r}: no entry point of group {group!r} has that name (known: {known})")
    if len(found) > 1:
        several = ", ".join(sorted(f"{module}:{attribute}" for module, attribute in found))
        raise ContractError(f"use = {use!r}: several packages have it: {several}; name the one that is meant so")
    ((module, attribute),) = found
    if not attribute:
        raise ContractError(f"use = {use!r}: it is the module {module}; wanted a class or a function: '{module}:NAME'")
    return Source(module, attribute, "", path, fresh, only=only)


def without_methods(use: str) -> tuple[str, tuple[str, ...]]:
    """What "module:Class[one, another]" says apart: where the class is, and which of its methods are served."""
    found = re.fullmatch(r"(.*?)\[([^][]*)\]\s*", use, re.DOTALL)
    if found is None:
        return use, ()
    only = tuple(each.strip() for each in found[2].split(","))
    if not all(each.isidentifier() for each in only):
        raise ContractError(
            f"use = {use!r}: wanted names of methods between the brackets, as in 'module:Class[one, another]'"
        )
    return found[1], only


def source_of_class(plugin: type) -> Source:
    """Where another process can load `plugin` from. A class inside a function has a source that only this one can
    load."""
    module = sys.modules.get(plugin.__module__)
    file = getattr(module, "__file__", None) or ""
    name = f"{os.getpid()}:{id(plugin)}"
    given[name] = plugin
    file = os.path.abspath(file) if file and file != STANDARD_INPUT else ""
    if plugin.__module__ not in SCRIPTS and not os.path.exists(file):
        file = ""  # it lies in a zip file, from which it is imported by name
    main = getattr(module, "__spec__", None) if plugin.__module__ in SCRIPTS else None
    run_as = main.name if main is not None and main.name not in SCRIPTS else ""
    return Source(plugin.__module__, plugin.__qualname__, file, tuple(sys.path), given=name, main=run_as)


def default_name(qualified: str) -> str:
    """How a plug-in is called where nobody says: English → "english", SqliteCatalog → "sqlite-catalog"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", qualified.rpartition(".")[2]).lower()


def check_importable(source: Source) -> None:
    """Raises ContractError where another process could not load it."""
    if "<locals>" in source.name:
        raise ContractError(
            f"{source.name.replace('.<locals>', '')} is defined inside a function, so another process can't import it; "
            "define it at the top of a module, or place it inline"
        )
    if source.module == "__main__" and not source.file:
        raise ContractError(
            f"{source.name} is defined in an interactive session, or in a program that has no file (`python -c`, "
            "`python -`); put it into a file, or place it inline"
        )


def load_class(source: Source) -> type:
    """Import the class. Raises NotFound, ContractError, or what the module raised when it was imported."""
    return load_version(source).kind


def load_version(source: Source) -> Version:
    """As `load_class`; the version can be withdrawn."""
    if source.given in given:
        kind = given[source.given]
        remember(near(kind.__module__, file_of_module(kind.__module__)))
        return Version(kind)
    for folder in reversed(source.path):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    version = Version(object)
    with imported_for_plugin(source.file if source.module in SCRIPTS else source.module):
        if source.module in SCRIPTS:
            module = load_main(source.file, source.main)
        elif source.file:
            module = load_file(source, version)
        else:
            module = load_module(source, version)
    try:
        version.kind = class_in(module, source)
    except BaseException:
        version.withdraw()
        raise
    remember(near(source.module, file_of_module(source.module)))
    return version


def class_in(module: ModuleType, source: Source) -> type:
    found: Any = module
    for part in source.name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, FunctionType):
        return class_of_function(found)
    if not isinstance(found, type):
        classes = ", ".join(
            name for name, value in vars(module).items()
            if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
        )  # fmt: skip
        got = "is not there" if found is None else f"is a {type(found).__name__}"
        raise NotFound(
            f"{source.module}:{source.name} {got}; wanted a class, or a function written in Python (the module "
            f"defines: {classes or 'no class'})"
        )
    return found


def file_of_module(name: str) -> str:
    module = sys.modules.get(name)
    return file_of(module) if module is not None else ""


def load_module(source: Source, version: Version) -> ModuleType:
    try:
        file = file_of_module(source.module) or found_file(source.module)
        return as_on_disk(source, file, version, lambda: importlib.import_module(source.module))
    except ModuleNotFoundError as error:
        if error.name and (source.module == error.name or source.module.startswith(error.name + ".")):
            text = f"there is no module {error.name!r} (looked for {source.module}:{source.name})"
            if source.environment:
                text += f" in {source.environment}; if files are missing there, `mukernel install` makes it anew"
            raise NotFound(text) from None
        raise


def as_on_disk(source: Source, file: str, version: Version, import_it: Callable[[], ModuleType]) -> ModuleType:
    """The module of a source. It is imported anew where a fresh one is wanted, and where something that it is made of
    has changed: what moves here, or is started again here, may have been written anew while it was elsewhere."""
    here = sys.modules.get(source.module)
    if here is not None and source.file and file_of(here) != source.file:  # another of that name
        here = None
    members = near(source.module, file)
    later = unremembered(members)  # of what source they are nobody knows: a function has imported them
    remember(members)  # with the turn in which they were there, at the latest
    if here is not None and not source.fresh and not stale_modules(source.module, file, members):
        return here
    if source.fresh and is_own(file):  # it may have been written twice in one second
        drop_stale_bytecode(os.path.dirname(file))
    if not members:
        return import_it()
    anew = later | {home_of(here, source.name)} if here is not None and source.fresh else set[str]()
    version.replaced = import_anew(source.module, file, members, anew, import_it)
    return sys.modules[source.module]


def home_of(module: ModuleType, qualified: str) -> str:
    """The name of the module that a plug-in's class is defined in: another where a package only passes it on."""
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return str(getattr(found, "__module__", module.__name__))


def found_file(name: str) -> str:
    """The file of a module that is not imported yet. Raises ModuleNotFoundError where its package is not there."""
    spec = importlib.util.find_spec(name)
    return (spec.origin or "") if spec is not None and spec.has_location else ""


def load_main(file: str, name: str = "") -> ModuleType:
    """The script that the kernel's process was started from, imported, not run, as multiprocessing does. `name`: what
    it was run by, where that was `python -m NAME`.

    Raises ContractError where it can't be imported: mostly as it starts its work whoever imports it.
    """
    main = sys.modules.get(MAIN) or sys.modules.get("__main__")
    if main is not None and os.path.abspath(getattr(main, "__file__", None) or "") == file:
        return main
    if not os.path.exists(file):
        raise ContractError(
            f"{file}: a plug-in's class is defined in it, and another process can't import the main program of a zip "
            "file; put the class into a module of its own, which may lie in that file, too"
        )
    module, before = ModuleType(MAIN), sys.modules["__main__"]
    try:
        module.__file__ = file
        if name and (spec := importlib.util.find_spec(name)):  # which imports its package
            module.__spec__, module.__package__ = spec, spec.parent  # what multiprocessing starts from here goes by it
        sys.modules["__main__"] = sys.modules[MAIN] = module  # both: multiprocessing makes of the one the other
        importlib.machinery.SourceFileLoader(MAIN, file).exec_module(module)
    except (Exception, SystemExit) as error:
        with warnings.catch_warnings():  # of the coroutine that asyncio.run was given, and refused
            warnings.simplefilter("ignore", RuntimeWarning)
            traceback.clear_frames(error.__traceback__)
        sys.modules["__main__"] = before
        sys.modules.pop(MAIN, None)
        if isinstance(error, ContractError):  # which says what to do
            raise
        raise ContractError(
            f"{file}: to load a plug-in's class from it, another process imports this script, which raised "
            f'{type(error).__name__}: {error}; put what starts its work below `if __name__ == "__main__":`, or the '
            "class into a module of its own"
        ) from None
    return module


def load_file(source: Source, version: Version) -> ModuleType:
    old = sys.modules.get(source.module)
    if old is None and not source.fresh and "." in source.module:  # of a package, which has to be imported first
        try:
            found = importlib.util.find_spec(source.module)
        except (ImportError, ValueError):
            found = None
        if found is not None and found.origin and os.path.abspath(found.origin) == source.file:
            return importlib.import_module(source.module)

    def run_it() -> ModuleType:
        return run(importlib.util.spec_from_file_location(source.module, source.file), source.file, {})

    return as_on_disk(source, source.file, version, run_it)
