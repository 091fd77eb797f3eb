"""Request: what an operator names that is to be installed, as it is written in `use`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from ..contract import ContractError

REQUIREMENT = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^]]*\])?\s*(?:===|==|~=|!=|<=|>=|<|>).*"
)
OPTION = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[[^]]*\])?\s*(?:(?:===|==|~=|!=|<=|>=|<|>)[^;]*?)?\s(-{1,2}[A-Za-z][A-Za-z0-9-]*)"
)
DIRECT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*@\s*((?:[A-Za-z][A-Za-z0-9+.-]*:|[./~]).*)")
ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
PYTHON = re.compile(r"3(\.\d+){1,2}")
SCHEMES = ("file", "https", "http", "ssh", "git")  # no other: git has some that run commands
GIT = "git+"
OLDEST = (3, 11)  # of the Pythons that mukernel runs on
WANTED_PYTHON = f"3.{OLDEST[1]} or later, such as '3.13' or '3.13.1', or the absolute path of an interpreter"

TO_BE_INSTALLED = (
    "a requirement with a version, such as 'shop-catalog==2.0', a wheel, a directory such as './shop-catalog', or "
    "'git+https://...'"
)


@dataclass(frozen=True, slots=True)
class Request:
    """What to install, and the plug-in in it that is meant.

    `use`: as it was written, without the entry; `kind`: "requirement", "wheel", "directory" or "git"; `target`: the
    requirement, the absolute path, or the address of the repository. `entry`: the name of an entry point, "" where
    there is one only. `python`: a version or a path; "": that of the kernel. `fallback`: the entry that is meant where
    none is named, if there are several.
    """

    use: str
    kind: str
    target: str
    entry: str = ""
    python: str = ""
    reference: str = ""  # of a git repository: a branch, a tag or a commit
    subdirectory: str = ""  # of a git repository
    fallback: str = ""

    @property
    def whole(self) -> str:
        """As `use` would name it, entry included."""
        return f"{self.use}:{self.entry}" if self.entry else self.use


def read_request(use: object, folder: str | None = None, python: str = "", entry: str = "") -> Request | None:
    """The request that `use` is; None where it names a class, a file or an entry point that is there already.
    Relative paths are looked for in `folder`. Raises ContractError."""
    if not isinstance(use, str):
        return None
    text = use.strip()
    found = _read(text, folder)
    if found is None:
        head, colon, tail = text.rpartition(":")
        if colon and ENTRY.fullmatch(tail):
            found = _read(head, folder)
            if found is not None and entry and entry != tail:
                raise ContractError(f"entry: got {entry!r}, where use = {use!r} names {tail!r}; wanted one of them")
            entry = tail
    if found is None:
        return None
    if entry and not ENTRY.fullmatch(entry):
        raise ContractError(f"entry: got {entry!r}, wanted the name of an entry point of group 'mukernel.plugins'")
    return replace(found, entry=entry, python=checked_python(python))


def checked_python(python: object) -> str:
    """Raises ContractError for what can't be a version or a path."""
    if isinstance(python, str) and (not python or PYTHON.fullmatch(python) or os.path.isabs(python)):
        return python
    raise ContractError(f"python: got {python!r}, wanted {WANTED_PYTHON}")


def _read(text: str, folder: str | None) -> Request | None:
    if text.startswith(GIT):
        return _git(text)
    if (direct := DIRECT.fullmatch(text)) is not None:
        raise ContractError(f"use = {text!r}: {_instead_of(*direct.groups())}")
    if text.endswith(".whl"):
        return Request(text, "wheel", os.path.abspath(os.path.join(folder or "", text)))
    if re.match(r"\.{0,2}/|~/", text) or (text.endswith("/") and "://" not in text):
        if text.endswith(".py") or text.rpartition(":")[0].endswith(".py"):  # "./file.py:Class"
            return None
        path = os.path.abspath(os.path.join(folder or "", os.path.expanduser(text)))
        return Request(text, "directory", path) if os.path.isdir(path) or ":" not in text else None
    if (option := OPTION.match(text)) is not None:
        raise ContractError(
            f"use = {text!r}: got the option {option[1]!r}, wanted a requirement alone, such as 'shop-catalog==2.0'; "
            "what pip and uv are to do otherwise, say by their own configuration"
        )
    if REQUIREMENT.fullmatch(text) and ":" not in text.partition(";")[0]:
        return Request(text, "requirement", text)
    return None


def _instead_of(name: str, address: str) -> str:
    """What to write in the place of a direct reference, "NAME @ ADDRESS"."""
    address = address.partition(";")[0].strip()
    if address.startswith("file:"):
        address = unquote(urlsplit(address).path)
    named = address.startswith(GIT) or ":" not in address
    wanted = repr(address) if named else "the path of a wheel or a directory on this machine, or 'git+https://...'"
    return f"got a direct reference, wanted {wanted} alone, or a version of an index, such as '{name}==1.0'"


def _git(text: str) -> Request | None:
    address, _, fragment = text.removeprefix(GIT).partition("#")
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ContractError(f"use = {text!r}: wanted 'git+SCHEME://...' with a scheme of {', '.join(SCHEMES)}")
    host, slash, path = rest.partition("/")
    path, _, reference = path.partition("@")
    if ":" in reference or ":" in path:  # an entry follows
        return None
    key, _, subdirectory = fragment.partition("=")
    if (key and key != "subdirectory") or ":" in subdirectory:
        if ":" in subdirectory:
            return None
        raise ContractError(f"use = {text!r}: after '#' wanted 'subdirectory=FOLDER'")
    if reference.startswith("-") or os.path.isabs(subdirectory) or ".." in subdirectory.split("/"):
        raise ContractError(
            f"use = {text!r}: wanted a branch, a tag or a commit after '@', and a folder in it after '#'"
        )
    return Request(text, "git", f"{scheme}://{host}{slash}{path}", reference=reference, subdirectory=subdirectory)


def normalised(name: str) -> str:
    """The name of a distribution as indexes compare them: "Shop_Catalog" → "shop-catalog"."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution_of(requirement: str) -> str:
    """The name in "Shop_Catalog[extra]==2.0", normalised."""
    found = REQUIREMENT.fullmatch(requirement)
    return normalised(found[1] if found else requirement)
