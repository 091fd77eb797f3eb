"""TOML file: an application file as it is read from the disk, before anything in it is checked."""

from __future__ import annotations

import os
import stat
import tomllib
from typing import Any

from ..contract import ContractError, NotFound
from .checks import NAME, WANTED_NAME
from .configuration import TOO_DEEP, all_within

LARGEST = 4 << 20  # bytes; an application of a thousand plug-ins has a twentieth of it


def read_toml(path: str) -> dict[str, Any]:
    """The tables of a file. Raises NotFound where it can't be read or is no regular file, and ContractError for what
    is no TOML, or more than anybody writes."""
    label = os.path.basename(path)
    try:
        with open(path, "rb", opener=without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise NotFound(f"{path} can't be read: it is no regular file, wanted an application file in TOML")
            raw = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}; `mukernel new NAME` makes a package that has one") from None
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror}") from None
    if len(raw) > LARGEST:
        raise ContractError(f"{path} has more than {LARGEST >> 20} MiB, wanted an application file in TOML")
    try:
        content = tomllib.loads(raw.decode("utf-8-sig"))  # editors of Windows begin a file with a mark
    except RecursionError:
        raise ContractError(f"{label}: a value {TOO_DEEP}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContractError(f"{label} is not TOML: {error}") from None
    try:
        for _ in all_within("", content):
            pass
    except ContractError as error:
        raise ContractError(f"{label}: {error}") from None
    return content


def without_waiting(path: str, flags: int) -> int:
    """Opens what `open` is to read: a pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def application_name(given: object) -> str:
    """The value of `app.name`. Raises ValueError with what was wanted."""
    if isinstance(given, str) and NAME.fullmatch(given):
        return given
    raise ValueError(WANTED_NAME)


def default_name(folder: str) -> str:
    """The name of an application whose file in `folder` gives it none."""
    return os.path.basename(folder) if NAME.fullmatch(os.path.basename(folder)) else "app"
