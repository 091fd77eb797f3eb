"""Sources: the files that a plug-in is made of, for whoever loads it anew when one of them is saved.

They are read, not imported: what import statements say, wherever they stand, also leads to modules that only a function
imports, to those that can't be imported as they are now, and to those that are not there yet.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from types import ModuleType

from .imported import FRAMEWORK, file_of, imports_in, is_own, made_of, source_times
from .messages import Source

Folders = tuple[str, ...]


def sources_of(source: Source, home: ModuleType | None, folder: str) -> list[str]:
    """The files under `folder` that a plug-in is made of, and those that it would be if they were there. `home`: the
    module of its class, which has been imported.

    They are the module that its `use` names, the packages that pass its class on, and `home` with all that it uses,
    directly or not; and the packages that they are in. `home` None: it could not be imported; they are all whose code
    may run when that is tried, also those that only a package on the way uses.
    """
    roots = () if source.environment else roots_in([*source.path, *sys.path], folder)  # of what is installed: none
    named = {source.file} if source.file else modules_on(roots, source.module)
    with warnings.catch_warnings():  # of what is in the sources: importing them tells it, too
        warnings.simplefilter("ignore")
        if home is None:
            return sorted(reached(named, roots, folder, whole=True))
        members = {
            name: each for name, each in list(sys.modules.items())
            if isinstance(each, ModuleType) and name.partition(".")[0] != FRAMEWORK and is_in(file_of(each), folder)
        }  # fmt: skip
        made = made_of(home.__name__, file_of(home), members)
        files = {file_of(members.get(name, home)) for name in made}
        found = named | passing_on(source, members) | modules_on(roots, home.__name__) | reached(files, roots, folder)
    return sorted(found - {""})


def roots_in(path: Iterable[str], folder: str) -> Folders:
    """The folders under `folder`, or itself, that modules are imported from."""
    return tuple(each for each in dict.fromkeys(map(os.path.abspath, path)) if is_in(os.path.join(each, ""), folder))


def is_in(file: str, folder: str) -> bool:
    return file.startswith(os.path.join(folder, "")) and is_own(file)


def passing_on(source: Source, members: Mapping[str, ModuleType]) -> set[str]:
    """The files of the packages that have what a plug-in's `use` names among their names."""
    found = getattr(sys.modules.get(source.module), source.name.partition(".")[0], None)
    packages = [each for each in members.values() if "__path__" in vars(each)]
    return {file_of(each) for each in packages if any(value is found for value in list(vars(each).values()))}


def reached(files: Iterable[str], roots: Folders, folder: str, whole: bool = False) -> set[str]:
    """These files, and those under `folder` that their import statements lead to, directly or not. `whole`: go on from
    the packages on the way, too."""
    found, seen = set(files), set(files)
    waiting = list(seen)
    while waiting:
        run, used = imported_by(waiting.pop(), roots)
        found |= {each for each in run if is_in(each, folder)}
        more = {each for each in (run if whole else used) - seen if is_in(each, folder)}
        seen |= more
        waiting += more
    return found


@cache  # whoever asks is thrown away with it
def imported_by(file: str, roots: Folders) -> tuple[set[str], set[str]]:
    """The files whose code the import statements of `file` would run, be they there or not; and those of them that it
    uses then, which the packages on the way are not."""
    run, used = set[str](), set[str]()
    for level, base, names in imports_in(file, source_times(file)) if os.path.isfile(file) else ():
        if level == 0 and base.partition(".")[0] == FRAMEWORK:
            continue
        package = file
        for _ in range(level):
            package = os.path.dirname(package)
        for root in [package] if level else roots:
            module = os.path.join(root, *base.split(".")) if base else root
            inner = [os.path.join(module, name) for name in names if name != "*"]
            run |= modules_on([root], base).union(*map(forms_of, inner))
            if level:
                run.add(os.path.join(root, "__init__.py"))
            for each in inner or [module]:
                used.update(there(each) or there(module))
    return run, used


def modules_on(roots: Iterable[str], dotted: str) -> set[str]:
    """The files of a module and of the packages that it is in, be they there or not."""
    found = set[str]()
    for stem in roots:
        for step in filter(None, dotted.split(".")):
            stem = os.path.join(stem, step)
            found.update(forms_of(stem))
    return found


def forms_of(stem: str) -> list[str]:
    """The files that a module may be, where the folder that it is in is there."""
    return [stem + ".py", os.path.join(stem, "__init__.py")] if os.path.isdir(os.path.dirname(stem)) else []


def there(stem: str) -> list[str]:
    return [each for each in forms_of(stem) if os.path.isfile(each)]
