"""Compiles the shared-memory ring and its companion, and installs without them where that cannot be done.

The environment variable MUKERNEL_EXTENSIONS decides what a failure means:
    auto     (the default) the failure is printed, and the socket transport serves instead of the ring
    require  the installation fails
    skip     nothing is compiled
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CHOICES = ("auto", "require", "skip")
SOURCES = {
    "mukernel.kernel.ring": "src/mukernel/kernel/ring.pyx",
    "mukernel.transports.tracked": "src/mukernel/transports/tracked.pyx",
}
if sys.version_info < (3, 12):  # later ones have __buffer__
    SOURCES["mukernel.contract.exported"] = "src/mukernel/contract/exported.pyx"
CHOICE = os.environ.get("MUKERNEL_EXTENSIONS", "auto")
if CHOICE not in CHOICES:
    raise SystemExit(f"MUKERNEL_EXTENSIONS: got {CHOICE!r}, wanted one of {', '.join(CHOICES)}")


def report(name: str, reason: object) -> None:
    """Prints that extension `name` is missing, why, and what serves in its place."""
    print(f"mukernel: {name} was not compiled: {reason}", file=sys.stderr)
    serves = "a Buffer is not bytes-like" if name.endswith("exported") else "the socket transport serves instead"
    print(f"mukernel: the installation goes on; {serves}", file=sys.stderr)


def extension(name: str, source: str) -> Extension:
    folder = Path(source).parent
    return Extension(
        name,
        [source],
        include_dirs=[str(folder)],
        depends=[str(path) for suffix in ("*.h", "*.pxd") for path in sorted(folder.glob(suffix))],
        extra_compile_args=["-O2", "-std=gnu11"],
    )


def translated() -> list[Extension]:
    """The extensions whose Cython source became C; those that failed are reported and left out."""
    if CHOICE == "skip":
        return []
    wanted = [extension(name, source) for name, source in SOURCES.items() if Path(source).exists()]
    try:
        from Cython.Build import cythonize
    except ImportError as error:
        if CHOICE == "require":
            raise
        for item in wanted:
            report(item.name, f"Cython is missing ({error})")
        return []
    from Cython.Compiler.Errors import CompileError

    done = []
    for item in wanted:
        try:
            done += cythonize([item], build_dir="build/cython", language_level=3)
        except CompileError as error:
            if CHOICE == "require":
                raise
            report(item.name, f"Cython could not translate {item.sources[0]} ({error})")
            discard_stale(item.name)
    for item in done:  # only now: cythonize makes new objects, and forgets this
        item.optional = CHOICE != "require"
    return done


def discard_stale(name: str) -> None:
    """Removes an earlier in-place build, which would be imported in place of the source that failed."""
    source = Path(SOURCES[name])
    for path in source.parent.glob(f"{source.stem}.*.so"):
        path.unlink()


class BuildOptional(build_ext):
    """Builds each extension by itself, so that one failure neither stops the others nor the installation."""

    def build_extension(self, ext: Extension) -> None:
        # Whoever sees the exception last decides: with ext.optional set, setuptools logs it and goes on.
        try:
            super().build_extension(ext)
        except Exception as error:
            if ext.optional:
                report(ext.name, f"the C compiler or the headers of Python failed ({error})")
                discard_stale(ext.name)
            raise


setup(ext_modules=translated(), cmdclass={"build_ext": BuildOptional})
