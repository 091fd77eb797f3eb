"""The command `mukernel`: reads which command is meant, and says in one sentence what went wrong."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from ..contract import MukernelError, RemoteError
from ..core.standard_streams import accept_any_text
from .terminal import Terminal, UsageError

COMMANDS = {  # in the order in which help shows them: name → (module, what it does)
    "demo": ("demo", "watch plug-ins being swapped, moved, scaled and killed under load"),
    "new": ("new", "make a package with a plug-in, a test and an app.toml that run at once"),
    "run": ("run", "run the application of an app.toml"),
    "check": ("check", "check an app.toml and its plug-ins, and start nothing"),
    "install": ("install", "give plug-ins that ask for it an environment of their own"),
    "list": ("environments", "list the environments that are installed, and who uses them"),
    "uninstall": ("environments", "remove the environment of a plug-in"),
    "gc": ("environments", "remove the environments that nothing needs"),
    "ps": ("ps", "list the plug-ins of a running application"),
    "top": ("top", "watch them, with calls a second"),
    "tree": ("tree", "show which plug-ins run in which process, and who calls whom"),
    "describe": ("describe", "show a plug-in's interfaces, methods and configuration"),
    "call": ("call", "call a method"),
    "swap": ("replace", "replace a plug-in by another version while it is being called"),
    "rollback": ("replace", "go back to the version before the last swap"),
    "move": ("replace", "let a plug-in run inline, or in a process, from now on"),
    "scale": ("replace", "run more or fewer instances of a plug-in"),
    "restart": ("replace", "replace each instance of a plug-in by a fresh one"),
    "stop": ("halt", "stop a plug-in"),
    "start": ("halt", "start a stopped plug-in again"),
    "stack": ("stack", "show where a plug-in stands: why does it hang?"),
    "caps": ("caps", "list what plug-ins may call, and the channels that are open for it"),
    "grant": ("caps", "let a plug-in call more, while it runs"),
    "revoke": ("caps", "take from a plug-in what it was granted, at once"),
    "memory": ("memory", "list the shared memory that plug-ins hold, against their quota"),
    "logs": ("logs", "show what plug-ins have printed"),
    "bench": ("bench", "measure how many calls a second a plug-in answers"),
}

INTERMIXED = ("call", "bench")  # they take any number of NAME=VALUE, before and after options

EXAMPLES = """\
examples:
  mukernel new hello                      make a first package in ./hello
  mukernel run hello/app.toml             run it, until Ctrl-C
  mukernel call Greeter.greet name=Ada    from another terminal
  mukernel move greeter process           give the plug-in a process of its own, while it runs

exit status: 0 done, 1 it failed, 2 the command was not understood"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status. Raises SystemExit for --help and for what argparse can't
    read."""
    try:
        return answered(argv)
    finally:
        forget_unread()


def answered(argv: Sequence[str] | None) -> int:
    keep_standard_streams()
    accept_any_text()
    if sys.stdout is None:
        Terminal(sys.stderr).complain("standard output is closed; give it a file, or /dev/null")
        return 1
    status = 0
    try:
        status = perform(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, where it may fail, and not when Python ends
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        return status  # that of a command which had come to its end
    except OSError as error:  # such as a standard output on a full disk
        of_output = is_of_output(error)
        problem = f"standard output can't be written: {error.strerror}" if of_output else f"the system refused: {error}"
        with contextlib.suppress(OSError):  # whoever read our errors may be gone, too
            Terminal(sys.stderr).complain(problem)
        return 1


def keep_standard_streams() -> None:
    """Where standard input, output or errors are closed, keep their numbers from whatever is opened next."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def is_of_output(error: OSError) -> bool:
    """Is it standard output that the system refused to write? It does not say so, but what was not taken is still to be
    written."""
    if error.filename is None:
        try:
            sys.stdout.flush()
        except OSError as again:
            return again.errno == error.errno
    return bool(error.filename == sys.stdout.name)


def forget_unread() -> None:
    """What can't be written goes nowhere: as it ends Python would try again, and have a status of its own for that."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):  # no file
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def perform(given: Sequence[str]) -> int:
    """Run one command; raises what is no error of ours."""
    parser = argparse.ArgumentParser(
        "mukernel", description="A microkernel for Python applications.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("-V", "--version", action="store_true", help="print the version of mukernel and of Python")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", title="commands")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in given[:1]:  # only the one that is meant is imported
            import_module(f".{module}", __package__).configure(command, name)
    arguments = parsed(parser, commands.choices, given)
    if arguments.version:
        from ..core.control_server import installed_version  # only this needs it

        print(f"mukernel {installed_version()} (Python {sys.version.split()[0]})")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 0
    terminal = Terminal(sys.stderr)
    verbose = getattr(arguments, "verbose", False)
    heed_ctrl_c()
    try:
        return int(arguments.run(arguments))
    except UsageError as error:
        problem, status = str(error), 2
    except MukernelError as error:
        problem, status = explained(error, verbose), 1
    with contextlib.suppress(BrokenPipeError):  # it failed, whether anybody reads that or not
        terminal.complain(problem)
    return status


def heed_ctrl_c() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, if our script has let it end the process until here."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def parsed(
    parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser], given: Sequence[str]
) -> argparse.Namespace:
    """What was given. Arguments and options of a command that takes many arguments may come in any order, which
    argparse does for a parser without commands only. Raises SystemExit."""
    if given and given[0] in INTERMIXED:
        return commands[given[0]].parse_intermixed_args(given[1:], argparse.Namespace(version=False, command=given[0]))
    arguments, surplus = parser.parse_known_args(given)
    if surplus:  # said by the parser of the command, which shows its own usage
        commands.get(arguments.command, parser).error(f"unrecognized arguments: {' '.join(surplus)}")
    return arguments


def explained(error: MukernelError, verbose: bool) -> str:
    """An error in one sentence; the other side's traceback only if it was asked for."""
    if isinstance(error, RemoteError):
        text = f"{error.type_name}: {error.message}" if error.message else error.type_name
        if error.traceback:
            text += f"\n{error.traceback.rstrip()}" if verbose else " (--verbose shows the traceback)"
        return text
    notes = getattr(error, "__notes__", []) if verbose else []
    return "\n".join([str(error), *notes])
