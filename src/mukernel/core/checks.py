"""What `kernel.load` and its relatives are given, checked once: errors name the argument, what came and was wanted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from ..contract import ContractError
from .registry import Options, RestartPolicy

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
STRATEGIES = ("one-for-one", "rest-for-one")
MOST_CALLS = 1_000_000  # that may be meant to run at once
MOST_THREADS = 1_000  # each has a stack, and a channel to whatever it may call
PLACEMENTS = "'inline', 'process' or 'process:NAME'"


def wrong(what: str, came: object, wanted: str) -> ContractError:
    return ContractError(f"{what}: got {came!r}, wanted {wanted}")


def checked_name(what: str, name: object) -> str:
    """A name that is safe in a path, a process title and a message."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise wrong(what, name, "1 to 63 letters, digits, '.', '_' or '-', a letter or digit first")
    return name


def checked_count(what: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number of at least `least`, and at most `most` if that is given."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        end = "" if most is None else f" and at most {most:,}"
        raise wrong(what, value, f"a whole number of at least {least}{end}")
    return value


def checked_seconds(what: str, value: object, least: float = 0.0) -> float:
    """A finite number of seconds, of at least `least`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < math.inf:
        raise wrong(what, value, f"a number of seconds of at least {least:g}")
    return value


def checked_placement(placement: object) -> str:
    """Raises ContractError for what is no placement, or none that this version has."""
    if isinstance(placement, str):
        kind, colon, name = placement.partition(":")
        if not colon and kind in ("inline", "process"):
            return placement
        if kind == "process" and colon and NAME.fullmatch(name):
            return placement
    raise wrong("placement", placement, PLACEMENTS)


def checked_options(options: Options) -> Options:
    """The options of a plug-in. Raises ContractError for the first that is not as it must be."""
    checked_placement(options.placement)
    checked_count("replicas", options.replicas, 1)
    if options.placement == "inline" and options.replicas != 1:
        raise wrong("replicas", options.replicas, "1 for a plug-in that runs inline")
    if options.concurrency is not None:
        checked_count("concurrency", options.concurrency, 1, MOST_CALLS)
    checked_count("threads", options.threads, 0, MOST_THREADS)
    if options.checkpoint is not None:
        checked_seconds("checkpoint", options.checkpoint, 0.001)
    checked_seconds("drain", options.drain)
    if options.limits.memory is not None:
        checked_count("memory", options.limits.memory, 1 << 20)
    for what, mapping in (("config", options.config), ("bind", options.bind)):
        if not isinstance(mapping, Mapping) or not all(isinstance(key, str) for key in mapping):
            raise wrong(what, mapping, "a dict whose keys are strings")
    checked_restart(options.restart)
    return replace(options, config=dict(options.config), bind=dict(options.bind))


def checked_restart(policy: RestartPolicy) -> None:
    if not isinstance(policy, RestartPolicy):
        raise wrong("restart", policy, "a RestartPolicy")
    checked_count("restart.intensity", policy.intensity, 0)
    for what in ("period", "backoff", "longest_backoff", "hang"):
        checked_seconds(f"restart.{what}", getattr(policy, what))
    if policy.strategy not in STRATEGIES:
        raise wrong("restart.strategy", policy.strategy, " or ".join(map(repr, STRATEGIES)))
