"""Swaps to a version with other dependencies, in an environment of its own that is installed already, under load."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from benchmarks import load
from benchmarks.measure import Table
from benchmarks.report import Part, Settings, nearest_rank
from benchmarks.swaps import CALLERS, swap_under_load
from mukernel.deployment import Installer, read_request
from mukernel.deployment.wheel import write_wheel

LIMIT = 5  # ms
USES = ("tally-plugin==2.0", "tally-plugin==1.0")
TAG = "py3-none-any"


def write_versions(folder: str) -> None:
    """Two versions of the tally that `swaps` measures, and the two versions of a library that they need."""
    module = Path(load.__file__).read_bytes() + b"\nimport tally_library  # noqa\n"
    for version in ("1.0", "2.0"):
        head = f"Metadata-Version: 2.1\nVersion: {version}\n"
        library = {"tally_library.py": f"VERSION = {version!r}\n".encode()}
        write_wheel(folder, "tally_library", version, TAG, library, {"METADATA": f"{head}Name: tally-library\n"})
        needs = f"{head}Name: tally-plugin\nRequires-Dist: tally-library=={version}\nRequires-Dist: mukernel\n"
        points = "[mukernel.plugins]\ntally = tally_plugin:Tally\n"
        about = {"METADATA": needs, "entry_points.txt": points}
        write_wheel(folder, "tally_plugin", version, TAG, {"tally_plugin.py": module}, about)


def installed_versions(folder: str) -> Installer:
    """An installer that has both; what is measured finds them there."""
    wheels = os.path.join(folder, "wheels")
    os.mkdir(wheels)
    write_versions(wheels)
    installer = Installer(os.path.join(folder, "store"), wheels=[wheels])
    for use in USES:
        request = read_request(use)
        assert request is not None
        installer.install(request)[1].close()
    return installer


def run(settings: Settings) -> Part:
    """400 swaps (20 with --quick) under 16 callers, from one environment to the other and back; as many beside them.

    The kernel keeps the fork server of the environment that it came from, so these start none, but for the first two.
    The first swap of each of 10 more kernels shows what it costs the callers that one is started meanwhile.
    """
    swaps = 20 if settings.quick else 400
    with tempfile.TemporaryDirectory() as folder:
        installer = installed_versions(folder)
        outcome = asyncio.run(swap_under_load(swaps, versions=USES, installer=installer))
        firsts = [asyncio.run(swap_under_load(1, versions=USES, installer=installer)) for _ in range(10)]
        beside = asyncio.run(swap_under_load(swaps))
    rows = [
        (name, *(1000 * value for value in (nearest_rank(times, 0.5), nearest_rank(times, 0.99), max(times))))
        for name, times in (
            ("pause: no call was started (the kernel's own figure)", outcome.pauses),
            ("the same of swaps in the environment of the kernel", beside.pauses),
            ("no caller had a reply", outcome.silences),
            ("the same without a swap, as many replies long", outcome.undisturbed),
            ("slowest call that ended during the swap", outcome.slowest),
            ("no caller had a reply, a fork server being started", [each.silences[0] for each in firsts]),
            ("the same without a swap, as many replies long", [each.undisturbed[0] for each in firsts]),
        )
    ]
    title = f"{swaps} swaps to an environment with other dependencies, under {CALLERS} callers, in ms"
    part = Part([Table(title, ("for each swap", "p50", "p99", "max"), rows)])
    part.exactly(f"{swaps} swaps to other dependencies: calls lost", sum(each.lost for each in (outcome, *firsts)), 0)
    part.exactly(
        f"{swaps} swaps to other dependencies: calls executed twice", sum(each.twice for each in (outcome, *firsts)), 0
    )
    pause, silence, undisturbed = (
        1000 * nearest_rank(times, 0.99) for times in (outcome.pauses, outcome.silences, outcome.undisturbed)
    )
    what = f"{swaps} swaps to other dependencies, installed already: p99"
    part.at_most(f"{what} pause of the kernel", pause, LIMIT, " ms")
    part.at_most(f"{what} without a reply, beyond that of no swap", silence - undisturbed, LIMIT, " ms")
    return part
