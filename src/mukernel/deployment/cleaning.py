"""Cleaning: removing what nobody needs any more, never what somebody uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ..contract import NotFound, Unavailable
from .environment import Environment, size_of
from .store import UNFINISHED, Notes, Store
from .work import Work


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed. `size`: bytes, as its files say."""

    name: str
    size: int


def collect_garbage(
    store: Store, keep: Callable[[], Collection[str]], work: Work, dry: bool = False, lock_file: str = ""
) -> list[Removed]:
    """Remove every environment that is not named by `keep`, or is damaged, and that no process uses; and what only
    those were made of. `keep`: called once nobody else changes the store any more, since whoever did may have
    installed what is to be kept. `dry`: only say which. `lock_file`: of the application; what others of its name have
    asked for is kept, as long as they are there."""
    if not store.environments.exists():
        return []
    with store.locked(work):
        notes, own = store.notes(), keep()
        notes.askers = still_asking(notes, own, lock_file)
        kept = {*own, *notes.askers}
        gone = [
            removal(store, name)
            for name in store.names()
            if (name not in kept or store.damage(name)) and not store.is_held(name)
        ]
        if not dry:
            gone = [each for each in gone if store.remove_unused(each.name)]
            notes.failures = {}
            remove_unused_wheels(store)
            for name in os.listdir(store.tools):
                store.remove(store.tools / name)
            forget(store, {each.name for each in gone}, notes)  # last: a full disk has room for it by now, or none
        return gone


def uninstall(store: Store, name: str, work: Work) -> Removed:
    """Remove one environment. Raises NotFound, and Unavailable where it is being used."""
    with store.locked(work):
        if name not in store.names():
            known = ", ".join(store.names()) or "none"
            raise NotFound(f"no environment is named {name!r}; there are: {known}")
        gone = removal(store, name)
        if not store.remove_unused(name):
            raise Unavailable(f"the environment {name} is being used; swap, stop or unload the plug-in that runs in it")
        forget(store, {name}, store.notes())
        return gone


def removal(store: Store, name: str) -> Removed:
    """What removing an environment frees; a damaged one does not say its size."""
    found = store.find(name)
    return Removed(name, found.size if found is not None else size_of(store.path(name)))


def still_asking(notes: Notes, own: Collection[str], lock_file: str) -> dict[str, list[str]]:
    """For each environment, the applications that are there and asked for it; that of `lock_file`, by whichever path,
    asks for its `own` alone by now."""
    here = os.path.realpath(lock_file) if lock_file else ""
    asking = {
        name: [each for each in askers if (name in own if os.path.realpath(each) == here else os.path.exists(each))]
        for name, askers in notes.askers.items()
    }
    return {name: askers for name, askers in asking.items() if askers}


def forget(store: Store, names: Collection[str], notes: Notes) -> None:
    """Let the store remember `notes`, but for environments that are gone."""
    notes.environments = {key: name for key, name in notes.environments.items() if name not in names}
    notes.askers = {name: askers for name, askers in notes.askers.items() if name not in names}
    if notes == store.notes():  # else a full disk would refuse what need not be written
        return
    try:
        store.write_notes(notes)
    except OSError as error:
        raise Unavailable(
            f"what {store.folder} remembers of environments and failures can't be written: {error.strerror}; make "
            "room, and try again"
        ) from None


def remove_unused_wheels(store: Store) -> None:
    """Those that no environment was made of."""
    needed = {source for each in store.all() for source in made_of(each)}
    for path in map(Path, sorted(os.scandir(store.wheels), key=lambda each: each.name)):
        if path.name not in needed and not path.name.startswith(UNFINISHED):
            store.remove(path)


def made_of(environment: Environment) -> list[str]:
    return [*environment.sources, f"mukernel-{environment.runtime}"]
