"""An application that serves files, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(folder: Path, mounts: dict[str, str]) -> Iterator[str]:
    """`mukernel run` of it; yields its state folder."""
    lines = [f'"{path}" = "{url}"' for path, url in mounts.items()]
    (folder / "app.toml").write_text(
        '[app]\nname = "served"\n[plugins.files]\nuse = "mukernel.servers.files:FileServer"\nplacement = "process"\n'
        "[plugins.files.config.mounts]\n" + "\n".join(lines) + "\n"
    )
    state = folder / "state"
    command = [sys.executable, "-m", "mukernel.cli", "run", str(folder / "app.toml"), "--state", str(state)]
    application = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert application.stdout is not None
        for line in application.stdout:
            if " runs; " in line:
                break
        yield str(state)
    finally:
        application.terminate()
        application.wait()
        assert application.stdout is not None
        application.stdout.close()
