"""The pytest fixture `call_agent`: rehearse an agent in your own tests. pytest finds it by itself.

def test_a_table_is_booked(call_agent):
    call = call_agent("scenarios/book-a-table.toml")
    assert not call.problems
    assert call.tools[0].arguments["guests"] == 4
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # the rest of twentyms is imported when a test uses the fixture
    from .rehearsal.judgement import Rehearsed


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("twentyms")
    group.addoption("--simulated-model", action="store_true", help="call_agent: do not use the configured model")


@pytest.fixture(scope="session")
def call_agent(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str | Path | dict[str, Any]], Rehearsed]]:
    """A function that carries out one scenario, a file or its table, and returns what came of it.

    All processes start with the first test that uses it, and end after the last one.
    """
    from . import here
    from .real_model import is_real
    from .rehearsal import scenario as scenarios
    from .rehearsal.stage import Stage
    from .rehearsal.voice import Voices

    settings = here.settings()
    simulated = request.config.getoption("--simulated-model") or not is_real(settings)
    with Stage(settings, here.directory(), tmp_path_factory.mktemp("rehearsal"), simulated=simulated) as stage:

        def call(wanted: str | Path | dict[str, Any]) -> Rehearsed:
            if isinstance(wanted, dict):
                scenario = scenarios.convert({"name": "call", **wanted}, "the scenario")
            else:
                scenario = scenarios.read(Path(wanted))
            return stage.perform([scenario], Voices([scenario]))[0]

        yield call
