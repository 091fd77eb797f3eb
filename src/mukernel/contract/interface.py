"""Interface, the typed contract that plug-ins meet at, and Plugin, the class that implements some."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from opcode import opmap
from types import CodeType
from typing import Any, ClassVar

from .contract import Contract, checked_version, plain_name
from .errors import ContractError
from .marks import checked_exceptions

# The instructions of which a body of nothing, of `...`, of a docstring or of `raise NotImplementedError`
# consists.
_EMPTY_NAMES = {
    "RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR", "POP_TOP",
    "COPY_FREE_VARS", "CALL_INTRINSIC_1", "RERAISE", "LOAD_GLOBAL", "PUSH_NULL", "PRECALL", "CALL", "CACHE",
    "RAISE_VARARGS",
}  # fmt: skip
_EMPTY_BODY = bytes(sorted(opmap[name] for name in _EMPTY_NAMES if name in opmap))
_CONSTANTS = bytes(opmap[name] for name in ("LOAD_CONST", "RETURN_CONST") if name in opmap)

# What the kernel asks of every plug-in, or gives it: an interface that declared one would have it called by both.
HOOKS = {
    "start": "a hook that the kernel calls when it has built a plug-in",
    "stop": "a hook that the kernel calls when it ends a plug-in",
    "save": "a hook that the kernel calls for a plug-in's state",
    "restore": "a hook that the kernel calls with a plug-in's state",
    "draining": "a hook that the kernel calls when a plug-in's long streams are to end",
    "health": "a hook that the kernel calls to check a plug-in",
    "checkpoint": "what a plug-in calls to hand the kernel its state",
    "state_version": "the version of what a plug-in's save returns",
}


class _LazyContract:
    """Computes an interface's contract when first asked for, since annotations may name classes defined
    later."""

    def __get__(self, instance: object, owner: type) -> Contract:
        if is_plugin(owner):
            raise ContractError(
                f"{plain_name(owner)} is a plug-in, which has no contract itself: wanted an interface that it serves"
            )
        cached = vars(owner).get("__cached_contract__")
        if isinstance(cached, Contract):
            return cached
        contract = Contract.of(owner)
        # Two threads may both get here; their contracts are equal, and the last one stays.
        type.__setattr__(owner, "__cached_contract__", contract)
        return contract


class Interface:
    """Base of every interface.

        class Greeter(Interface, version="1.0"):
            async def greet(self, name: str) -> str: ...

    Class keywords: version, "major.minor", default "1.0"; name, default the class's own; raises, exceptions
    that every method declares. The methods' bodies are `...`, and calling one that no plug-in implements
    raises ContractError; so does a method that is called as a plug-in's hook is. An interface may extend
    others. `Greeter.__contract__` is its Contract; asking for it raises ContractError where a declaration
    cannot be served.
    """

    __contract__: ClassVar[_LazyContract] = _LazyContract()
    __interface_name__: ClassVar[str]
    __interface_version__: ClassVar[str]
    __interface_raises__: ClassVar[tuple[type[Exception], ...]] = ()

    def __init_subclass__(
        cls,
        *,
        version: str | None = None,
        name: str | None = None,
        raises: type[Exception] | tuple[type[Exception], ...] = (),
        **keywords: Any,
    ) -> None:
        super().__init_subclass__(**keywords)
        own_name = plain_name(cls)
        if is_plugin(cls):
            if version is not None or name is not None or raises:
                raise ContractError(f"{own_name} is a plug-in: name=, version= and raises= belong to its interfaces")
            return
        cls.__interface_name__ = name or own_name
        cls.__interface_version__ = checked_version(own_name, "1.0" if version is None else version)
        cls.__interface_raises__ = (
            *cls.__interface_raises__,
            *checked_exceptions(f"{own_name}: raises=", raises),
        )
        for attribute, value in list(vars(cls).items()):
            if attribute.startswith("_"):
                continue
            if attribute in HOOKS:
                raise ContractError(
                    f"{own_name}.{attribute}: {attribute!r} is {HOOKS[attribute]}; give it another name"
                )
            if isinstance(value, (property, classmethod, staticmethod)):
                raise ContractError(f"{own_name}.{attribute} is a {type(value).__name__}: wanted methods only")
            if inspect.isfunction(value) and _is_empty(inspect.unwrap(value).__code__):
                setattr(cls, attribute, unimplemented(own_name, value))


class Plugin:
    """Base of every plug-in: `class English(Plugin, Greeter)`.

    In the constructor a parameter annotated with an Interface is injected (with Blocking[...], as a
    blocking proxy); the others are configuration. A plug-in may define these hooks, each as `def` or `async
    def`, and needs none:

    - start(self) -> None: after construction, before the first call; an exception fails the load or the swap.
    - stop(self) -> None: after the last call.
    - save(self) -> S: the state to hand over, of any type that an interface could send.
    - restore(self, state: S) -> None: takes over what save() returned, after start() and before the first call.
    - health(self) -> None: raises if the instance cannot serve.

    Once it is built, `await self.checkpoint()` hands the kernel what save() returns, to restart from. By a static
    or class method `config_problems(**config) -> list[str]` it may tell `mukernel check` what is wrong with those.
    """

    checkpoint: Callable[[], Awaitable[None]]  # set by whoever builds the instance
    grant_rights: ClassVar[tuple[str, ...]] = ()  # those in grants that it tells apart, where it asks caller_grant()
    grant_scopes: ClassVar[str] = ""  # "path" where scopes there are absolute paths; "": any text
    one_replica: ClassVar[bool] = False  # it has what several instances can't share, such as a folder


def is_plugin(subject: type) -> bool:
    """Does the class derive from Plugin?"""
    return Plugin in subject.__mro__


def interfaces_of(plugin_class: type) -> tuple[type[Interface], ...]:
    """The interfaces that a class implements, in method resolution order, Interface itself left out."""
    found = []
    for ancestor in plugin_class.__mro__:
        if issubclass(ancestor, Interface) and ancestor is not Interface and not is_plugin(ancestor):
            found.append(ancestor)
    return tuple(found)


def is_unimplemented(function: object) -> bool:
    """Is it an interface's own empty method?"""
    return getattr(function, "__mukernel_unimplemented__", False) is True


def _is_empty(code: CodeType) -> bool:
    opcodes, operands = code.co_code[::2], code.co_code[1::2]
    if code.co_cellvars or opcodes.translate(None, _EMPTY_BODY):
        return False
    for constant in code.co_consts:
        if not (constant is None or constant is Ellipsis or type(constant) is str):
            return False
    if code.co_names:
        return code.co_names == ("NotImplementedError",)
    for opcode, operand in zip(opcodes, operands, strict=True):  # a text that is returned is no docstring
        if opcode in _CONSTANTS and code.co_consts[operand] is not None:
            return False
    return True


def unimplemented(owner: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """In the place of `function`, of an interface: calling it raises ContractError."""

    @functools.wraps(function)
    def declared_only(self: object, /, *args: Any, **kwargs: Any) -> Any:
        raise ContractError(
            f"{plain_name(type(self))} does not implement {owner}.{function.__name__}: "
            "an interface only declares it; call it on a plug-in, or on what kernel.get() returned"
        )

    declared_only.__dict__["__mukernel_unimplemented__"] = True
    return declared_only
