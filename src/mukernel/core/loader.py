"""Loader: from what an operator names to a plug-in class, in whichever process it is to run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import itertools
import os
import sys
import traceback
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from ..contract import ContractError, NotFound
from .messages import Source

ENTRY_POINTS = "mukernel.plugins"
MAIN = "__mukernel_main__"  # under this name a process imports the script that the kernel was started from
imported: WeakKeyDictionary[ModuleType, int] = WeakKeyDictionary()  # modules, and how old their sources were then
given: dict[str, type] = {}  # the classes that this process was handed as objects: here they are used as they are


def source_of(use: type | str | Source, folder: str | None = None, fresh: bool = False) -> Source:
    """Where to load a plug-in from. `fresh`: as a new version, into a namespace of its own.

    `use`: a class; "module:Class"; "path/to/file.py:Class" (relative to `folder`, or the working directory); or the
    name of an entry point of the group "mukernel.plugins". Raises NotFound or ContractError that says what was wanted.
    """
    if isinstance(use, Source):
        return use
    if isinstance(use, type):
        return source_of_class(use)
    if not isinstance(use, str):
        raise ContractError(f"use: got {use!r}, wanted a class, 'module:Class', 'file.py:Class' or an entry point")
    path = tuple([folder, *sys.path] if folder else sys.path)
    module, colon, name = use.rpartition(":")
    if colon and module.endswith(".py"):
        file = os.path.abspath(os.path.join(folder or os.getcwd(), module))
        if not os.path.exists(file):
            raise NotFound(f"use = {use!r}: there is no file {file}")
        return Source(os.path.splitext(os.path.basename(file))[0], name, file, path, fresh=fresh)
    if colon:
        if not module or not name:
            raise ContractError(f"use = {use!r}: wanted 'module:Class', 'file.py:Class' or the name of an entry point")
        return Source(module, name, "", path, fresh=fresh)
    from importlib.metadata import entry_points  # here, as it imports much that no process of plug-ins needs

    for point in entry_points(group=ENTRY_POINTS):
        if point.name == use:
            return Source(point.module, point.attr, "", path, fresh=fresh)
    known = ", ".join(sorted(point.name for point in entry_points(group=ENTRY_POINTS))) or "none are installed"
    raise NotFound(
        f"use = {use!r}: no entry point of group {ENTRY_POINTS!r} has that name (known: {known}); "
        "wanted 'module:Class', 'file.py:Class' or an entry point"
    )


def source_of_class(plugin: type) -> Source:
    """Where another process can load `plugin` from. A class inside a function has a source that only this one can
    load."""
    module = sys.modules.get(plugin.__module__)
    file = getattr(module, "__file__", None) or ""
    name = f"{os.getpid()}:{id(plugin)}"
    given[name] = plugin
    file = os.path.abspath(file) if file else ""
    return Source(plugin.__module__, plugin.__qualname__, file, tuple(sys.path), given=name)


def check_importable(source: Source) -> None:
    """Raises ContractError where another process could not load it."""
    if "<locals>" in source.name:
        raise ContractError(
            f"{source.name.replace('.<locals>', '')} is defined inside a function, so another process can't import it; "
            "define it at the top of a module, or place it inline"
        )
    if source.module == "__main__" and not source.file:
        raise ContractError(
            f"{source.name} is defined in an interactive session; put it into a file, or place it inline"
        )


def load_class(source: Source) -> type:
    """Import the class. Raises NotFound, ContractError, or what the module raised when it was imported."""
    if source.given in given:
        remember(given[source.given].__module__)
        return given[source.given]
    for folder in reversed(source.path):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    older = 0 if source.module.partition(".")[0] in sys.modules else len(sys.modules)
    if source.module in ("__main__", MAIN):
        module = load_main(source.file)
    elif source.file:
        module = load_file(source)
    else:
        module = load_module(source)
    remember(source.module, older)
    found: Any = module
    for part in source.name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        classes = ", ".join(
            name for name, value in vars(module).items()
            if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
        )  # fmt: skip
        got = "is not there" if found is None else f"is a {type(found).__name__}"
        raise NotFound(f"{source.module}:{source.name} {got}; wanted a class (the module defines: {classes or 'none'})")
    return found


def load_module(source: Source) -> ModuleType:
    old = sys.modules.get(source.module)
    # Not only at a swap: what moves here, or is started again here, may have been written anew while it was elsewhere.
    if old is not None and (source.fresh or source.module in changed_modules(source.module.partition(".")[0])):
        return import_anew(source.module)
    try:
        return importlib.import_module(source.module)
    except ModuleNotFoundError as error:
        if error.name and (source.module == error.name or source.module.startswith(error.name + ".")):
            raise NotFound(f"there is no module {error.name!r} (looked for {source.module}:{source.name})") from None
        raise


def load_main(file: str) -> ModuleType:
    """The script that the kernel's process was started from, imported, not run, as multiprocessing does.

    Raises ContractError where it can't be imported: mostly as it starts its work whoever imports it.
    """
    main = sys.modules.get(MAIN) or sys.modules.get("__main__")
    if main is not None and os.path.abspath(getattr(main, "__file__", None) or "") == file:
        return main
    spec = importlib.util.spec_from_file_location(MAIN, file)
    try:
        module = run(spec, file)
    except (Exception, SystemExit) as error:
        with warnings.catch_warnings():  # of the coroutine that asyncio.run was given, and refused
            warnings.simplefilter("ignore", RuntimeWarning)
            traceback.clear_frames(error.__traceback__)
        raise ContractError(
            f"{file}: to load a plug-in's class from it, another process imports this script, which raised "
            f'{type(error).__name__}: {error}; put what starts its work below `if __name__ == "__main__":`, or the '
            "class into a module of its own"
        ) from None
    sys.modules["__main__"] = module
    return module


def load_file(source: Source) -> ModuleType:
    old = sys.modules.get(source.module)
    if old is not None and not source.fresh and os.path.abspath(getattr(old, "__file__", None) or "") == source.file:
        return old
    if old is None and not source.fresh and "." in source.module:  # of a package, which has to be imported first
        try:
            found = importlib.util.find_spec(source.module)
        except (ImportError, ValueError):
            found = None
        if found is not None and found.origin and os.path.abspath(found.origin) == source.file:
            return importlib.import_module(source.module)
    if source.fresh:
        drop_stale_bytecode(os.path.dirname(source.file))
    return run(importlib.util.spec_from_file_location(source.module, source.file), source.file)


def run(spec: ModuleSpec | None, file: str) -> ModuleType:
    if spec is None or spec.loader is None:
        raise NotFound(f"{file} can't be imported as Python")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[spec.name]
        else:
            sys.modules[spec.name] = before
        raise
    return module


def import_anew(name: str) -> ModuleType:
    """Import a module into a fresh namespace, with every module of its package that has changed since it was imported.

    Unlike `importlib.reload`, no name of the old version survives in the new one; the old one stays whole for who uses
    it.
    """
    stale = {name: sys.modules[name]}
    for other in changed_modules(name.partition(".")[0]):
        stale[other] = sys.modules[other]
    for each in stale:
        del sys.modules[each]
    importlib.invalidate_caches()
    drop_stale_bytecode(os.path.dirname(getattr(stale[name], "__file__", None) or ""))
    try:
        return importlib.import_module(name)
    except BaseException:
        sys.modules.update(stale)
        raise


def changed_modules(package: str) -> list[str]:
    """The imported modules of a package whose source is newer than what was imported, and those that use one of
    them."""
    if package == __name__.partition(".")[0]:  # the framework itself: the kernel runs on its classes
        return []
    members = {n: m for n, m in sys.modules.items() if n == package or n.startswith(package + ".")}
    changed = {n for n, m in members.items() if is_changed(m)}
    grew = bool(changed)
    while grew:
        grew = False
        for name, module in members.items():
            if name not in changed and name != package and any(uses(module, members[other]) for other in changed):
                changed.add(name)
                grew = True
    return sorted(changed)


def remember(name: str, older: int = 0) -> None:
    """Note how old the sources of a package are, so that it shows which of them have changed since.

    `older`: how many modules were imported before the first of the package. To look at a module writes to its reference
    count, so a forked process, which has hundreds of them, would copy hundreds of pages.
    """
    package = name.partition(".")[0]
    for other in list(itertools.islice(reversed(sys.modules), max(0, len(sys.modules) - older))):
        if other == package or other.startswith(package + "."):
            module = sys.modules[other]
            if module not in imported:
                imported[module] = source_time(module)


def source_time(module: ModuleType) -> int:
    """When a module's source was last written, in ns; 0 where it has none."""
    try:
        return os.stat(getattr(module, "__file__", None) or "").st_mtime_ns
    except OSError:
        return 0


def is_changed(module: ModuleType) -> bool:
    return module in imported and imported[module] != source_time(module)


def drop_stale_bytecode(folder: str) -> None:
    """Remove bytecode that is older than its source: Python itself only looks at whole seconds and the size."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                cached = importlib.util.cache_from_source(entry.path)
                with contextlib.suppress(OSError):
                    if os.stat(cached).st_mtime_ns <= entry.stat().st_mtime_ns:
                        os.unlink(cached)


def uses(module: ModuleType, other: ModuleType) -> bool:
    return any(
        value is other or getattr(value, "__module__", None) == other.__name__ for value in list(vars(module).values())
    )
