"""Wheel: the file format in which distributions are installed, as far as its name and content are looked at here."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from ..contract import ContractError
from .request import normalised

FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # that a zip file can hold: the same content makes the same file


@dataclass(frozen=True, slots=True)
class WheelName:
    """What the name of a wheel file says."""

    distribution: str
    version: str
    tags: str


def read_name(path: str) -> WheelName:
    """Raises ContractError for a name that is no wheel's."""
    fields = os.path.basename(path).removesuffix(".whl").split("-")
    if len(fields) not in (5, 6):
        raise ContractError(f"use = {path!r}: wanted a wheel, named NAME-VERSION-PYTHON-ABI-PLATFORM.whl")
    return WheelName(normalised(fields[0]), fields[1], "-".join(fields[-3:]))


def digest(path: str) -> str:
    """Of a file, as lock files and installers write it. Raises OSError."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def check_wheel(path: str) -> None:
    """Raises ContractError for what is no whole wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken is None and any(name.endswith(".dist-info/METADATA") for name in archive.namelist()):
                return
    except Exception as error:  # no archive, torn, encrypted, packed in a way that nobody knows
        raise ContractError(f"use = {path!r}: it is no whole wheel: {error}") from None
    raise ContractError(f"use = {path!r}: it is no whole wheel: {broken or 'it has no metadata'}")


def write_wheel(
    folder: str, name: str, version: str, tag: str, files: Mapping[str, bytes], information: Mapping[str, str]
) -> str:
    """Write a wheel into a folder; returns its path. `information`: files of its .dist-info, METADATA among them."""
    about = f"{name}-{version}.dist-info"
    pure = "true" if tag.endswith("-any") else "false"
    content = {
        **files,
        **{f"{about}/{key}": value.encode() for key, value in information.items()},
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: mukernel\nRoot-Is-Purelib: {pure}\nTag: {tag}\n".encode(),
    }
    record = "".join(f"{key},{record_hash(value)},{len(value)}\n" for key, value in content.items())
    content[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    path = os.path.join(folder, f"{name}-{version}-{tag}.whl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, value in content.items():
            entry = zipfile.ZipInfo(key, FIRST_TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, value)
    return path


def record_hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
