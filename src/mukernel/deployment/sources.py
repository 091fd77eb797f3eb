"""Sources: directories and git checkouts that are made into wheels, each once as long as nothing in it changes."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from ..contract import ContractError, NotFound
from .pythons import Python
from .request import Request
from .store import Store
from .tools import Tools, Wanted
from .work import Work

PROJECT = ("pyproject.toml", "setup.py")
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "*.py[cod]", "*.egg-info", "build", "dist", ".venv", "venv", ".tox", ".nox", ".*_cache"
)


def source_of(request: Request, locked: str, work: Work) -> str:
    """What names the present content of a directory, or the commit of a repository that is meant: the `locked` one if
    there is one. Raises NotFound, ContractError, ToolFailed."""
    if request.kind == "directory":
        check_project(request.target, request.use)
        return f"directory:{tree_digest(request.target)}"
    if locked.startswith("commit:"):
        return locked
    work.say(f"asking {request.target} for {request.reference or 'its newest commit'}")
    wanted = request.reference or "HEAD"
    said = work.run(["git", "ls-remote", "--", request.target, wanted, f"{wanted}^{{}}"], f"use = {request.use!r}")
    lines = [line.split() for line in said.splitlines()]
    if lines:
        return f"commit:{lines[-1][0]}"  # of a tag that has an object of its own the last is the commit
    if 7 <= len(wanted) <= 40 and set(wanted) <= set("0123456789abcdef"):
        return f"commit:{wanted}"
    raise NotFound(f"use = {request.use!r}: the repository has no branch, tag or commit {wanted!r}")


def wheel_of(
    request: Request, source: str, python: Python, store: Store, tools: Tools, wanted: Wanted, work: Work
) -> str:
    """The path of a wheel of what `source` names, built unless it is there."""
    name = hashlib.sha256(f"{request.target}\0{request.subdirectory}\0{source}\0{python.identity}".encode()).hexdigest()
    folder = store.wheels / name[:24]
    if not folder.exists():
        work.say(f"building {request.use}")
        with store.making(folder) as unfinished:
            tree = os.path.join(unfinished, "source")
            if request.kind == "git":
                check_out(request, source.removeprefix("commit:"), tree, work)
            else:
                shutil.copytree(request.target, tree, symlinks=True, ignore=LEFT_OUT)
            tools.build(os.path.join(tree, request.subdirectory), unfinished, python, wanted, work)
            shutil.rmtree(tree)
            if not any(each.endswith(".whl") for each in os.listdir(unfinished)):
                raise ContractError(f"use = {request.use!r}: building it made no wheel")
    return str(next(each for each in folder.iterdir() if each.suffix == ".whl"))


def check_out(request: Request, commit: str, folder: str, work: Work) -> None:
    what = f"use = {request.use!r}"
    work.run(["git", "clone", "--quiet", "--no-checkout", "--", request.target, folder], what)
    work.run(["git", "-C", folder, "checkout", "--quiet", "--detach", commit], what)
    check_project(os.path.join(folder, request.subdirectory), request.use)


def check_project(folder: str, use: str) -> None:
    if not os.path.isdir(folder):
        raise NotFound(f"use = {use!r}: there is no folder {folder}")
    if not any(os.path.exists(os.path.join(folder, name)) for name in PROJECT):
        raise ContractError(f"use = {use!r}: {folder} is no project: wanted a {' or a '.join(PROJECT)} in it")


def tree_digest(folder: str) -> str:
    """Of all that a wheel of the folder could be made of."""
    found = hashlib.sha256()
    for where, folders, files in os.walk(folder):
        left_out = LEFT_OUT(where, [*folders, *files]) | {".git"}
        folders[:] = sorted(set(folders) - left_out)
        for name in sorted(set(files) - left_out):
            path = Path(where, name)
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            mode = os.lstat(path).st_mode & 0o111
            found.update(f"{path.relative_to(folder)}\0{bool(mode)}\0{len(content)}\0".encode())
            found.update(content)
    return found.hexdigest()[:32]
