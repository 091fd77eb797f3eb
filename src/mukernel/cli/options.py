"""Options: the arguments that several commands take, each with one meaning."""

from __future__ import annotations

import argparse


def add_file(parser: argparse.ArgumentParser) -> None:
    """The application file, of every command that reads one."""
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default="app.toml", help="the application file (default: app.toml)"
    )


def add_options(
    parser: argparse.ArgumentParser, json: bool = True, timeout: bool = True, changes: bool = False
) -> None:
    """The options of every command that is a client. `timeout`: not where it has one of its own; `changes`: it changes
    what runs, and says to people in which application, where nobody named one."""
    parser.set_defaults(changes=changes)
    parser.add_argument(
        "--app", metavar="NAME",
        help="which application (default: that of the app.toml here; if there is none, the only one that runs)",
    )  # fmt: skip
    parser.add_argument("--state", metavar="DIR", help="its state folder, where `mukernel run` was given one")
    parser.add_argument("--verbose", action="store_true", help="show the other side's traceback with an error")
    if timeout:
        parser.add_argument(
            "--timeout", metavar="TIME",
            help="how long the kernel may be silent (default: 5s); work that takes longer is not cut",
        )  # fmt: skip
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
