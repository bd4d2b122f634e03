"""`--turn K/N`: every case has one turn, and a test without cases has all."""

import itertools
import types

import pytest


@pytest.fixture
def select(request):
    """The names that a turn has of some."""
    hook = next(p for p in request.config.pluginmanager.get_plugins() if hasattr(p, "zlib") and hasattr(p, "turn"))

    def select(names, text):
        items = [types.SimpleNamespace(nodeid=name, **({"callspec": 0} if "[" in name else {})) for name in names]
        left = []
        config = types.SimpleNamespace(
            getoption=lambda _: hook.turn(text),
            hook=types.SimpleNamespace(pytest_deselected=lambda items: left.extend(items)),
        )
        hook.pytest_collection_modifyitems(config, items)
        assert sorted(i.nodeid for i in items + left) == sorted(names)
        return [i.nodeid for i in items]

    return select


def test_every_case_has_one_turn(select):
    engines = ("scan", "split", "linear")
    cases = [f"tests/test_a.py::test_b[{cell}-{engine}]" for cell in range(30) for engine in engines]
    turns = [select([*cases, "tests/test_a.py::test_c"], f"{day}/3") for day in (300, 301, 302)]
    assert sorted(itertools.chain(*turns)) == sorted([*cases, *["tests/test_a.py::test_c"] * 3])
    assert turns[0] == select([*cases, "tests/test_a.py::test_c"], "0/3")
    for turn in turns:
        # whichever the turn, each engine has cases: the table's order is that of engines
        assert {*engines} == {name.split("-")[1].rstrip("]") for name in turn if "[" in name}
        assert 15 < len(turn) < 46
