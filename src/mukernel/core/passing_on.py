"""Passing on: how a plug-in gives another a part of what it was granted, and how that one takes it."""

from __future__ import annotations

from typing import Any, TypeVar

from ..contract import ContractError, Interface, PermissionDenied
from ..mesh.route import Route
from .routes import Routes

T = TypeVar("T", bound=Interface)
IDENTITY = "_mukernel_identity"  # attribute of a plug-in: where it is, and the key of its instance


async def narrow(plugin: object, proxy: Interface, part: str) -> str:
    """A token for a part of what `plugin` may do by `proxy`, which it was given: "right,right:scope".

    The token is text, to be sent to another plug-in as any other, which redeems it. It is good as long as `plugin`
    holds what it is a part of. Raises PermissionDenied for more than that, ContractError for what is no such part.
    """
    space, key = identity(plugin)
    route = getattr(proxy, "_mukernel_route", None)
    if not isinstance(route, Route):
        raise ContractError(f"narrow: proxy: got {proxy!r}, wanted a proxy of the constructor's, or of redeem")
    if not isinstance(part, str):
        raise ContractError(f"narrow: part: got {part!r}, wanted 'right,right:scope', such as 'read:/data'")
    return await space.directory.narrow(key, route.contract.name, route.asked, part, route.token)


async def redeem(plugin: object, token: str, interface: type[T]) -> T:
    """A proxy for what a token gives. Its channel lasts as long as the proxy is held, and the grant behind it lasts.

    `plugin`: the one that received it. Raises PermissionDenied for a token that was forged, or is of another interface,
    or whose grant was revoked.
    """
    space, _ = identity(plugin)
    if not isinstance(token, str):
        raise ContractError(f"redeem: token: got {token!r}, wanted the text that narrow returned")
    if not token:  # that would be the plug-in's own channel, if it has one
        raise PermissionDenied("redeem: token: got '', wanted the text that narrow returned")
    if not (isinstance(interface, type) and issubclass(interface, Interface)):
        raise ContractError(f"redeem: interface: got {interface!r}, wanted an Interface class")
    proxy: T = await space.redeem(interface, token)
    return proxy


def identify(plugin: Any, space: Routes, key: str) -> None:
    """Note where a plug-in is; it may be frozen."""
    object.__setattr__(plugin, IDENTITY, (space, key))


def identity(plugin: object) -> tuple[Routes, str]:
    found: tuple[Routes, str] | None = getattr(plugin, IDENTITY, None)
    if found is None:
        raise ContractError(f"got {plugin!r:.200}, wanted the plug-in itself (self), once its constructor has returned")
    return found
