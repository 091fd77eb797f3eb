"""How the methods of an instance in this process stand in a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol

from ..contract import Interface, Method, MethodCodec, Model, decode_fault, encode_fault
from ..transports.eager import start_task
from ..transports.inline import (
    InFlight,
    InlineMethod,
    arguments_of,
    awaitable,
    counted_stream,
    leave,
    on_loop,
)
from ..transports.inline_streams import SplitInput, counted_blocking_stream, iterate_on_loop, step_on_loop
from ..transports.method_pool import MethodPool
from ..transports.replaceable import lead_elsewhere, replaceable
from ..transports.served import by_name
from ..transports.waiting_thread import is_here
from .way import Way

log = logging.getLogger("mukernel")
MOST_NESTED = 10  # one-way calls that are begun within each other
MOVED = object()  # what a call finds that came to the loop after the plug-in had left


class LocalTarget(Protocol):
    """An instance in this process, as a route sees it.

    `direct`: nothing has to be counted or redirected, since it hands over no state and has nothing to stop. `strict`:
    values pass through the codec, as they would between processes.
    """

    plugin: Any
    direct: bool
    strict: bool
    in_flight: InFlight
    background: set[asyncio.Task[Any]]

    @property
    def interfaces(self) -> Mapping[str, type[Interface]]:
        """Those that it serves, by name."""

    @property
    def pool(self) -> MethodPool | None: ...


def async_methods(route: Way, target: LocalTarget) -> dict[str, Callable[..., Any]]:
    """What the methods of an ordinary proxy are bound to."""
    methods = {}
    for name, method in route.contract.methods.items():
        function = adapted(method, getattr(target.plugin, name), target)
        theirs = target.interfaces[route.contract.name].__contract__
        if target.strict or not alike(method, theirs.methods[name]):
            function = through_codec(route.remotes[name].codec, MethodCodec(theirs.methods[name]), function)
        elif method.model is Model.CHANNEL:
            function = checking_input(route.remotes[name].codec, function)
        elsewhere = elsewhere_if_moved(route, target, name)
        if target.direct or ends_at_once(method):  # nothing to count: what blocks has ended before a swap can begin
            methods[name] = replaceable(function) or InlineMethod(function, target.in_flight, name)
        elif method.blocking:
            methods[name] = counted_blocking_stream(route.loop, function, target.in_flight, elsewhere)
        elif is_stream(method):
            methods[name] = counted_stream(function, target.in_flight, elsewhere)
        else:
            methods[name] = InlineMethod(function, target.in_flight, name, method.documentation)
    return methods


def is_stream(method: Method) -> bool:
    return method.model in (Model.STREAM, Model.CHANNEL)


def ends_at_once(method: Method) -> bool:
    """Whether an inline call of it has ended when it returns: there is nothing to wait for."""
    return method.blocking and not is_stream(method)


def elsewhere_if_moved(route: Way, target: LocalTarget, name: str) -> Callable[[], Callable[..., Any] | None]:
    """For a stream that was asked for and is begun now: the way to where the plug-in went meanwhile, if it did."""
    way = ways_elsewhere(route.contract.methods[name])
    return lambda: None if route.target is target else functools.partial(way, route, name)


def blocking_methods(route: Way, target: LocalTarget) -> dict[str, Callable[..., Any]]:
    """What the methods of a blocking proxy are bound to, made of `route.bound`: they run on the loop, whatever thread
    calls."""
    loop = route.loop
    methods = {}
    for name, method in route.contract.methods.items():
        function = route.bound[name]
        if is_stream(method):
            methods[name] = stream_from_threads(route, target, method, function)
        else:
            elsewhere = from_threads(route, target, name, function)
            methods[name] = in_any_thread(loop, function, elsewhere) if method.blocking else elsewhere
    return methods


def stream_from_threads(
    route: Way, target: LocalTarget, method: Method, function: Callable[..., Any]
) -> Callable[..., Any]:
    """A stream for other threads: it runs on the loop; if the plug-in has moved meanwhile, the route leads on."""

    def if_still_here(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if route.target is target else None

    if method.blocking:
        on_its_loop = step_on_loop(route.loop, if_still_here, route.now_ns)
    else:
        split = splitting(method, route) if method.model is Model.CHANNEL else None
        on_its_loop = iterate_on_loop(route.loop, if_still_here, split, route.now_ns)

    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        if not (yield from on_its_loop(*args, **kwargs)):
            yield from route.elsewhere_blocking(method.name, args, kwargs)

    return stream


def splitting(method: Method, route: Way) -> SplitInput:
    """For a channel whose input is an ordinary iterable: what takes it out of the arguments."""
    take_input, position = route.remotes[method.name].codec.binding.take_input, method.input_position
    name = str(method.input_name)

    def split(args: tuple[Any, ...], kwargs: dict[str, Any], instead: AsyncIterator[Any]) -> Any:
        given, args, kwargs = take_input(args, kwargs)
        feed = None if hasattr(given, "__aiter__") else iter(given)
        stream = given if feed is None else instead
        if len(args) < position:  # what comes before it was given by name, and so was it
            return feed, args, {**kwargs, name: stream}
        return feed, (*args[:position], stream, *args[position:]), kwargs

    return split


def from_threads(route: Way, target: LocalTarget, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A method for other threads: it runs on the loop; if the plug-in has moved meanwhile, the route leads on."""

    def if_still_here(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if route.target is target else MOVED

    on_its_loop = on_loop(route.loop, if_still_here, route.now_ns)

    def method(*args: Any, **kwargs: Any) -> Any:
        result = on_its_loop(*args, **kwargs)
        return route.elsewhere_blocking(name, args, kwargs) if result is MOVED else result

    return method


def in_any_thread(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], elsewhere: Callable[..., Any]
) -> Callable[..., Any]:
    """A `def` method: at once on the loop's thread, else by itself on the loop."""

    def method(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if is_here(loop) else elsewhere(*args, **kwargs)

    return method


def adapted(method: Method, function: Callable[..., Any], target: LocalTarget) -> Callable[..., Any]:
    """`function` as the interface declares it: awaitable or not, waited for or not."""
    if method.model in (Model.STREAM, Model.CHANNEL):
        return function
    is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
    if method.blocking:
        return refusing(method) if is_async else function
    if not is_async:
        function = pooled(function, target.pool) if target.pool is not None else awaitable(function)
    if method.model is Model.ONEWAY:
        return forgotten(method, function, target)
    return function


def refusing(method: Method) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"{method.qualified} is declared `def` and implemented `async def`: inline it can't be awaited by a "
            "blocking call; implement it as `def`, or give the plug-in a process"
        )

    return call


def pooled(function: Callable[..., Any], pool: MethodPool) -> Callable[..., Any]:
    """A `def` method that the interface declares `async def`, in a thread, which a hand-over of the state waits for."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await pool.call(functools.partial(function, *args, **kwargs))

    return call


class Nested(threading.local):
    """How many one-way calls are being begun within each other, by the loop of this thread."""

    depth = 0


nested = Nested()


def forgotten(
    method: Method, function: Callable[..., Coroutine[Any, Any, None]], target: LocalTarget
) -> Callable[..., Any]:
    """A one-way method: waited for by nobody, its errors logged. It is begun before the caller goes on, as what that
    calls next is to find it begun; but for those that methods hand on and on, which the stack has no room for."""

    async def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            await function(*args, **kwargs)
        except Exception:
            log.exception("%s (one-way) raised", method.qualified)
        finally:
            if not target.direct:
                leave(target.in_flight)

    async def call(*args: Any, **kwargs: Any) -> None:
        loop, work = asyncio.get_running_loop(), run(args, kwargs)
        if not target.direct:
            target.in_flight.running += 1
        nested.depth += 1
        try:
            task = start_task(loop, work) if nested.depth <= MOST_NESTED else loop.create_task(work)
        except BaseException:  # such as a RecursionError
            if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()
                if not target.direct:
                    leave(target.in_flight)
            raise
        finally:
            nested.depth -= 1
        if not task.done():
            target.background.add(task)
            task.add_done_callback(target.background.discard)

    return call


def alike(ours: Method, theirs: Method) -> bool:
    """Whether values can pass as they are. Not where the caller knows another version of the interface: its types are
    other classes, though they have the same names, when a swap has imported them anew."""
    if ours is theirs:
        return True
    count = len(ours.parameters)
    mine, same = ([(p.name, p.annotation, p.keyword_only) for p in m.parameters[:count]] for m in (ours, theirs))
    return mine == same and all(
        getattr(ours, each) == getattr(theirs, each)
        for each in ("model", "returns", "item", "input_item", "input_name", "input_position", "raises")
    )


def checking_input(codec: MethodCodec, function: Callable[..., Any]) -> Callable[..., Any]:
    """A channel whose input is looked at when it begins: the method would notice later that it is none."""
    take_input = codec.binding.take_input

    @functools.wraps(function)
    def channel(*args: Any, **kwargs: Any) -> Any:
        take_input(args, kwargs)
        return function(*args, **kwargs)

    return channel


def through_codec(ours: MethodCodec, theirs: MethodCodec, function: Callable[..., Any]) -> Callable[..., Any]:
    """Every value through the codec, as between processes: ours is the caller's, theirs the instance's."""
    method, served = ours.method, theirs.method
    names = [each.name for each in method.parameters]
    equal = names == [each.name for each in served.parameters]
    decode_arguments = theirs.decode_arguments if equal else by_name(theirs, names)

    def through(args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Any = None) -> Any:
        return theirs.binding.call(function, decode_arguments(ours.encode_arguments(args, kwargs)), inputs)

    def translated(error: Exception) -> Exception:
        return decode_fault(encode_fault(error, served.raises), method.raises)

    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = theirs.encode_result(await through(args, kwargs))
        except Exception as error:
            raise translated(error) from error
        return ours.decode_result(result)

    def blocking_call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = theirs.encode_result(through(args, kwargs))
        except Exception as error:
            raise translated(error) from error
        return ours.decode_result(result)

    async def stream(*args: Any, **kwargs: Any) -> Any:
        inputs = None
        if method.model is Model.CHANNEL:
            given, args, kwargs = ours.binding.take_input(args, kwargs, ("async iterator",))
            inputs = (theirs.decode_input(ours.encode_input(item)) async for item in given)
        items = through(args, kwargs, inputs)
        async with contextlib.aclosing(items):
            while True:
                try:
                    item = theirs.encode_item(await anext(items))
                except StopAsyncIteration:
                    return
                except Exception as error:
                    raise translated(error) from error
                yield ours.decode_item(item)

    def blocking_stream(*args: Any, **kwargs: Any) -> Any:
        try:
            for item in through(args, kwargs):
                yield ours.decode_item(theirs.encode_item(item))
        except Exception as error:
            raise translated(error) from error

    if method.model in (Model.STREAM, Model.CHANNEL):
        return blocking_stream if method.blocking else stream
    return blocking_call if method.blocking else call


def redirect(route: Way, name: str, function: Any) -> None:
    """A method that a caller may have kept: what it is called for from now on goes through the route."""
    method = route.contract.methods[name]
    elsewhere = functools.partial(ways_elsewhere(method), route, name)
    if not isinstance(function, InlineMethod):
        lead_elsewhere(function, elsewhere)
        return
    plugin = route.last_plugin

    async def again(_: InlineMethod, coroutine: Any) -> Any:
        if coroutine.cr_code is call_elsewhere.__code__:
            return await coroutine
        args, kwargs = arguments_of(coroutine, plugin)
        return await elsewhere(*args, **kwargs)

    function.closed = again
    function.in_flight = InFlight()
    function.target = elsewhere


def ways_elsewhere(method: Method) -> Callable[..., Any]:
    if method.blocking:
        return call_elsewhere_blocking
    return stream_elsewhere if method.model in (Model.STREAM, Model.CHANNEL) else call_elsewhere


async def call_elsewhere(route: Way, name: str, /, *args: Any, **kwargs: Any) -> Any:
    return await route.elsewhere(name, args, kwargs)


async def stream_elsewhere(route: Way, name: str, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    items = await route.elsewhere_stream(name, args, kwargs)
    try:
        async for item in items:
            yield item
    finally:
        if hasattr(items, "aclose"):
            await items.aclose()


def call_elsewhere_blocking(route: Way, name: str, /, *args: Any, **kwargs: Any) -> Any:
    return route.elsewhere_blocking(name, args, kwargs)
