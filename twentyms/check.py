"""Check settings, agents and tools, without starting anything or asking anyone.

A setting that cannot be used is named, and a name in .env that is nearly a setting's name is named with the setting.
Each mistake in each agent's file is a line: the file, the key, what is wrong and what to do. Files of Python tools are
imported, in a process of their own, and their tools listed; HTTP tools and MCP servers are not asked.
Do it before you restart a process: a process that refuses a setting does not come back. Exit status: 0 or 78.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aibridge import agents, call_config
from callbook import __main__ as callbook
from callbook.database import url_of
from gateway import __main__ as gateway
from shared.agents.directory import AgentsError
from shared.isolation import check_cpus
from shared.process import EX_CONFIG, ConfigError
from shared.settings import check_run_dir, misspelt
from toolbox import config as tools

from . import here, run, tool_files
from .arguments import Parser
from .real_model import is_real


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError for a value that no process can read."""
    Parser("check", __doc__).parse_args(arguments)
    settings = here.settings()
    checks: list[Callable[[], object]] = [
        lambda: agents.load(settings, here.directory()),
        lambda: call_config.check(settings),
        lambda: run.check(settings),
        lambda: callbook.check(settings),
        lambda: url_of(settings),
        lambda: check_run_dir(settings),
        lambda: check_cpus(settings.tx_cpus),
    ]
    if is_real(settings):
        checks.append(lambda: gateway.check(settings))
    problems = misspelt(here.directory())
    for check in checks:
        try:
            check()
        except AgentsError as exc:
            problems += exc.problems
        except ConfigError as exc:
            problems += str(exc).splitlines()
    try:
        offered, broken = tool_files.examine(
            tools.load(settings, here.directory()), tools.environment(here.directory())
        )
        problems += broken
    except AgentsError as exc:
        problems += [problem for problem in exc.problems if problem not in problems]
    for problem in problems:
        print(problem)
    if not problems:
        for line in offered:
            print(f"Tools of {line}")
        model = "the simulated model (no OPENAI_API_KEY)"
        if is_real(settings):
            model = settings.openai_realtime_model if settings.openai_api_key else "the agents' own models and keys"
        print(f"The settings and the agents can be used, with {model}.")
    return EX_CONFIG if problems else 0
