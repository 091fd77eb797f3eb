"""Sources: directories and git checkouts that are made into wheels, each once as long as nothing in it changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from ..contract import ContractError, NotFound
from .pythons import Python
from .request import Request
from .source_tree import SourceTree
from .store import Store, wheel_in
from .tools import Tools, Wanted
from .work import CHOSEN_ANEW, ToolFailed, Work

PROJECT = ("pyproject.toml", "setup.py")
COMMIT = "commit:"  # how a source begins that is of a repository


def source_of(request: Request, locked: str, own: Collection[str], work: Work) -> str:
    """What names the present content of a directory, or the commit of a repository that is meant: the `locked` one if
    there is one. `own`: paths of what mukernel keeps, which is no part of a directory. Raises NotFound, ContractError,
    ToolFailed, OSError."""
    if request.kind == "directory":
        check_project(request.target, request.use)
        return f"directory:{SourceTree(request.target, request.use, own).digest()}"
    if commit_of(locked):
        return locked
    work.say(f"asking {request.target} for {request.reference or 'its newest commit'}")
    wanted = request.reference or "HEAD"
    # Whole names, since git finds each that ends so, too; "^{}" is the commit of a tag that has an object of its own.
    names = [f"{name}{end}" for name in (f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted) for end in ("^{}", "")]
    said = work.run(["git", "ls-remote", "--", request.target, *names], f"use = {request.use!r}")
    commits = {name: commit for commit, name in (line.split("\t") for line in said.splitlines())}
    if found := next((commits[name] for name in names if name in commits), None):
        return f"{COMMIT}{found}"
    if 7 <= len(wanted) <= 40 and set(wanted) <= set("0123456789abcdef"):
        return f"{COMMIT}{wanted}"
    raise NotFound(f"use = {request.use!r}: the repository has no branch, tag or commit {wanted!r}")


def commit_of(source: str) -> str:
    """Which commit a source is; "" for a directory."""
    return source.removeprefix(COMMIT) if source.startswith(COMMIT) else ""


def wheel_of(
    request: Request, source: str, own: Collection[str], python: Python, store: Store, tools: Tools, wanted: Wanted,
    work: Work,
) -> tuple[str, str]:  # fmt: skip
    """The path of a wheel of what `source` names, built unless it is there; and what names the content that the wheel
    is made of: another one where a directory was edited meanwhile. `own`: as for `source_of`."""
    folder = wheel_folder(request, source, python, store)
    if not store.has_wheel(folder):
        work.say(f"building {request.use}")
        with store.scratch() as scratch:
            tree = os.path.join(scratch, "source")
            if request.kind == "git":
                check_out(request, commit_of(source), tree, work)
            else:
                source = f"directory:{SourceTree(request.target, request.use, own).copy(tree)}"
                folder = wheel_folder(request, source, python, store)
            if not store.has_wheel(folder):
                with store.making(folder) as unfinished:
                    try:
                        tools.build(os.path.join(tree, request.subdirectory), unfinished, python, wanted, work)
                    except ToolFailed as error:
                        raise ToolFailed(f"use = {request.use!r}: {error}") from None
                    if not wheel_in(Path(unfinished)):
                        raise ContractError(f"use = {request.use!r}: building it made no wheel")
    return wheel_in(folder), source


def wheel_folder(request: Request, source: str, python: Python, store: Store) -> Path:
    name = hashlib.sha256(f"{request.target}\0{request.subdirectory}\0{source}\0{python.identity}".encode()).hexdigest()
    return store.wheels / name[:24]


def check_out(request: Request, commit: str, folder: str, work: Work) -> None:
    what = f"use = {request.use!r}"
    work.run(["git", "clone", "--quiet", "--no-checkout", "--", request.target, folder], what)
    if request.reference.startswith("refs/"):  # such as refs/pull/7/head, which no clone has
        work.run(["git", "-C", folder, "fetch", "--quiet", "origin", request.reference], what)
    try:
        work.run(["git", "-C", folder, "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}"], what)
    except ToolFailed:
        raise NotFound(
            f"{what}: no branch or tag of the repository has the commit {commit}; wanted another, or, if that is the "
            f"one in the lock file: {CHOSEN_ANEW}"
        ) from None
    work.run(["git", "-C", folder, "checkout", "--quiet", "--detach", commit], what)
    work.run(["git", "-C", folder, "submodule", "--quiet", "update", "--init", "--recursive"], what)
    check_project(os.path.join(folder, request.subdirectory), request.use)


def check_project(folder: str, use: str) -> None:
    if not os.path.isdir(folder):
        raise NotFound(f"use = {use!r}: there is no folder {folder}")
    if not any(os.path.exists(os.path.join(folder, name)) for name in PROJECT):
        raise ContractError(f"use = {use!r}: {folder} is no project: wanted a {' or a '.join(PROJECT)} in it")
