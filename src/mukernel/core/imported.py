"""Imported: which modules of an application are there, what uses what, and how to import anew those that changed.

A new version of an inline plug-in is imported beside the old one: each changed module, and each that uses one, comes
into a namespace of its own, and what has not changed is shared.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import ModuleSpec
from types import ModuleType
from weakref import WeakKeyDictionary

from ..contract import NotFound

FRAMEWORK = __name__.partition(".")[0]  # never imported anew: the kernel runs on its classes
MAIN = "__mp_main__"  # under this name multiprocessing imports the script that was started, and so do processes of ours
SCRIPTS = ("__main__", MAIN)  # these are never imported anew
LIBRARY = os.path.dirname(os.__file__) + os.sep
INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))

Near = Mapping[str, ModuleType]
Times = tuple[int, int]  # of a source, in ns: when it says it was written, and when it was changed, which none can set
written: WeakKeyDictionary[ModuleType, Times] = WeakKeyDictionary()  # when the source of what was imported was
# In which of our turns of importing anew a module came, at the latest, and in which it replaced an older one. What came
# before that still holds names of the older.
came: WeakKeyDictionary[ModuleType, int] = WeakKeyDictionary()
renewed: WeakKeyDictionary[ModuleType, int] = WeakKeyDictionary()
turns = itertools.count(1)
turn = 0
warm = 0  # how many modules were there before any of an application could be


@dataclass(slots=True)
class Version:
    """A plug-in class, and for each module that was imported for it anew: what was there before, and what came."""

    kind: type
    replaced: dict[str, tuple[ModuleType | None, ModuleType]] = field(default_factory=dict)

    def withdraw(self) -> None:
        """The version is not wanted after all: put back what was there before, where nothing came since."""
        for name, (old, new) in sorted(self.replaced.items()):  # a package before what is in it
            if sys.modules.get(name) is new:
                put(name, old)
        self.replaced.clear()


def all_here_is_warm() -> None:
    """A process of plug-ins has just begun: no module that is imported by now is of its application.

    To look at a module writes to its reference count, so a forked process that looked at the hundreds it was born with
    would copy hundreds of pages.
    """
    global warm
    warm = len(sys.modules)


def near(name: str, file: str) -> dict[str, ModuleType]:
    """The imported modules that may belong together with module `name`, which is in `file`: those of its package, and
    if that is not an installed one, all that lie in the folder that it is imported from."""
    package = name.partition(".")[0]
    if package == FRAMEWORK:
        return {}
    own = folder_of(name, file) if file else None
    return {
        other: module
        for other, module in newer_than_warm()
        if other == package or other.startswith(package + ".")
        or (own and is_own(there := file_of(module)) and there.startswith(own) and other not in SCRIPTS
            and other.partition(".")[0] != FRAMEWORK)
    }  # fmt: skip


def folder_of(name: str, file: str) -> str | None:
    """The folder that a module is imported from: the outermost on the path that its file lies in. None: installed."""
    folder = file = os.path.abspath(file)
    for _ in range(name.count(".") + 1 + (os.path.basename(file) == "__init__.py")):
        folder = os.path.dirname(folder)
    folders = [folder, *(os.path.abspath(each) for each in sys.path)]
    around = min(
        (each.rstrip(os.sep) + os.sep for each in folders if file.startswith(each.rstrip(os.sep) + os.sep)), key=len
    )
    return around if is_own(around) and around != os.sep else None


def newer_than_warm() -> Iterator[tuple[str, ModuleType]]:
    for name in list(itertools.islice(reversed(sys.modules), max(0, len(sys.modules) - warm))):
        module = sys.modules.get(name)
        if isinstance(module, ModuleType):
            yield name, module


def is_own(file: str) -> bool:
    """Is a file neither of Python's library nor of an installed package?"""
    return bool(file) and not file.startswith(LIBRARY) and not any(each in file for each in INSTALLED)


def file_of(module: ModuleType) -> str:
    file = vars(module).get("__file__")  # not getattr, which lets lazy modules import themselves
    return os.path.abspath(file) if isinstance(file, str) else ""


# -- what has changed -------------------------------------------------------------------------------------------


def remember(modules: Near) -> None:
    """Note when the sources of these modules were written, so that it shows which of them have changed since."""
    for module in modules.values():
        if module not in written:
            written[module], came[module] = source_times(file_of(module)), turn


def remember_here(name: str) -> None:
    """As `remember`, of module `name` and what belongs to it, where the program has imported it by itself."""
    module = sys.modules.get(name)
    if isinstance(module, ModuleType) and module not in written:
        remember(near(name, file_of(module)))


def unremembered(modules: Near) -> set[str]:
    """Those that came since."""
    return {name for name, module in modules.items() if module not in written}


def source_times(file: str) -> Times:
    """When a source was last written and changed; zeros where there is none."""
    try:
        found = os.stat(file)
        return found.st_mtime_ns, found.st_ctime_ns
    except OSError:
        return 0, 0


def stale_modules(name: str, file: str, members: Near, anew: Set[str] = frozenset()) -> set[str]:
    """Those of `members` that module `name` is made of and that have changed, or are in `anew`, or use one that has or
    is, now or since they were imported."""
    graph = {each: used_by(each, file if each == name else "", members) for each in made_of(name, file, members)}
    stale = {
        each for each, used in graph.items() if each in members
        and (each in anew or is_changed(members[each])
             or any(is_newer(members[other], members[each]) for other in used))
    }  # fmt: skip
    waiting = list(stale)
    while waiting:
        changed = waiting.pop()
        users = {each for each, used in graph.items() if changed in used and each in members} - stale
        stale |= users
        waiting += users
    return stale


def is_changed(module: ModuleType) -> bool:
    return module in written and written[module] != source_times(file_of(module))


def is_newer(module: ModuleType, user: ModuleType) -> bool:
    """Has `module` replaced the one that `user` was made of?"""
    return renewed.get(module, 0) > came.get(user, turn)


# -- what uses what ---------------------------------------------------------------------------------------------


def made_of(name: str, file: str, members: Near) -> set[str]:
    """Module `name` and all of `members` that it uses, directly or not. `file`: its source, imported or not."""
    found, waiting = {name}, [name]
    while waiting:
        user = waiting.pop()
        more = used_by(user, file if user == name else "", members) - found
        found |= more
        waiting += more
    return found


def used_by(name: str, file: str, members: Near) -> set[str]:
    """Those of `members` that a module uses: what its source imports as it is on disk, and what its names are of."""
    module = members.get(name)
    found: set[str] = set()
    file = file or (file_of(module) if module is not None else "")
    package = name if os.path.basename(file) == "__init__.py" else name.rpartition(".")[0]
    for level, base, names in imports_in(file, source_times(file)):
        try:
            base = importlib.util.resolve_name("." * level + base, package) if level else base
        except ImportError:  # beyond the top: importing it will say so
            continue
        found |= {inner if (inner := f"{base}.{each}") in members else base for each in names} if names else {base}
    if module is not None:
        for each, value in list(vars(module).items()):
            of = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(of, str) and of != f"{name}.{each}":  # what is in a package is its attribute, used or not
                found.add(of)
    return (found & members.keys()) - {name}


@lru_cache(maxsize=4096)
def imports_in(file: str, times: Times) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """What a source file imports, wherever it says so: (leading dots, module, the names from it). `times`: of the file,
    for the cache."""
    import ast  # here, as most processes never ask

    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):  # importing it will say so
        return ()
    found: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, each.name, ()) for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(each.name for each in node.names)))
    return tuple(found)


# -- anew -------------------------------------------------------------------------------------------------------


def import_anew(
    name: str, file: str, members: Near, anew: Set[str], import_it: Callable[[], ModuleType]
) -> dict[str, tuple[ModuleType | None, ModuleType]]:
    """Call `import_it` with module `name`, and every one that it is made of and that is stale or in `anew`, out of the
    way; returns what was replaced.

    Unlike `importlib.reload`, no name of the old version survives in the new one; the old one stays whole for who uses
    it. Where the import fails, everything is as before.
    """
    global turn
    turn = next(turns)
    stale = (stale_modules(name, file, members, anew) | {name}) & members.keys()
    for each in sorted(stale, reverse=True):
        put(each, None)
    importlib.invalidate_caches()
    for folder in {os.path.dirname(file_of(members[each])) for each in stale}:
        drop_stale_bytecode(folder)
    try:
        for each in sorted(stale):  # a package before what is in it
            if hasattr(members[each], "__path__"):
                run(importlib.util.find_spec(each), file_of(members[each]), members)
        import_it()
        for each in sorted(stale - sys.modules.keys()):  # imported only where it is used, such as in a function
            if os.path.exists(file_of(members[each])):
                importlib.import_module(each)
    except BaseException:
        Version(object, replaced(name, file, members)).withdraw()
        raise
    finally:
        for each in sorted(stale - sys.modules.keys()):  # it is gone: it is as it was for whoever has it
            put(each, members[each])
    new = replaced(name, file, members)
    renewed.update({module: turn for before, module in new.values() if before is not None})
    return new


def run(spec: ModuleSpec | None, file: str, members: Near) -> ModuleType:
    """Import a module that is to be anew. A package finds those of its modules as attributes that are not."""
    if spec is None or spec.loader is None:
        raise NotFound(f"{file} can't be imported as Python")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(spec.name)
    for other in members:
        if other.rpartition(".")[0] == spec.name and other in sys.modules:
            setattr(module, other.rpartition(".")[2], sys.modules[other])
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        put(spec.name, before)
        raise
    put(spec.name, module)
    return module


def replaced(name: str, file: str, members: Near) -> dict[str, tuple[ModuleType | None, ModuleType]]:
    now = near(name, file)
    return {each: (members.get(each), now[each]) for each in now if now[each] is not members.get(each)}


def put(name: str, module: ModuleType | None) -> None:
    """Let `name` be this module for whoever imports it from now on; None: let them import it anew."""
    parent, _, child = name.rpartition(".")
    package = sys.modules.get(parent)
    if module is not None:
        sys.modules[name] = module
        if package is not None:
            setattr(package, child, module)
    else:
        sys.modules.pop(name, None)
        if package is not None:
            vars(package).pop(child, None)


def drop_stale_bytecode(folder: str) -> None:
    """Remove bytecode that is older than its source: Python itself only looks at whole seconds and the size, and at the
    time that the source says."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                cached = importlib.util.cache_from_source(entry.path)
                with contextlib.suppress(OSError):
                    if os.stat(cached).st_mtime_ns <= max(source_times(entry.path)):
                        os.unlink(cached)
