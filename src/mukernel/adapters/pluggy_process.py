"""The hooks of one pluggy plug-in, in the process in which they run: called by name, with plain data."""

from __future__ import annotations

import builtins
import importlib
import inspect
import itertools
import logging
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import msgspec

from ..contract import ContractError, Interface, NotFound, Plugin, RemoteError
from ..contract.error_texts import end_of, text_of, trace_of
from ..core.imported_for_plugins import imported_for_plugin
from ..core.loader import load_main
from .records import Known, imported
from .values import can_change, pack, unpack

log = logging.getLogger(__name__)


class Raised(msgspec.Struct):
    """An exception. `made_of`: of one of Python's own, packed, the arguments of which it is made, and what state it has
    beside them; of a group its text and, each as a Raised, what it has; empty for every other."""

    kind: str
    message: str
    traceback: str
    made_of: bytes


class Answer(msgspec.Struct):
    """What came of a hook. `value`: packed. `raised`: in its place. `changed`: arguments that it changed in place, by
    their position or name, packed. `token`: of a wrapper that has yielded. `passed_on`: a wrapper left the exception as
    it was."""

    value: bytes = b""
    raised: Raised | None = None
    changed: dict[str, bytes] = {}
    token: int = 0
    passed_on: bool = False


class Hooks(Interface, name="mukernel.adapters.pluggy.Hooks", version="1.0"):
    """The hooks of one plug-in. `arguments` and `named`: packed, each by itself."""

    def call(self, attribute: str, arguments: list[bytes], named: dict[str, bytes]) -> Answer:
        """Run an ordinary hook."""
        raise NotImplementedError

    def begin(self, attribute: str, arguments: list[bytes], named: dict[str, bytes]) -> Answer:
        """Run a wrapper up to its yield."""
        raise NotImplementedError

    def finish(self, token: int, result: bytes, attribute: str, old_style: bool) -> Answer:
        """Run the rest of a wrapper, with the result of what it wraps."""
        raise NotImplementedError

    def finish_raised(self, token: int, raised: Raised, attribute: str, old_style: bool) -> Answer:
        """Run the rest of a wrapper, with the exception that what it wraps raised."""
        raise NotImplementedError

    def abandon(self, token: int) -> None:
        """A wrapper will not be finished."""
        raise NotImplementedError


@dataclass
class ThisProcess:
    """`plugin`: of which plug-in's hooks it is; "" for every other process, the host's among them."""

    plugin: str = ""
    sandboxed: bool = False


this_process = ThisProcess()


class HookProcess(Plugin, Hooks):
    """`module` and `attribute`: the module, or the class or object in it, that was registered as `name`; `file`: of a
    script. `made_with`: packed arguments, with which an object of the class is made first. Raises ContractError where
    that attribute is not there in this process. `sandboxed`: is it in a sandbox?"""

    def __init__(
        self, *, name: str, module: str, file: str = "", attribute: str = "", made_with: bytes = b"",
        sandboxed: bool = False,
    ) -> None:  # fmt: skip
        this_process.plugin, this_process.sandboxed = name, sandboxed
        script = module == "__main__"
        try:
            with imported_for_plugin(file if script else module):
                target: Any = load_main(file) if script else importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # what the module imports is missing
            raise not_importable(name, module, attribute) from None
        for part in attribute.split(".") if attribute else ():
            if not hasattr(target, part):
                raise not_importable(name, module, attribute)
            target = getattr(target, part)
        if made_with:
            args, kwargs = unpack(made_with, imported)
            target = target(*args, **kwargs)
        self.target, self.name = target, name
        self.wrappers: dict[int, Generator[Any, Any, Any]] = {}
        self.tokens = itertools.count(1)

    def described(self, attribute: str) -> str:
        return f"hook {attribute} of plug-in {self.name!r}"

    def call(self, attribute: str, arguments: list[bytes], named: dict[str, bytes]) -> Answer:
        def whole(result: Any) -> Any:
            return list(result) if inspect.isgenerator(result) else result

        result, answer = self._run(attribute, arguments, named, whole)
        if answer.raised is None:
            answer.value = pack(result, f"{self.described(attribute)}: its result")
        return answer

    def begin(self, attribute: str, arguments: list[bytes], named: dict[str, bytes]) -> Answer:
        def started(wrapper: Any) -> Any:
            try:
                next(wrapper)
            except StopIteration:
                raise RuntimeError(f"{self.described(attribute)}: the wrapper did not yield") from None
            return wrapper

        wrapper, answer = self._run(attribute, arguments, named, started)
        if answer.raised is None:
            answer.token = next(self.tokens)
            self.wrappers[answer.token] = wrapper
        return answer

    def _run(
        self, attribute: str, arguments: list[bytes], named: dict[str, bytes], then: Callable[[Any], Any]
    ) -> tuple[Any, Answer]:
        """What `then` makes of what the hook returned, and an answer with what was raised, and with the arguments that
        were changed in place meanwhile."""
        args = [unpack(each, imported) for each in arguments]
        kwargs = {name: unpack(each, imported) for name, each in named.items()}
        sent = {str(place): each for place, each in enumerate(arguments)} | named
        given = {str(place): each for place, each in enumerate(args)} | kwargs
        try:
            result = then(getattr(self.target, attribute)(*args, **kwargs))
        except Exception as error:
            try:
                changes = changed(self.described(attribute), given, sent)
            except ContractError as lost:  # what the hook raised says more
                error.add_note(f"What it had changed is lost: {lost}")
                changes = {}
            return None, Answer(raised=raised_of(error), changed=changes)
        return result, Answer(changed=changed(self.described(attribute), given, sent))

    def finish(self, token: int, result: bytes, attribute: str, old_style: bool) -> Answer:
        return self._finish(token, unpack(result, imported), None, attribute, old_style)

    def finish_raised(self, token: int, raised: Raised, attribute: str, old_style: bool) -> Answer:
        return self._finish(token, None, exception_of(raised, imported), attribute, old_style)

    def _finish(self, token: int, result: Any, error: Exception | None, attribute: str, old_style: bool) -> Answer:
        wrapper = self.wrappers.pop(token, None)
        if wrapper is None:
            raise NotFound(
                f"{self.described(attribute)}: the process of its wrapper has been started again since that yielded; "
                "what it did before is lost"
            )
        try:
            if old_style:
                import pluggy

                outcome: Any = pluggy.Result(result, error)
                ended(wrapper, lambda: wrapper.send(outcome), self.described(attribute))
                value = outcome.get_result()
            elif error is None:
                value = ended(wrapper, lambda: wrapper.send(result), self.described(attribute))
            else:
                value = ended(wrapper, lambda: wrapper.throw(error), self.described(attribute))
        except Exception as raised:
            # A generator can't be left by StopIteration: Python makes a RuntimeError of it.
            passed_on = raised is error or (isinstance(error, StopIteration) and raised.__cause__ is error)
            return Answer(passed_on=True) if passed_on else Answer(raised=raised_of(raised))
        return Answer(pack(value, f"{self.described(attribute)}: its result"))

    def abandon(self, token: int) -> None:
        wrapper = self.wrappers.pop(token, None)
        if wrapper is not None:
            wrapper.close()


def changed(hook: str, given: dict[str, Any], sent: dict[str, bytes]) -> dict[str, bytes]:
    """Which of the arguments `given` to a hook are not any more what was `sent`, packed."""
    packed = {
        key: pack(each, f"{hook}: what it put into argument {key!r}") for key, each in given.items() if can_change(each)
    }
    return {key: each for key, each in packed.items() if each != sent[key]}


def ended(wrapper: Generator[Any, Any, Any], resume: Callable[[], Any], hook: str) -> Any:
    """What a wrapper returns when it is resumed for the last time; raises what it does."""
    try:
        resume()
    except StopIteration as end:
        return end.value
    finally:
        wrapper.close()
    raise RuntimeError(f"{hook}: the wrapper has a second yield")


def raised_of(error: BaseException) -> Raised:
    """An exception, for another process."""
    kind, message, made_of = type(error), text_of(error), b""
    if getattr(builtins, kind.__name__, None) is kind:
        try:
            parts: Any = group_of(error) if isinstance(error, BaseExceptionGroup) else error.__reduce__()[1:]
            made_of = pack(parts, message)
        except ContractError:  # of more than can travel; many can be made of their text
            made_of = pack(((message,),), message)
    return Raised(kind.__name__, message, end_of(trace_of(error)), made_of)


def group_of(error: BaseExceptionGroup[Any]) -> tuple[Any, ...]:
    """What a group of exceptions is made of, as `__reduce__` says it, but each exception as a Raised."""
    parts = [msgspec.structs.asdict(raised_of(each)) for each in error.exceptions]
    return (error.message, parts), vars(error)


def exception_of(raised: Raised, known: Known) -> Exception:
    """An exception of another process, as itself where it is one of Python's own; else as a RemoteError."""
    kind = getattr(builtins, raised.kind, None)
    if raised.made_of and isinstance(kind, type) and issubclass(kind, Exception):
        try:
            args, *states = unpack(raised.made_of, known)
            if issubclass(kind, ExceptionGroup):
                message, parts = args
                args = message, [exception_of(msgspec.convert(each, Raised), known) for each in parts]
            made = kind(*args)
            for state in states:
                made.__setstate__(state)
        except Exception as problem:  # the other process may have said anything
            log.debug("%s can't be made of what came: %s", raised.kind, problem)
        else:
            return made
    return remote(raised)


def remote(raised: Raised) -> RemoteError:
    return RemoteError(raised.kind, raised.message, raised.traceback)


def name_at_the_top(plugin: object) -> str:
    """Under which name the module of its class holds an object. "" where it does not, and for a script: what that makes
    when it is run is not there for others."""
    module = type(plugin).__module__
    held = vars(sys.modules[module]) if module in sys.modules and module != "__main__" else {}
    return next((name for name, each in list(held.items()) if each is plugin), "")


def checked_importable(module: object, attribute: str, plugin: object, name: str) -> None:
    """Raises ContractError where another process could not find `plugin` in `module`."""
    found: Any = module
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part, None)
    name_of_module = getattr(module, "__name__", "?")
    importable = getattr(module, "__spec__", None) is not None or (
        name_of_module == "__main__" and hasattr(module, "__file__")
    )
    if found is not plugin or not importable:
        raise not_importable(name, name_of_module, attribute)


def not_importable(name: str, module: str, attribute: str) -> ContractError:
    return ContractError(
        f"plug-in {name!r}: another process can't import it as {module}:{attribute}; wanted a module, or a class or "
        "object at the top of one, which is there whoever imports it (not under if __name__ == '__main__'). Or keep it "
        f"in this process: placements={{{name!r}: 'inline'}}"
    )
