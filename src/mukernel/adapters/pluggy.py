"""pluggy with processes: `from mukernel.adapters.pluggy import PluginManager` in place of `pluggy.PluginManager` gives
each plug-in of a host that was written for pluggy a process of its own, or whatever placement is chosen for it."""

from __future__ import annotations

import copy
import itertools
import os
import re
import sys
import types
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import ModuleType, TracebackType
from typing import Any, NoReturn, TypeVar

try:
    import pluggy
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "mukernel.adapters.pluggy needs pluggy: pip install 'mukernel[pluggy]'", name=error.name
    ) from None

from ..contract import ContractError, DeadlineExceeded, Overloaded, PluginCrashed, RemoteError, Unavailable
from ..core.capabilities import is_sandbox
from ..core.kernel_thread import KernelThread
from ..kernel.clock import Clock
from .pluggy_process import (
    Answer,
    Hooks,
    checked_importable,
    exception_of,
    name_at_the_top,
    raised_of,
    remote,
    this_process,
)
from .records import fields_of, name_of, one_of
from .values import can_change, pack, unpack

T = TypeVar("T")
Classes = dict[str, type]  # of records, by name
RECIPE = "_mukernel_recipe"
INLINE = "inline"
DRAIN = 30.0  # seconds for hooks that others wait for when a plug-in ends; what was interrupted has nobody who waits
CLOCK = Clock()
NUMBERS = itertools.count(1)  # in the names of plug-ins in a kernel, which several managers may share


def isolated(kind: type[T], /, *args: Any, **kwargs: Any) -> T:
    """In place of `kind(*args, **kwargs)` as a plug-in to register: the object is made in the plug-in's own process.

    What is returned stands for it: an object of a class derived from `kind`, no constructor of which has run. Raises
    ContractError for arguments that can't travel, and for a class of which nothing can be made so: one of dicts,
    exceptions or other types that Python makes itself, or one that lets no class be derived.
    """
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    try:
        derived = types.new_class(kind.__name__, (_Isolated, kind), exec_body=lambda body: body.update(names))
        made: T = object.__new__(derived)
    except TypeError as error:
        raise ContractError(
            f"isolated({kind.__qualname__}, ...): nothing can stand for such an object here: {error}; wanted a plain "
            f"class: put the hooks into one that holds a {kind.__qualname__}"
        ) from None
    recipe = _Recipe(kind, pack((args, kwargs), f"{kind.__qualname__}: its arguments"))
    object.__setattr__(made, RECIPE, recipe)
    return made


@dataclass
class _Recipe:
    """Of which class an object is made in another process, and with which arguments, packed."""

    kind: type
    arguments: bytes


class _Isolated:
    """What stands for an object of another process has none of its attributes, and is asked for them by nobody: hosts
    compare and show plug-ins, and their own methods for that would look for some."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other  # else Python would ask the other one

    def __init_subclass__(cls) -> None:
        """No business of the plug-in's base class, which may count those derived from it."""

    def __repr__(self) -> str:
        recipe: _Recipe = vars(self)[RECIPE]
        return f"isolated({recipe.kind.__qualname__}, ...)"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self!r} stands for an object of another process, and has no {name!r}")


@dataclass
class _Process:
    """The process of one plug-in: its name in the kernel, its hooks, one object for each caller that waits, who is told
    when one has left, and whether one was interrupted: then the process may be at that hook still."""

    plugin: str
    hooks: Hooks
    callers: set[object] = field(default_factory=set)
    leaves: SimpleQueue[None] | None = None  # written in C: a signal handler may raise anywhere
    was_left: bool = False
    stand_ins: dict[int, tuple[pluggy.HookImpl, pluggy.HookImpl]] = field(default_factory=dict)

    def was_called(self, waited: object) -> None:
        """A caller has left."""
        self.callers.discard(waited)
        if self.leaves is not None:
            self.leaves.put(None)


class PluginManager(pluggy.PluginManager):
    """As pluggy's, but that plug-ins run elsewhere; calls come in the same order, with the same results.

    `placement`: where plug-ins run, as in `Kernel.load`: "process", "process:NAME", or "inline", which is as pluggy
    does. `placements`: for single plug-ins, by the name under which they are registered. `kernel`: one that runs
    already; without it there is one for this manager, opened with its first process and closed with it. `records`: data
    classes, attrs classes and enums that plug-ins may return, beyond those that a call has brought them.

    In the process of a plug-in, which mostly imports its host, that host's manager starts no process: all plug-ins are
    inline there, but for those whose hooks may not run there: `isolated` ones, and those of a sandbox outside of one.
    """

    def __init__(
        self, project_name: str, *, placement: str = "process", placements: Mapping[str, str] | None = None,
        kernel: KernelThread | None = None, records: Sequence[type] = (),
    ) -> None:  # fmt: skip
        super().__init__(project_name)
        self.placement, self.placements = placement, dict(placements or {})
        self.kernel, self._own_kernel = kernel, kernel is None
        self.records = {name_of(each, "records"): each for each in records}
        self._processes: dict[str, _Process] = {}
        self._only_elsewhere: set[str] = set()  # plug-ins whose hooks may not run here
        run = self._inner_hookexec

        def run_with_stand_ins(
            hook_name: str, hook_impls: Sequence[pluggy.HookImpl], caller_kwargs: Mapping[str, object],
            firstresult: bool,
        ) -> object:  # fmt: skip
            """All calls of hooks come by here, those of history, too, and those of a host's own `_hookexec`: each
            implementation that is elsewhere is replaced by one that calls it there; order, wrappers and results are
            pluggy's own affair."""
            return run(hook_name, [self._stand_in(each, hook_name) for each in hook_impls], caller_kwargs, firstresult)

        self._inner_hookexec = run_with_stand_ins

    def __enter__(self) -> PluginManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes of all plug-ins; their hooks can't be called any more. The end of the program does so. Once
        the kernel has been closed they have ended; in a process that was forked since they go on, and are its parent's.
        """
        with ExitStack() as ends:  # each of them, whatever an earlier one raises
            ends.callback(self._close_own_kernel)
            for name in reversed(self._processes):
                ends.callback(self.unregister, name=name)
            self._until_left(*self._processes)

    def _close_own_kernel(self) -> None:
        if self._own_kernel and self.kernel is not None:
            self.kernel.close()
            self.kernel = None

    # -- plug-ins -------------------------------------------------------------------------------------------------

    def register(self, plugin: Any, name: str | None = None) -> str | None:
        """As pluggy's. Raises ContractError for a plug-in that no other process can import, or make."""
        known = name or (self.get_canonical_name(plugin) if plugin is not None else "")
        if plugin is None or known in self._name2plugin or self.is_registered(plugin):
            return super().register(plugin, name)  # which says what is wrong, if anything
        placement = self.placements.get(known, self.placement)
        if placement == INLINE:
            if is_isolated(plugin):
                raise ContractError(
                    f"plug-in {known!r} is isolated(...), and its placement is 'inline': make the object"
                )
            return super().register(plugin, name)
        if this_process.plugin:
            if is_isolated(plugin) or (is_sandbox(placement) and not this_process.sandboxed):
                self._only_elsewhere.add(known)
            return super().register(plugin, name)
        self._processes[known] = self._start(plugin, known, placement)  # before pluggy replays its history to it
        try:
            return super().register(plugin, name)
        except BaseException:
            if self._name2plugin.get(known) is plugin:  # before 1.7 pluggy leaves what it has refused half registered
                super().unregister(plugin, known)
            self._end(known)
            raise

    def unregister(self, plugin: Any | None = None, name: str | None = None) -> Any | None:
        """As pluggy's; the plug-in's process is ended."""
        known = name or (self.get_name(plugin) if plugin is not None else None)
        try:
            found = super().unregister(plugin, name)
            self._until_left(known)
            return found
        finally:
            if known is not None:
                self._only_elsewhere.discard(known)
                self._end(known)

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> pluggy.HookimplOpts | None:
        """As pluggy's. Before 1.7 that reads all attributes, and what stands for an object lacks some: no hooks."""
        try:
            return super().parse_hookimpl_opts(plugin, name)
        except AttributeError:
            if isinstance(plugin, _Isolated):
                return None
            raise

    def _start(self, plugin: Any, name: str, placement: str) -> _Process:
        module, attribute, recipe = located(plugin, name)
        file = os.path.abspath(getattr(sys.modules[module], "__file__", None) or "")
        if self.kernel is None:
            self.kernel = KernelThread().start()
        known = re.sub(r"[^A-Za-z0-9_.-]", "-", name).strip("-._")[:40] or "plugin"
        known = f"{known}-{next(NUMBERS)}"
        self.kernel.load(
            "mukernel.adapters.pluggy_process:HookProcess", name=known, placement=placement, threads=1, drain=0.0,
            config={
                "name": name, "module": module, "file": file, "attribute": attribute, "made_with": recipe,
                "sandboxed": is_sandbox(placement),
            },
        )  # fmt: skip
        return _Process(known, self.kernel.get(Hooks, plugin=known))

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None and self.kernel is not None:
            with suppress(Unavailable):  # it is gone already, with its kernel; or it is not this process's own
                self.kernel.unload(process.plugin, drain=0.0)

    def _until_left(self, *names: str | None) -> None:
        if self.kernel is not None and self.kernel.running:  # else there is nobody who could leave
            until_left([process for name, process in self._processes.items() if name in names])

    # -- hooks ----------------------------------------------------------------------------------------------------

    def _stand_in(self, method: pluggy.HookImpl, hook_name: str) -> pluggy.HookImpl:
        process = self._processes.get(method.plugin_name)
        if process is None:
            return refusing(method, hook_name) if method.plugin_name in self._only_elsewhere else method
        known = process.stand_ins.get(id(method))
        if known is None or known[0] is not method:
            made = copy.copy(method)
            made.function = caller(process, method, self._attribute(method, hook_name), self.records)  # type: ignore[misc]
            known = process.stand_ins[id(method)] = method, made
        return known[1]

    def _attribute(self, method: pluggy.HookImpl, hook_name: str) -> str:
        """Under which name the plug-in has the function of a hook."""
        for attribute in dir(method.plugin):
            options = self.parse_hookimpl_opts(method.plugin, attribute)
            named = options is not None and (options.get("specname") or attribute) == hook_name
            if named and getattr(method.plugin, attribute) == method.function:
                return attribute
        raise ContractError(f"hook {hook_name} of plug-in {method.plugin_name!r}: the plug-in has it no more")


def is_isolated(plugin: object) -> bool:
    return RECIPE in getattr(plugin, "__dict__", {})


def refusing(method: pluggy.HookImpl, hook_name: str) -> pluggy.HookImpl:
    """In the place of an implementation that may not run in this process."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise ContractError(
            f"hook {hook_name} of plug-in {method.plugin_name!r}: it runs in a process of its own, and this is that of "
            f"plug-in {this_process.plugin!r}; wanted this call in the host"
        )

    made = copy.copy(method)
    made.function = refuse  # type: ignore[misc]
    return made


def until_left(processes: Sequence[_Process]) -> None:
    """Wait for the hooks for which somebody waits, DRAIN seconds at most; once for each process, so that who interrupts
    it, by Ctrl-C, waits no more."""
    asked = [(each, SimpleQueue[None]()) for each in processes if each.leaves is None]
    for process, leaves in asked:
        process.leaves = leaves
    end = CLOCK.now() + DRAIN
    for process, leaves in asked:
        while process.callers and (left := end - CLOCK.now()) > 0:
            with suppress(Empty):
                leaves.get(timeout=left)


def located(plugin: Any, name: str) -> tuple[str, str, bytes]:
    """Where another process finds a plug-in: module, attribute in it, and the recipe if it is an object to be made.
    Raises ContractError."""
    recipe: _Recipe | None = getattr(plugin, "__dict__", {}).get(RECIPE)
    wanted = plugin if recipe is None else recipe.kind
    if isinstance(wanted, ModuleType):
        module, attribute = wanted.__name__, ""
    elif isinstance(wanted, type):
        module, attribute = wanted.__module__, wanted.__qualname__
    else:
        module, attribute = type(wanted).__module__, name_at_the_top(wanted)
        if not attribute:
            kind = type(wanted).__qualname__
            raise ContractError(
                f"plug-in {name!r} is an object of {kind}, which was made in this process and can't leave it: register "
                f"isolated({kind}, ...) in its place, or keep it here: placements={{{name!r}: 'inline'}}"
            )
    checked_importable(sys.modules.get(module), attribute, wanted, name)
    return module, attribute, b"" if recipe is None else recipe.arguments


def caller(process: _Process, method: pluggy.HookImpl, attribute: str, records: Classes) -> Callable[..., Any]:
    """In the place of a hook's function: calls it in the process of its plug-in. `records`: what that may return."""
    where = f"hook {attribute} of plug-in {method.plugin_name!r}"

    def answer_of(ask_for: Callable[..., Answer], *args: Any) -> Answer:
        waits = object()
        process.callers.add(waits)
        try:
            return ask_for(*args)
        except (PluginCrashed, Unavailable, DeadlineExceeded, Overloaded) as error:
            raise type(error)(f"{where}: {error}") from error
        except BaseException as error:
            process.was_left = process.was_left or not isinstance(error, Exception)
            raise
        finally:
            process.was_called(waits)

    def ask(ask_for: Callable[..., Answer], args: Sequence[Any], kwargs: dict[str, Any], known: Classes) -> Answer:
        arguments = [
            pack(each, f"{where}: argument {name!r}", known) for name, each in zip(method.argnames, args, strict=True)
        ]
        named = {name: pack(each, f"{where}: argument {name!r}", known) for name, each in kwargs.items()}
        answer = answer_of(ask_for, attribute, arguments, named)
        given = {str(place): each for place, each in enumerate(args)} | kwargs
        with suppress(ContractError) if answer.raised is not None else nullcontext():  # what was raised goes before
            for key, data in answer.changed.items():
                refill(given.get(key), unpack(data, one_of(known, where)), where)
        return heard(answer, known)

    def call(*args: Any, **kwargs: Any) -> Any:
        known = {**records}
        return unpack(ask(process.hooks.call, args, kwargs, known).value, one_of(known, where))

    def finish(token: int, result: Any, error: BaseException | None, known: Classes) -> Answer:
        old_style = bool(method.hookwrapper)
        if error is not None and not isinstance(error, Exception) and process.was_left:
            raise error  # who interrupts does not wait for a process that may be at the hook that was left
        if error is not None:
            return heard(answer_of(process.hooks.finish_raised, token, raised_of(error), attribute, old_style), known)
        try:
            packed = pack(result, f"{where}: the result that it wraps", known)
        except ContractError:
            process.hooks.abandon(token)
            raise
        return heard(answer_of(process.hooks.finish, token, packed, attribute, old_style), known)

    def wrapper(*args: Any, **kwargs: Any) -> Generator[None, Any, Any]:
        known = {**records}
        token = ask(process.hooks.begin, args, kwargs, known).token
        try:
            result = yield
        except GeneratorExit:
            process.hooks.abandon(token)
            raise
        except BaseException as error:
            answer = finish(token, None, error, known)
            if answer.passed_on:
                raise
        else:
            answer = finish(token, result, None, known)
        return unpack(answer.value, one_of(known, where))

    def old_wrapper(*args: Any, **kwargs: Any) -> Generator[None, Any, None]:
        known = {**records}
        token = ask(process.hooks.begin, args, kwargs, known).token
        try:
            outcome: Any = yield
        except GeneratorExit:
            process.hooks.abandon(token)
            raise
        error = outcome.exception
        answer = finish(token, None if error is not None else outcome.get_result(), error, known)
        if not answer.passed_on:
            outcome.force_result(unpack(answer.value, one_of(known, where)))

    return old_wrapper if method.hookwrapper else wrapper if method.wrapper else call


def heard(answer: Answer, known: Classes) -> Answer:
    """What was answered; raises what the hook raised, as itself where it is one of Python's own exceptions."""
    if answer.raised is None:
        return answer
    here = exception_of(answer.raised, one_of(known, "an exception"))
    raise here from None if isinstance(here, RemoteError) else remote(answer.raised)


def refill(held: Any, value: Any, where: str) -> None:
    """Make the caller's own list, dict, set or record what the hook has made of its copy, and those in a tuple."""
    kind, fields = type(held), fields_of(type(held))
    if type(value) is not kind or not can_change(held) or (kind is tuple and len(value) != len(held)):
        raise ContractError(
            f"{where}: its process says that it changed what was no list, dict, set or record of its arguments"
        )
    if kind is tuple:
        for each, new in zip(held, value, strict=True):
            if can_change(each):
                refill(each, new, where)
    elif fields is not None:
        for name in fields:
            object.__setattr__(held, name, getattr(value, name))
    else:
        held.clear()
        (held.extend if kind is list else held.update)(value)
