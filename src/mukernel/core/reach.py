"""Reach: what the sandbox of a plug-in may write to, and what others open by a name, which must not lie in there.

Who may write to a folder may put a symbolic link in the place of whatever lies in it. A sandbox's own root holds it to
what it was given; but whoever opens that name outside (the kernel, which mounts folders into other sandboxes, and the
plug-ins that are in none) would be led anywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..contract import ContractError
from ..deployment import read_request
from ..sandbox.policy import Sandbox, contains, importable_from, libraries, replaceable
from .capabilities import is_sandbox
from .messages import Source
from .registry import Options

LONGEST_PATH = 4096  # bytes; a longer text is none
WITHIN = "*"  # for all that is looked up in a folder
Opened = tuple[str, str]  # what it is to whom, as messages say it; its path
Plugins = Mapping[str, tuple[Source, Options]]


@dataclass(frozen=True, slots=True)
class Reach:
    """Folders of a kernel. `states`: those of which no sandbox may see anything, such as that of the control socket;
    `stores`: those that none may write to, as what the kernel runs is installed there; `imports`: those that it will
    import from, besides `sys.path`."""

    states: Sequence[str] = ()
    stores: Sequence[str] = ()
    imports: Sequence[str] = ()

    def check(self, name: str, source: Source, options: Options, others: Plugins) -> None:
        """Raises ContractError where a plug-in can't be started as it is meant to beside the others of its kernel."""
        plugins = {**others, name: (source, options)}
        for writer, text in self.problems(plugins, name):
            raise ContractError(f"plug-in {writer!r}: {text}")

    def problems(self, plugins: Plugins, concerning: str | None = None) -> list[tuple[str, str]]:
        """What sandboxes were given and must not have: the name of the plug-in, and a text that begins with the key.
        `concerning`: only what that plug-in has to do with."""
        found: dict[tuple[str, str], None] = {}  # each once
        for name, (source, options) in plugins.items():
            sandbox = sandbox_of(options)
            if sandbox is None:
                continue
            if concerning in (None, name):
                found |= dict.fromkeys((name, text) for text in self.seen(source, sandbox))
            if sandbox.write:
                ours = self.opened_by_kernel() if concerning in (None, name) else ()
                theirs = opened_for(name, plugins, None if concerning == name else concerning)
                for what, path in (*ours, *theirs):
                    if overlap := replaceable([path], sandbox.write):
                        found[name, misplaced(overlap[1], path, what)] = None
        return list(found)

    def seen(self, source: Source, sandbox: Sandbox) -> Iterator[str]:
        """What of the kernel's own folders a sandbox would see, or write to."""
        asked = [(f"sandbox.{what}", path) for what in ("read", "write") for path in getattr(sandbox, what)]
        imported = [("sandbox", path) for path in importable_from(imported_for(source), own=False)]
        for state in map(os.path.realpath, self.states):
            for key, path in (*asked, *imported):
                within = key != "sandbox" and contains(state, os.path.realpath(path))  # an environment lies in there
                if within or contains(os.path.realpath(path), state):
                    where = "from which it imports" if key == "sandbox" else "which it is given"
                    yield (
                        f"{key}: got {path!r}, {where}, where {state!r} is, in which are the kernel's socket and "
                        "logs; wanted that outside of all that a sandbox sees (--state DIR, or log_folder)"
                    )
        for store in map(os.path.realpath, self.stores):
            for path in sandbox.write:
                if contains(store, os.path.realpath(path)):
                    yield misplaced(path, store, "what the kernel installs, and from where")

    def opened_by_kernel(self) -> Iterator[Opened]:
        yield from (("the kernel's socket and logs", path) for path in self.states)
        yield from (
            ("where the kernel imports from", os.path.join(path, WITHIN)) for path in (*sys.path, *self.imports)
        )
        yield from (("what the kernel installs, and from where", os.path.join(path, WITHIN)) for path in self.stores)
        yield from (("the kernel's shared libraries", os.path.join(path, WITHIN)) for path in libraries())


def misplaced(folder: str, path: str, what: str) -> str:
    return (
        f"sandbox.write: got {folder!r}, which leads to {path!r} ({what}): it could put something else there, a link "
        "that leads anywhere, too; wanted folders that lie beside each other"
    )


def sandbox_of(options: Options) -> Sandbox | None:
    """What the process of a plug-in is enclosed by; None: by nothing."""
    return options.sandbox or Sandbox() if is_sandbox(options.placement) else None


def imported_for(source: Source) -> list[str]:
    """Where the code of a plug-in, and what it imports, is looked for."""
    own = [os.path.dirname(source.file)] if source.file else []
    return [*own, *source.path, *([source.environment] if source.environment else sys.path)]


def opened_for(writer: str, plugins: Plugins, only: str | None) -> Iterator[Opened]:
    """What is opened by a name, outside of the sandbox of `writer`, for plug-ins, or only for `only`: what they are
    installed from; and of others their code, what is mounted into their sandboxes, and what the configuration of those
    that are in none may name."""
    placement = plugins[writer][1].placement
    for name, (source, options) in plugins.items():
        if only not in (None, name):
            continue
        for path in installed_from(source):
            yield f"what plug-in {name!r} is installed from", os.path.join(path, WITHIN)
        if name == writer or (":" in placement and options.placement == placement):
            continue
        for path in imported_for(source):
            yield f"where plug-in {name!r} is imported from", os.path.join(path, WITHIN)
        sandbox = sandbox_of(options)
        if sandbox is None:
            yield from ((f"{key} of plug-in {name!r}", path) for key, path in paths_in(options.config))
        else:
            yield from ((f"sandbox.read of plug-in {name!r}", path) for path in sandbox.read)
            yield from ((f"sandbox.write of plug-in {name!r}", path) for path in sandbox.write)


def installed_from(source: Source) -> Iterator[str]:
    """The wheel, directory or repository of an environment, whose build runs in no sandbox, and its interpreter."""
    request = read_request(source.use, source.folder or None, source.python) if source.use else None
    if request is not None:
        yield from (*paths_of(request.target), *paths_of(request.python))


def paths_in(config: Mapping[str, Any]) -> Iterator[Opened]:
    """What may be a path in a configuration, however deep in it, and its key. Only the plug-in knows what is one; a
    text that is none and leads into a folder of a sandbox all the same is rare, and no loss."""
    waiting: list[tuple[str, Any]] = [("config", config)]
    while waiting:
        where, each = waiting.pop()
        if isinstance(each, str):
            yield from ((where, path) for path in paths_of(each))
        elif isinstance(each, Mapping):
            waiting += [(f"{where}.{key}", inner) for key, inner in each.items()]
        elif isinstance(each, list | tuple):
            waiting += [(f"{where}[{number}]", inner) for number, inner in enumerate(each)]


def paths_of(text: str) -> Iterator[str]:
    """The paths that a text may mean: itself, or what a URL names: "file:///data", "sqlite:////data/shop.db",
    "zip://inner::/data/all.zip"."""
    if "\0" in text or len(text) > LONGEST_PATH:
        return
    for part in text.split("::"):
        scheme, separator, rest = part.partition("://")
        path = os.path.expanduser(rest if separator else part)
        if separator and scheme.partition("+")[0] == "sqlite":  # three slashes: relative; four: absolute
            path = rest.removeprefix("/").removeprefix("file:")
        for each in dict.fromkeys((path, path.partition("?")[0])):
            if os.sep in each or (each and os.path.lexists(each)):
                yield each
