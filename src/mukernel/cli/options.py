"""Options: the arguments that several commands take, each with one meaning."""

from __future__ import annotations

import argparse


def add_file(parser: argparse.ArgumentParser) -> None:
    """The application file, of every command that reads one."""
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default="app.toml", help="the application file (default: app.toml)"
    )


def add_options(parser: argparse.ArgumentParser, json: bool = True, timeout: bool = True) -> None:
    """The options of every command that is a client. `timeout`: not where it has one of its own."""
    parser.add_argument("--app", metavar="NAME", help="the application that is meant, where several are running")
    parser.add_argument("--state", metavar="DIR", help="its state folder, where `mukernel run` was given one")
    parser.add_argument("--verbose", action="store_true", help="show the other side's traceback with an error")
    if timeout:
        parser.add_argument(
            "--timeout", metavar="TIME",
            help="how long the kernel may be silent (default: 5s); work that takes longer is not cut",
        )  # fmt: skip
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
