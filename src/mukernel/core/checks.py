"""What `kernel.load` and its relatives are given, checked once: errors name the argument, what came and was wanted."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from ..contract import Capability, ContractError, read_capability
from ..contract.error_texts import sendable
from ..kernel.process import Limits
from ..sandbox.policy import NEVER_GIVEN, Sandbox, is_given
from .configuration import all_within, as_sent
from .quantity import size
from .registry import Options, RestartPolicy

# Names become those of log files, processes and spaces.
LONGEST_NAME = 63
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST_NAME - 1}}}")
STRATEGIES = ("one-for-one", "rest-for-one")
WANTED_NAME = f"1 to {LONGEST_NAME} letters, digits, '.', '_' or '-', a letter or digit first"
RESERVED = "kernel"  # names the kernel's own process, space and log
WANTED_OTHER = f"another name: {RESERVED!r} is that of the kernel's own process and log"
LEAST_FILES = 24  # descriptors: a process has some 10 of its own before it is called, and calls, the first time
LEAST_MEMORY = 32 << 20  # bytes: a process has 22 MiB of its own before a plug-in is in it (Python 3.11, x86-64)
LEAST_SHARED = 1 << 20  # bytes, in an application file
MOST_MEMORY = 1 << 50
MOST_REPLICAS = 1_000  # each has a process
SHORTEST_CHECKPOINT = 0.001  # seconds
WHOLE = range(-(1 << 63), 1 << 64)  # what a message between processes can carry
MOST_CALLS = 1_000_000  # that may be meant to run at once
MOST_PROCESSES = 10_000  # of one sandbox, threads included
MOST_THREADS = 1_000  # each has a stack, and a channel to whatever it may call
PLACEMENTS = "'inline', 'process', 'process:NAME', 'sandbox' or 'sandbox:NAME'"
APART = ("process", "sandbox")  # placements that a NAME may follow
LEAST_TEMPORARY = LEAST_LOG = 1 << 16  # bytes


def wrong(what: str, came: object, wanted: str) -> ContractError:
    return ContractError(f"{what}: got {came!r}, wanted {wanted}")


def nearest(name: str, known: Sequence[str], else_: str = "there are") -> str:
    """A hint for whoever named what there is not."""
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"{else_}: {', '.join(known) or 'none'}"


def checked_name(what: str, name: object) -> str:
    """A name that is safe in a path, a process title and a message."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise wrong(what, name, WANTED_NAME)
    if name == RESERVED:
        raise wrong(what, name, WANTED_OTHER)
    return name


def checked_reason(reason: object, plugin: str) -> str:
    """What the callers of a plug-in that is unloaded are told."""
    if not isinstance(reason, str | None):
        raise wrong("reason", reason, "a str, or None")
    return sendable(reason) if reason and reason.strip() else f"plug-in {plugin!r} was unloaded"


def checked_count(what: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number of at least `least`, and at most `most` if that is given."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        end = "" if most is None else f" and at most {most:,}"
        raise wrong(what, value, f"a whole number of at least {least}{end}")
    return value


def checked_replicas(replicas: object) -> int:
    """How many instances a plug-in is to have: each has a process, so that too many are refused and not begun."""
    return checked_count("replicas", replicas, 1, MOST_REPLICAS)


def too_many_replicas(name: str, count: int) -> ContractError:
    """Of a plug-in whose class says that it has one."""
    return ContractError(
        f"replicas: got {count}, wanted 1 for {name!r}: it has what several instances can't share (`one_replica` of "
        "its class)"
    )


def checked_seconds(what: str, value: object, least: float = 0.0) -> float:
    """A finite number of seconds, of at least `least`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < math.inf:
        raise wrong(what, value, f"a number of seconds of at least {least:g}")
    return value


def checked_bytes(what: str, given: object) -> int:
    """Bytes, more than 0, as a number or a text such as "256M"."""
    try:
        count = size(given)
    except ValueError as wanted:
        raise wrong(what, given, str(wanted)) from None
    return checked_count(what, count, 1, MOST_MEMORY)


def checked_placement(placement: object) -> str:
    """Raises ContractError for what is no placement, or none that this version has."""
    if isinstance(placement, str):
        kind, colon, name = placement.partition(":")
        if not colon and kind in ("inline", *APART):
            return placement
        if kind in APART and name == RESERVED:
            raise wrong("placement", placement, WANTED_OTHER)
        if kind in APART and colon and NAME.fullmatch(name):
            return placement
    raise wrong("placement", placement, PLACEMENTS)


def checked_options(options: Options) -> Options:
    """The options of a plug-in. Raises ContractError for the first that is not as it must be."""
    checked_placement(options.placement)
    checked_replicas(options.replicas)
    if options.placement == "inline" and options.replicas != 1:
        raise wrong("replicas", options.replicas, "1 for a plug-in that runs inline")
    if options.concurrency is not None:
        checked_count("concurrency", options.concurrency, 1, MOST_CALLS)
    checked_count("threads", options.threads, 0, MOST_THREADS)
    if options.checkpoint is not None:
        checked_seconds("checkpoint", options.checkpoint, SHORTEST_CHECKPOINT)
    checked_seconds("drain", options.drain)
    checked_limits(options.limits)
    if options.shared_memory is not None:
        if options.placement == "inline":
            raise wrong("shared_memory", options.shared_memory, "none for a plug-in that runs inline: Kernel() has one")
        checked_count("shared_memory", options.shared_memory, 0, MOST_MEMORY)
    checked_count("log_size", options.log_size, LEAST_LOG, MOST_MEMORY)
    config = checked_config(options.config)
    if not is_dict_of_names(options.bind) or not all(isinstance(plugin, str) for plugin in options.bind.values()):
        raise wrong("bind", options.bind, "a dict of names: which plug-in is meant, by interface")
    checked_restart(options.restart)
    checked_sandbox(options)
    checked_threads(options.placement, options.threads, options.sandbox, options.limits.processes)
    return replace(options, config=config, bind=dict(options.bind), grants=checked_grant_list(options.grants))


def checked_limits(limits: object) -> None:
    """Raises ContractError for what are no Limits, or one of them that is no quantity."""
    if not isinstance(limits, Limits):
        raise wrong("limits", limits, "Limits (of mukernel.kernel.process), such as Limits(cpu_seconds=60)")
    if limits.memory is not None:
        checked_count("memory", limits.memory, LEAST_MEMORY, MOST_MEMORY)
    for what, least in (("cpu_seconds", 0), ("files", LEAST_FILES), ("processes", 0), ("core", 0)):
        if (limit := getattr(limits, what)) is not None:
            checked_count(f"limits.{what}", limit, least, MOST_MEMORY)


def checked_sandbox(options: Options) -> None:
    """Raises ContractError for a sandbox that nothing is in, and for a path that is not absolute, or not there."""
    sandbox = options.sandbox
    if sandbox is None:
        return
    if not isinstance(sandbox, Sandbox):
        raise wrong("sandbox", sandbox, "a Sandbox")
    for what in ("read", "write"):
        paths = getattr(sandbox, what)
        if not isinstance(paths, tuple | list):
            raise wrong(f"sandbox.{what}", paths, "a tuple of paths")
        for path in paths:
            if not isinstance(path, str) or not os.path.isabs(path) or not os.path.exists(path):
                raise wrong(f"sandbox.{what}", path, "the absolute path of a folder or file that exists")
            if not is_given(os.path.realpath(path)):
                raise wrong(
                    f"sandbox.{what}", path, f"a folder in it: your whole home and {', '.join(NEVER_GIVEN)} are refused"
                )
    checked_count("sandbox.temporary", sandbox.temporary, LEAST_TEMPORARY, MOST_MEMORY)
    checked_count("sandbox.processes", sandbox.processes, 1, MOST_PROCESSES)


def checked_threads(placement: str, threads: int, sandbox: Sandbox | None, processes: int | None = None) -> None:
    """Raises ContractError for more threads than the process of a plug-in can ever have beside its first. `processes`:
    what it is limited to, sandbox or none."""
    kind = placement.partition(":")[0]
    if kind == "sandbox" and not processes:
        processes = (sandbox or Sandbox()).processes
    if kind != "inline" and processes and threads >= processes:
        what = "sandbox.processes" if kind == "sandbox" else "limits.processes"
        raise wrong("threads", threads, f"fewer than {what}, {processes:,}, which counts the first thread, too")


def checked_config(config: object) -> dict[str, Any]:
    """The configuration of a plug-in, whose constructor checks the rest."""
    if not is_dict_of_names(config):
        raise wrong("config", config, "a dict whose keys are strings")
    checked_whole("config", config)
    return as_sent(config)


def checked_grant_list(grants: object) -> tuple[Capability, ...] | None:
    """The grants of a plug-in, each once; None: nothing was said."""
    if grants is None:
        return None
    if not isinstance(grants, Sequence) or isinstance(grants, str | bytes):
        raise wrong("grants", grants, "a list, such as ['Catalog', 'Files:read:/data']")
    found = []
    for number, each in enumerate(grants):
        try:
            found.append(read_capability(each))
        except ContractError as error:
            raise ContractError(f"grants[{number}]: {error}") from None
    return tuple(dict.fromkeys(found))


def is_dict_of_names(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Is it a mapping, and every key a string?"""
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def checked_bindings(bind: Mapping[str, str], needs: Sequence[str], plugin: str) -> None:
    """Raises ContractError for an interface that the plug-in's constructor does not ask for."""
    for interface in bind:
        if interface not in needs:
            asked = ", ".join(needs) or "no interface"
            raise ContractError(f"plug-in {plugin!r}: bind.{interface}: it does not ask for that; it asks for: {asked}")


def checked_whole(what: str, value: object) -> None:
    """Raises ContractError for a whole number, however deep in mappings and sequences, that no message can carry, and
    for what lies too deep in them."""
    for where, each in all_within(what, value):
        if isinstance(each, int) and int(each) not in WHOLE:  # for an IntEnum `in` would walk the whole range
            raise wrong(where, each, "a whole number of at most 64 bits; give a larger one as text")


def checked_restart(policy: RestartPolicy) -> None:
    if not isinstance(policy, RestartPolicy):
        raise wrong("restart", policy, "a RestartPolicy")
    checked_count("restart.intensity", policy.intensity, 0)
    for what in ("period", "backoff", "longest_backoff", "hang"):
        checked_seconds(f"restart.{what}", getattr(policy, what))
    if policy.strategy not in STRATEGIES:
        raise wrong("restart.strategy", policy.strategy, " or ".join(map(repr, STRATEGIES)))
