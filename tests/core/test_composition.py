"""Who serves whom: what is needed and not served, what does not fit, cycles; without classes in files."""

from __future__ import annotations

from itertools import pairwise

from mukernel import Interface
from mukernel.core.composition import compose, ordered
from mukernel.core.inspection import Inspected, Needed


def seen(name: str, serves: type[Interface] | None = None, *needs: tuple[type[Interface], bool]) -> Inspected:
    return Inspected(
        name, [serves.__contract__.describe()] if serves else [],
        [Needed(need.__name__.lower(), need.__contract__.describe(), required) for need, required in needs],
    )  # fmt: skip


class One(Interface):
    async def one(self) -> int: ...  # type: ignore[empty-body]


class Two(Interface):
    async def two(self) -> int: ...  # type: ignore[empty-body]


class OtherOne(Interface, name="One"):
    async def one(self, extra: str) -> int: ...  # type: ignore[empty-body]


def test_plugins_start_after_those_that_they_need() -> None:
    composition = compose({"b": seen("b", Two, (One, True)), "a": seen("a", One)})
    assert (composition.order, composition.servers["b"], composition.problems) == (
        ["a", "b"],
        {"One": "a"},
        [],
    )


def test_a_need_that_nobody_serves() -> None:
    assert compose({"b": seen("b", Two, (One, True))}, "x.toml").problems == [
        "x.toml: b needs One (parameter 'one'); no plug-in of x.toml serves it"
    ]
    assert compose({"b": seen("b", Two, (One, False))}).problems == []  # it may stay unmet


def test_two_plugins_that_serve_what_a_third_needs() -> None:
    plugins = {"a": seen("a", One), "c": seen("c", One), "b": seen("b", Two, (One, True))}
    assert compose(plugins).problems == [
        "app.toml: b needs One (parameter 'one'), and several plug-ins serve it: a, c; wanted one, or "
        "plugins.b.bind.One to say which"
    ]
    composition = compose(plugins, bind={"b": {"One": "c"}})
    assert (composition.servers["b"], composition.problems) == ({"One": "c"}, [])
    assert composition.order.index("c") < composition.order.index("b")
    assert compose(plugins, bind={"b": {"One": "zz"}}).problems == [
        "app.toml: plugins.b.bind.One: got 'zz', wanted a plug-in that serves One: a, c"
    ]
    assert compose(plugins, bind={"b": {"One": "b"}}).problems == [
        "app.toml: plugins.b.bind.One: got 'b', wanted a plug-in that serves One: a, c"
    ]
    assert compose(plugins, bind={"b": {"One": "zz"}}, complete=False).problems == []  # it may be one of the others
    assert compose(plugins, bind={"b": {"One": "a", "Onne": "a"}, "a": {"One": "c"}}).problems == [
        "app.toml: plugins.a.bind.One: it does not ask for that; it asks for: no interface",
        "app.toml: plugins.b.bind.Onne: it does not ask for that; it asks for: One",
    ]
    del plugins["b"]
    assert compose(plugins).problems == []


def test_contracts_that_do_not_fit() -> None:
    problems = compose({"b": seen("b", Two, (One, True)), "a": seen("a", OtherOne)}).problems
    assert len(problems) == 1
    assert problems[0].startswith("app.toml: b calls One, which a serves differently: ")
    assert "extra" in problems[0]


def test_cycles_are_named_unless_a_need_may_stay_unmet() -> None:
    problems = compose({"a": seen("a", One, (Two, True)), "b": seen("b", Two, (One, True))}).problems
    assert len(problems) == 1
    assert "a needs b needs a: " in problems[0] or "b needs a needs b: " in problems[0]
    spared = compose({"a": seen("a", One, (Two, False)), "b": seen("b", Two, (One, True))})
    assert (spared.order, spared.problems) == (["a", "b"], [])


def test_every_cycle_is_found_and_told_in_the_right_direction() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["d"]}
    order, cycles = ordered(graph, {name: set() for name in graph})
    assert sorted(order) == ["a", "b", "c", "d"]
    assert len(cycles) == 2
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert all(b in graph[a] for a, b in pairwise(cycle))
