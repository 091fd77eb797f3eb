"""A host that was written for pluggy: by another plug-in manager each of its plug-ins has a process of its own."""

import os
import signal

import pluggy

from mukernel import PluginCrashed
from mukernel.adapters.pluggy import PluginManager, isolated

hookspec = pluggy.HookspecMarker("kitchen")
hookimpl = pluggy.HookimplMarker("kitchen")


class Specification:
    @hookspec
    def ingredients(self, dish: list[str]) -> list[str]:
        """What to add."""
        raise NotImplementedError


class Salt:
    """A class as a namespace: it is registered as it is."""

    @staticmethod
    @hookimpl(trylast=True)
    def ingredients(dish: list[str]) -> list[str]:
        if "bomb" in dish:
            os.kill(os.getpid(), signal.SIGKILL)
        return ["salt"]


class Spices:
    """An object: it is made in its own process."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    @hookimpl
    def ingredients(self, dish: list[str]) -> list[str]:
        dish.append("seasoned")  # the caller's own list, as with pluggy
        return self.names


def main() -> None:
    with PluginManager("kitchen") as manager:  # in place of pluggy.PluginManager("kitchen")
        manager.add_hookspecs(Specification)
        manager.register(Salt)
        manager.register(isolated(Spices, "pepper", "thyme"), "spices")
        dish = ["egg"]
        print(manager.hook.ingredients(dish=dish), dish)
        try:
            manager.hook.ingredients(dish=["bomb"])
        except PluginCrashed:
            print("a plug-in died, and nobody else")
        print(manager.hook.ingredients(dish=[]))


if __name__ == "__main__":
    main()
