"""Where a demo runs in the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

MARK = "MUKERNEL_DEMO_TEST"


class Surroundings:
    """Where a demo runs: an environment of its own, by which everything that it left behind is found."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.shared = set(os.listdir("/dev/shm"))
        self.environment = {
            **os.environ,
            MARK: self.mark,
            "TMPDIR": str(folder / "tmp"),
            "XDG_RUNTIME_DIR": str(folder / "run"),
        }
        for name in ("tmp", "run"):
            (folder / name).mkdir(mode=0o700)

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def processes(self) -> list[int]:
        """Every process that inherited the mark, zombies aside."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    environment = Path("/proc", name, "environ").read_bytes()
                except OSError:
                    continue
                if f"{MARK}={self.mark}".encode() in environment.split(b"\0"):
                    found.append(int(name))
        return found

    def left(self) -> list[str]:
        """What there would not be if the demo had cleaned up."""
        left = [f"process {pid}" for pid in self.processes()]
        left += [f"file {path}" for path in (self.folder / "tmp").iterdir()]
        own = f"mukernel-{self.mark}"
        return left + [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - self.shared if own in name]


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    made = Surroundings(tmp_path)
    yield made
    for pid in made.processes():  # of a test that failed
        os.kill(pid, signal.SIGKILL)
