"""What stands in a host for an object that is made in another process."""

from typing import Any

import hook_samples
import pytest
from hook_samples import Compact, Compared, Delegating, Early, OwnError, Specs

from mukernel import ContractError, KernelThread
from mukernel.adapters.pluggy import PluginManager, isolated


@pytest.mark.parametrize("kind", [Compared, Delegating, Compact])
def test_nobody_asks_it_for_what_only_the_object_itself_has(kind: Any) -> None:
    """Hosts compare, hash and show plug-ins, by methods of their own if they have some."""
    first, second = isolated(kind, "a"), isolated(kind, "b")
    with PluginManager("sample") as manager:
        manager.add_hookspecs(Specs)
        manager.register(first)
        manager.register(second)
        assert manager.hook.names(given=None) == ["b", "a"]
        assert (manager.get_plugins(), isinstance(first, kind)) == ({first, second}, True)
        assert (repr(first), first != second) == (f"isolated({kind.__name__}, ...)", True)
        manager.unregister(first)
        assert manager.hook.names(given=None) == ["b"]


@pytest.mark.parametrize("kind", [dict, OwnError, bool])
def test_what_python_makes_itself_is_refused(kind: type) -> None:
    with pytest.raises(
        ContractError, match=rf"isolated\({kind.__name__}, \.\.\.\): .* wanted a plain class: put the hooks"
    ):
        isolated(kind)


def test_an_object_at_the_top_of_its_module_is_imported_as_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with PluginManager("sample") as manager:
        manager.add_hookspecs(Specs)
        monkeypatch.setattr(hook_samples.here, "label", "changed in the host alone")
        manager.register(hook_samples.here)
        assert manager.hook.names(given=None) == ["at the top"]
        monkeypatch.setattr(hook_samples, "made_later", Compared("later"), raising=False)
        with pytest.raises(ContractError, match="another process can't import it as hook_samples:made_later; wanted"):
            manager.register(hook_samples.made_later)  # type: ignore[attr-defined]


class Troubled(PluginManager):
    def get_hookcallers(self, plugin: Any) -> Any:
        raise LookupError("no hooks")


def test_close_ends_all_processes_whatever_it_meets() -> None:
    with KernelThread() as kernel:
        manager = Troubled("sample", kernel=kernel)
        manager.add_hookspecs(Specs)
        manager.register(Early)
        manager.register(isolated(Compared, "a"))
        with pytest.raises(LookupError):
            manager.close()
        assert not kernel.kernel.registry.entries
