"""Capability: the right to call an interface, and how far it goes. What an operator writes as a grant is read here.

"Files"                  the interface, whole
"Files:read,write"       the rights "read" and "write" in it
"Files:read:/data"       the right "read", within the scope "/data"
"Files:*:/data"          every right, within that scope
"Files:read:/data/*"     the right "read", in what lies beneath "/data", and not to itself

What a right or a scope means is the business of the plug-in that serves the interface: it declares the rights that it
tells apart (`grant_rights`), and asks at each call what its caller holds.
"""

from __future__ import annotations

import re

import msgspec

from .errors import ContractError, PermissionDenied

INTERFACE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
RIGHT = re.compile(r"[a-z][a-z0-9_-]*")
EVERY_RIGHT = "*"
PATHS = "path"  # as the `grant_scopes` of a plug-in: its scopes are absolute paths
LONGEST = 4096  # characters of a grant
WANTED = '"Interface", "Interface:right,right" or "Interface:right,right:scope", such as "Files:read:/data"'


class Capability(msgspec.Struct, frozen=True, order=True):
    """The right to call `interface`. `rights`: empty for all; `scope`: "" for everything, else a path, a prefix that
    ends at a "/": "/data" holds "/data" and "/data/a", not "/database"; "/data/*" holds "/data/a", not "/data"."""

    interface: str
    rights: tuple[str, ...] = ()
    scope: str = ""

    @property
    def whole(self) -> bool:
        """Nothing in the interface is kept from its holder."""
        return not self.rights and not self.scope

    def permits(self, right: str, thing: str = "") -> bool:
        """May the holder do what `right` names to `thing`?"""
        return (not self.rights or right in self.rights) and within(thing, self.scope)

    def covers(self, other: Capability) -> bool:
        """Is all that `other` permits permitted by this one?"""
        rights = not self.rights or (bool(other.rights) and set(other.rights) <= set(self.rights))
        return self.interface == other.interface and rights and within(other.scope, self.scope)

    def __str__(self) -> str:
        rights = ",".join(self.rights) or (EVERY_RIGHT if self.scope else "")
        return ":".join(part for part in (self.interface, rights, self.scope) if part)


class Granted(msgspec.Struct, frozen=True):
    """What the caller of a channel may do there: all that some capability of it permits."""

    capabilities: tuple[Capability, ...]

    def allows(self, right: str, thing: str = "") -> bool:
        """May the caller do what `right` names to `thing`, a path without ".."?"""
        return any(each.permits(right, thing) for each in self.capabilities)

    def check(self, right: str, thing: str = "") -> None:
        """Raises PermissionDenied where it may not, which says what it holds."""
        if not self.allows(right, thing):
            wanted = f"{right} {thing!r}" if thing else right
            raise PermissionDenied(f"{wanted}: the caller was granted only: {self}")

    def __str__(self) -> str:
        return ", ".join(map(str, self.capabilities))


def within(thing: str, scope: str) -> bool:
    """Does a scope hold a thing? One with a step upwards is in none: it may lead anywhere."""
    if not scope:
        return True
    if ".." in thing.split("/"):
        return False
    if scope.endswith("/*"):
        return thing.startswith(scope[:-1]) and len(thing) >= len(scope)
    return thing == scope or thing.startswith(scope if scope.endswith("/") else scope + "/")


def is_path(scope: str) -> bool:
    """Is it an absolute path, or "/*" after one, as things are compared with it: without empty parts and "."?"""
    root, *parts = scope.split("/")
    return root == "" and (parts == [""] or not {"", "."} & set(parts))


def read_capability(text: object) -> Capability:
    """The capability that a grant names. Raises ContractError that says what was wanted."""
    if isinstance(text, Capability):
        return read_capability(str(text))
    if not isinstance(text, str) or len(text) > LONGEST or not text.isprintable():
        raise ContractError(f"got {text!r:.200}, wanted {WANTED}")
    interface, *rest = text.split(":", 2)
    rights, scope = [*rest, "", ""][:2]
    if not INTERFACE.fullmatch(interface):
        raise ContractError(f"got {text!r}, whose interface is {interface!r}, wanted {WANTED}")
    names = tuple(dict.fromkeys(rights.split(","))) if rest and rights != EVERY_RIGHT else ()
    for name in names:
        if not RIGHT.fullmatch(name):
            raise ContractError(
                f"got {text!r}, whose right is {name!r}, wanted lower-case words, or '*' for all; {WANTED}"
            )
    if len(rest) == 2 and not scope:
        raise ContractError(f"got {text!r}, whose scope is empty, wanted a scope, or none and no second ':'")
    if ".." in scope.split("/"):
        raise ContractError(f"got {text!r}, whose scope leads upwards, wanted a path without '..'")
    return Capability(interface, names, scope.rstrip("/") or scope[:1])
