"""The hooks of one pluggy plug-in, in the process in which they run: called by name, with plain data."""

from __future__ import annotations

import builtins
import importlib
import inspect
import itertools
import sys
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from ..contract import ContractError, Interface, NotFound, Plugin, RemoteError
from ..core.loader import load_main
from .records import fields_of, imported
from .values import pack, unpack


class Answer(msgspec.Struct):
    """What came of a hook. `value`: packed. `changed`: arguments that it changed in place, by their position or name,
    packed. `token`: of a wrapper that has yielded. `passed_on`: a wrapper left result or exception as it was."""

    value: bytes = b""
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

    def finish_raised(self, token: int, kind: str, message: str, attribute: str, old_style: bool) -> Answer:
        """Run the rest of a wrapper, with the exception that what it wraps raised."""
        raise NotImplementedError

    def abandon(self, token: int) -> None:
        """A wrapper will not be finished."""
        raise NotImplementedError


class HookProcess(Plugin, Hooks):
    """`module` and `attribute`: the module, or the class or object in it, that was registered as `name`; `file`: of a
    script. `made_with`: packed arguments, with which an object of the class is made first. Raises ContractError where
    that attribute is not there in this process."""

    def __init__(
        self, *, name: str, module: str, file: str = "", attribute: str = "", made_with: bytes = b""
    ) -> None:  # fmt: skip
        try:
            target: Any = load_main(file) if module == "__main__" else importlib.import_module(module)
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
        self.target = target
        self.wrappers: dict[int, Generator[Any, Any, Any]] = {}
        self.tokens = itertools.count(1)

    def call(self, attribute: str, arguments: list[bytes], named: dict[str, bytes]) -> Answer:
        result, changed = self._run(attribute, arguments, named)
        if inspect.isgenerator(result):
            result = list(result)
        return Answer(pack(result, f"hook {attribute}: its result"), changed)

    def begin(self, attribute: str, arguments: list[bytes], named: dict[str, bytes]) -> Answer:
        def started(wrapper: Any) -> Any:
            try:
                next(wrapper)
            except StopIteration:
                raise RuntimeError(f"hook {attribute}: the wrapper did not yield") from None
            return wrapper

        wrapper, changed = self._run(attribute, arguments, named, started)
        token = next(self.tokens)
        self.wrappers[token] = wrapper
        return Answer(changed=changed, token=token)

    def _run(
        self, attribute: str, arguments: list[bytes], named: dict[str, bytes],
        then: Callable[[Any], Any] = lambda result: result,
    ) -> tuple[Any, dict[str, bytes]]:  # fmt: skip
        """What `then` makes of what the hook returned, and the arguments that were changed in place meanwhile."""
        args, kwargs = (
            [unpack(each, imported) for each in arguments],
            {name: unpack(each, imported) for name, each in named.items()},
        )
        result = then(getattr(self.target, attribute)(*args, **kwargs))
        before = {str(place): each for place, each in enumerate(arguments)} | named
        changed = {}
        for key, each in [*enumerate(args), *kwargs.items()]:
            if isinstance(each, list | dict | set) or fields_of(type(each)) is not None:
                after = pack(each, f"hook {attribute}: what it put into argument {key!r}")
                if after != before[str(key)]:
                    changed[str(key)] = after
        return result, changed

    def finish(self, token: int, result: bytes, attribute: str, old_style: bool) -> Answer:
        value = unpack(result, imported)
        if old_style:
            return self._finish_old(token, value, None, attribute)
        return self._ended(token, attribute, lambda wrapper: wrapper.send(value))

    def finish_raised(self, token: int, kind: str, message: str, attribute: str, old_style: bool) -> Answer:
        error = exception_of(kind, message)
        if old_style:
            return self._finish_old(token, None, error, attribute)
        try:
            return self._ended(token, attribute, lambda wrapper: wrapper.throw(error))
        except BaseException as raised:
            if raised is error:
                return Answer(passed_on=True)
            raise

    def _finish_old(self, token: int, value: Any, error: BaseException | None, attribute: str) -> Answer:
        import pluggy

        result: Any = pluggy.Result(value, error)
        self._ended(token, attribute, lambda wrapper: wrapper.send(result))
        if error is not None and result.exception is error:
            return Answer(passed_on=True)
        return Answer(pack(result.get_result(), f"hook {attribute}: its result"))

    def _ended(self, token: int, attribute: str, resume: Callable[[Generator[Any, Any, Any]], Any]) -> Answer:
        wrapper = self.wrappers.pop(token, None)
        if wrapper is None:
            raise NotFound(
                f"hook {attribute}: the process of its wrapper has been started again since that yielded; what it did "
                "before is lost"
            )
        try:
            resume(wrapper)
        except StopIteration as end:
            return Answer(pack(end.value, f"hook {attribute}: its result"))
        finally:
            wrapper.close()
        raise RuntimeError(f"hook {attribute}: the wrapper has a second yield")

    def abandon(self, token: int) -> None:
        wrapper = self.wrappers.pop(token, None)
        if wrapper is not None:
            wrapper.close()


def exception_of(kind: str, message: str) -> Exception:
    """An exception of another process, as itself where it is one of Python's own; else as a RemoteError."""
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception) and found not in (StopIteration, StopAsyncIteration):
        try:
            return found(message)
        except TypeError:  # it wants more than a message
            pass
    return RemoteError(kind, message)


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
