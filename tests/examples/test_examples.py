"""Every file in examples/ runs as it stands, says what it should, and passes a strict type checker."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPECTED = {
    "sandbox.py": [
        r"in a process, your notes: 2",
        r"in a sandbox, what it was granted: 2",
        r"in a sandbox, your notes: refused, (FileNotFoundError|PermissionError)",
        r"in a sandbox, the network: refused, PermissionError",
    ],
    "hello.py": [
        r"Good day, Ada \(1 notes\)",
        r"\[0, 1, 2, 3, 4\] \['NEVER', 'LOST'\]",
        r"English process → Effusive process: How very good to see you, Ada! \(1 notes\)",
        r"runs here now: True and still: How very good to see you, Ada! \(1 notes\)",
        r"replicas that answer: 3",
    ],
    "swap.py": [
        r"rolled back: swap of 'account' was rolled back, the old version serves on: .*the bank does not answer",
        r"10 swaps, the longest pause [\d.]+ ms",
        r"(\d+) deposits made, the balance is \1: nothing was lost",
        r"the ledger: (\d+) accepted = (\d+) replied \+ (\d+) refused, 0 lost",
    ],
    "plain_class.py": [r"Page\(title='a pla', words=3\)", r"elsewhere: True"],
    "pluggy_host.py": [
        r"\[\['pepper', 'thyme'\], \['salt'\]\] \['egg', 'seasoned'\]",
        r"a plug-in died, and nobody else",
        r"\[\['pepper', 'thyme'\], \['salt'\]\]",
    ],
    "threads.py": [r"prices before \{123\}, during the swap as before or after: True, after \{120\}"],
    "events.py": [
        r"published at offset 1 of stream orders",
        r"the server was killed; the next order has offset 2",
        r"billing: Order\(article='tea', pieces=3\), delivery 1",
        r"billing: Order\(article='milk', pieces=1\), delivery 1",
        r"billing: Order\(article='tea', pieces=3\), delivery 2",
        r"replayed: 1 tea, 2 milk",
        r"dead letter: orders.created, nobody can do this",
    ],
    "brokered.py": [
        r"sent: \['Ada'\]",
        r"nobody is there to send them, and two processes were killed",
        r"sent: \['Ada', 'Grace', 'Barbara'\]",
    ],
    "flask_shop.py": [r"before \{'200 123'\}, during the swap as before or after: True, after \{'200 120'\}"],
    "django_shop.py": [r"Hello, Ada!", r"all answered during the swap: True", r"Good day, Ada!"],
    "streams.py": [
        r"a whole stream: 332833500",
        r"read \[0, 1, 4\]; the other side was no more than its credit ahead: True",
        r"a channel: \[2.0, 3.0, 5.0\]",
    ],
    "database.py": [
        r"rolled back: there is not that much tea",
        r"\[{'article': 'ink', 'count': 10}, {'article': 'tea', 'count': 1}\]",
        r"changed 1 row, once: \[\[0\], \[10\]\]",
    ],
    "web.py": [
        r"prices: 200 {'tea': 3}",
        r"changing them: denied, write '(http://127\.0\.0\.1:\d+)/prices': the caller was granted only: Http:read:\1",
        r"refused: http://169\.254\.169\.254 is not allowed; the origins of this driver are: http://127\.0\.0\.1:\d+",
        r"streamed: 300000 bytes",
    ],
    "disk.py": [
        r"256 blocks of 4096 bytes",
        r"merged: True",
        r"still there: True",
        r"refused: got 1 blocks from block 256 on, wanted at least 1, within the disk's 256",
    ],
    "files.py": [
        r"written 12 bytes",
        r"read through mukernel:// 2 lines",
        r"mounts \['/reports', '/scratch'\]",
        r"refused: path: got '/reports/../etc/passwd', wanted one without '..': .*",
        r"as itself: \[Errno 2\] '/reports/tuesday.txt': No such file or directory",
    ],
    "arrow_tables.py": [
        r"received: 1000000 rows, passed on, and back come 500000",
        r"the last: \[{'station': 'station 9', 'degrees': 999999.0}\]",
        r"and when nobody looks into them: 0 bytes",
    ],
    "large_arrays.py": [
        r"the brightest rows: \{255\} can be written here: False",
        r"held here: True",
        r"and when nobody looks into them: 0 bytes",
        r"refused: .*no room for 100,000,000 bytes more of shared memory: .* \(shared_memory\) is 67,108,864; .*",
    ],
    "environments.py": [
        r"old: 1\.10, by packaging 23\.\d+",
        r"new: 1\.10, by packaging 2[4-9]\.\d+",
        r"swapped, 0 lost: packaging 2[4-9]\.\d+",
        r"and back: packaging 23\.\d+",
        r"what can't be installed changes nothing: 23\.\d+",
    ],
    "supervision.py": [
        r"charged 40",
        r"killed [1-5] processes; 2400 idempotent calls, all answered: True",
        r"\d+ calls were being run and may be run only once: their callers were told PluginCrashed",
        r"restarted from its checkpoint, charged 42",
        r"restarts: [1-5]",
    ],
}


def test_every_example_is_expected_to_say_something() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_it_runs(name: str) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, check=False)
    if "no package index could be reached" in done.stderr:
        pytest.skip("what this example installs can't be had here")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(EXPECTED[name]), done.stdout
    for line, wanted in zip(lines, EXPECTED[name], strict=True):
        assert re.fullmatch(wanted, line), f"{name} said {line!r}, wanted {wanted!r}"


def test_they_pass_a_strict_type_checker() -> None:
    """kernel.get(Greeter) is a Greeter: without generated code, without casts."""
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, EXAMPLES.glob("*.py"))],
        capture_output=True, text=True, check=False, cwd=EXAMPLES.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
