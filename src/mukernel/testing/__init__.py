"""For tests of plug-ins and of applications: a kernel whose time is virtual and whose processes are simulated.

    from mukernel.testing import TestKernel

    def test_greeting() -> None:
        async def main(kernel: TestKernel) -> None:
            await kernel.load(English, placement="process")
            assert await kernel.get(Greeter).greet("Ada") == "Hello Ada"
        TestKernel().run(main)

With pytest, ask for the fixture `kernel`, which needs no more than an `async def` test; `process_kernel` is one with
real processes and real time.
"""

from ..kernel.clock import VirtualClock
from ..transports.memory import Weather
from .kernel import TestKernel

__all__ = ["TestKernel", "VirtualClock", "Weather"]
