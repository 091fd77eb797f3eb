"""Proxies: objects of an interface's type whose methods are bound to wherever the plug-in runs now.

A proxy has no logic. Its methods are instance attributes, which its route writes: a bound method of the instance, a
function that sends a message, or one that waits while the plug-in is replaced. So a call pays for what its route does,
and for nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from ..contract import Interface, Method, Model, MukernelError
from ..transports.blocking import NotTaken
from ..transports.remote import RemoteMethod
from .way import Way

# What a route keeps in a proxy. No method of an interface begins with an underscore.
OWN = ("_mukernel_route", "_mukernel_blocking", "_mukernel_threads")


def proxy_class(interface: type[Interface]) -> type[Any]:
    """The class of proxies of `interface`: a subclass with a slot for each method. Made once, and kept by the
    interface."""
    made: type[Any] | None = vars(interface).get("__proxy_class__")
    if made is None:
        contract = interface.__contract__
        namespace = {
            "__slots__": (*contract.methods, *OWN),
            "__doc__": interface.__doc__, "__repr__": _represent,
            "__module__": interface.__module__, "__cached_contract__": contract,
        }  # fmt: skip
        metaclass: Any = type(interface)
        made = metaclass(interface.__name__, (interface,), namespace, name=contract.name, version=contract.version)
        type.__setattr__(interface, "__proxy_class__", made)
    assert made is not None
    return made


def _represent(proxy: Any) -> str:
    return f"<{type(proxy).__name__} of {proxy._mukernel_route.plugin!r}, {proxy._mukernel_route.where()}>"


def remote_method(route: Way, method: Method, remote: RemoteMethod) -> Callable[..., Any]:
    """A method that sends a message. It finds the route's present caller at each call, so it may be kept.

    A call that is refused may have been so at once: the loop has a turn before its caller can try again.
    """
    encode, decode = remote.codec.encode_arguments, remote.codec.decode_result
    encode_unchecked, decode_unchecked = remote.codec.encode_positional, remote.codec.decode_value
    least, most = remote.codec.binding.positional_least, remote.codec.binding.positional_most
    take_input = remote.codec.binding.take_input
    name = method.name

    async def call(*args: Any, **kwargs: Any) -> Any:
        caller = route.caller
        if caller is None:
            return await route.elsewhere(name, args, kwargs)
        try:
            try:
                body = encode_unchecked(args) if not kwargs and least <= len(args) <= most else encode(args, kwargs)
            except Exception:
                encode(args, kwargs)  # says what is wrong, if that is it
                raise
            reply = await caller.call(remote, body, route.wait_for_room)
        except MukernelError:
            await asyncio.sleep(0)
            raise
        try:
            return decode_unchecked(reply)
        except Exception:
            decode(reply)
            raise

    async def oneway(*args: Any, **kwargs: Any) -> None:
        caller = route.caller
        if caller is None:
            await route.elsewhere(name, args, kwargs)
            return
        try:
            await caller.oneway(remote, encode(args, kwargs), route.wait_for_room)
        except MukernelError:
            await asyncio.sleep(0)
            raise

    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        inputs = items = None
        caller = route.caller
        try:
            if caller is None:
                items = await route.elsewhere_stream(name, args, kwargs)
            else:
                if method.model is Model.CHANNEL:
                    inputs, args, kwargs = take_input(args, kwargs, ("async iterator",))
                items = caller.stream(remote, encode(args, kwargs), inputs, route.wait_for_room)
            async for item in items:
                yield item
        except MukernelError:
            await asyncio.sleep(0)
            raise
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    made: Callable[..., Any] = {Model.CALL: call, Model.ONEWAY: oneway}.get(method.model, stream)
    made.__name__, made.__doc__ = method.name, method.documentation
    return made


def blocking_method(route: Way, method: Method, remote: RemoteMethod) -> Callable[..., Any]:
    """The same for code without an event loop: each thread has a channel of its own."""
    encode, decode = remote.codec.encode_arguments, remote.codec.decode_result
    encode_unchecked, decode_unchecked = remote.codec.encode_positional, remote.codec.decode_value
    least, most = remote.codec.binding.positional_least, remote.codec.binding.positional_most
    take_input = remote.codec.binding.take_input
    name = method.name

    def call(*args: Any, **kwargs: Any) -> Any:
        if route.caller is None:
            return route.elsewhere_blocking(name, args, kwargs)
        try:
            caller = route.thread.caller
        except AttributeError:
            with route.with_caller():
                return call(*args, **kwargs)
        try:
            body = encode_unchecked(args) if not kwargs and least <= len(args) <= most else encode(args, kwargs)
        except Exception:
            encode(args, kwargs)  # says what is wrong, if that is it
            raise
        try:
            reply = caller.call(remote, body, route.wait_for_room)
        except NotTaken:  # the route was led elsewhere between our look at it and the call
            return call(*args, **kwargs)
        try:
            return decode_unchecked(reply)
        except Exception:
            decode(reply)
            raise

    def oneway(*args: Any, **kwargs: Any) -> None:
        if route.caller is None:
            route.elsewhere_blocking(name, args, kwargs)
            return
        try:
            caller = route.thread.caller
        except AttributeError:
            with route.with_caller():
                oneway(*args, **kwargs)
            return
        try:
            caller.oneway(remote, encode(args, kwargs), route.wait_for_room)
        except NotTaken:
            oneway(*args, **kwargs)

    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        if route.caller is None:
            yield from route.elsewhere_blocking(name, args, kwargs)
            return
        inputs, sent, named = None, args, kwargs
        if method.model is Model.CHANNEL:
            inputs, sent, named = take_input(args, kwargs, ("iterator",))
        try:
            yield from route.stream_to_thread(remote, encode(sent, named), inputs)
        except NotTaken:
            yield from stream(*args, **kwargs)

    made: Callable[..., Any] = {Model.CALL: call, Model.ONEWAY: oneway}.get(method.model, stream)
    made.__name__, made.__doc__ = method.name, method.documentation
    return made
