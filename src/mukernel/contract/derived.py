"""Interfaces of classes and functions that never heard of mukernel: read from their types."""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, TypeVar, overload

from .contract import Contract, plain_name, public_functions
from .errors import ContractError
from .interface import HOOKS, Interface, unimplemented
from .method import Method
from .signature import read_method

T = TypeVar("T")
FIRST = "1.0"  # the version of what was never given one
_made: weakref.WeakKeyDictionary[Any, dict[tuple[str, tuple[str, ...]], type[Interface]]] = weakref.WeakKeyDictionary()


@overload
def interface_of(kind: type[T], *, only: Sequence[str] = (), name: str | None = None) -> type[T]: ...
@overload
def interface_of(kind: Callable[..., Any], *, name: str | None = None) -> type[Any]: ...
def interface_of(kind: Any, *, only: Sequence[str] = (), name: str | None = None) -> Any:
    """The interface that a plain class, or a Protocol, stands for: version 1.0, with its typed public methods.

    To type checkers it is the class itself, so `kernel.get(interface_of(Formatter))` is a Formatter. Of an Interface it
    is the interface itself; of a typed function, an interface that has its name, and it as the one method. `only`:
    these methods, and no others. `name`: of the interface, default the class's own.
    Raises ContractError that lists every method that can't be served as it is.
    """
    if not isinstance(kind, type | FunctionType):
        raise ContractError(f"interface_of: got {kind!r}, wanted a class, or a function")
    if isinstance(kind, type) and issubclass(kind, Interface):
        return kind
    if isinstance(only, str) or not all(isinstance(each, str) for each in only):
        raise ContractError(f"interface_of: only: got {only!r}, wanted a list of names of methods")
    key = name or plain_name(kind), tuple(only)
    made = _made.setdefault(kind, {})
    if key not in made:
        made[key] = _derived(kind, *key) if isinstance(kind, type) else _of_function(kind, key[0])
    return made[key]


def _of_function(function: FunctionType, name: str) -> type[Interface]:
    method = read_method(name, 0, function.__name__, function, {}, bound=True)
    if method.name in HOOKS or method.name.startswith("_"):
        raise ContractError(f"{name}: {method.name!r} can't be the name of a method: wanted a function of another name")
    return _made_of(function, Contract(name, FIRST, [method], method.documentation), {method.name: function})


def _derived(kind: type, name: str, only: tuple[str, ...]) -> type[Interface]:
    functions = public_functions(kind)
    problems = [
        f"{name}.{each}: there is no such method, or it is no plain one" for each in only if each not in functions
    ]
    methods: list[Method] = []
    for method in only or functions:
        if method not in functions:
            continue
        owner, function = functions[method]
        if method in HOOKS:
            problems.append(f"{name}.{method}: {method!r} is {HOOKS[method]}, so no interface can have it")
            continue
        try:
            read = read_method(name, len(methods), method, function, vars(owner))
            Contract(name, FIRST, [read])  # that its types can travel
        except ContractError as error:
            problems.append(str(error))
        else:
            methods.append(read)
    if problems:
        raise ContractError(
            f"{plain_name(kind)} can't be served by all methods that were named; wanted others, or fewer"
            if only
            else f"{plain_name(kind)} can't be served as it is; name the methods that are to be served, in an "
            f'application file as "module:{plain_name(kind)}[one, another]"',
            problems,
        )
    if not methods:
        raise ContractError(
            f"{plain_name(kind)} has no typed public method, of which an interface could be made: wanted an Interface "
            "class, or a class that has one"
        )
    contract = Contract(name, FIRST, methods, inspect.cleandoc(kind.__doc__ or ""))
    return _made_of(kind, contract, {each.name: functions[each.name][1] for each in methods})


def _made_of(subject: Any, contract: Contract, functions: dict[str, Callable[..., Any]]) -> type[Interface]:
    def fill(namespace: dict[str, Any]) -> None:
        namespace.update({name: unimplemented(contract.name, each) for name, each in functions.items()})
        namespace.update(__module__=subject.__module__, __doc__=subject.__doc__, __cached_contract__=contract)

    return types.new_class(subject.__name__, (Interface,), {"name": contract.name, "version": FIRST}, fill)
