"""Mistakes in an agent's file."""

from __future__ import annotations

import pytest

from shared.agents.agent_file import read

GOOD = 'instructions = "x"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "instructions: missing; say"),
        ('instructions = " "', "instructions: empty; say"),
        (GOOD + "voise = 1", "voise: there is no such key; did you mean voice?"),
        (GOOD + "quux_zzz = 1", "quux_zzz: there is no such key; take it out"),
        (GOOD + "[rules]\nprotect_greeting_ms = 1", "rules.protect_greeting_ms: there is no such key; did you mean "),
        (GOOD + "voice = 1", "voice: Expected `str`, got `int`; write a text in quotes"),
        (GOOD + 'end_call = "yes"', "end_call: Expected `bool`, got `str`; write true or false"),
        (GOOD + 'recording = "yes"', 'recording: Invalid enum value \'yes\'; write one of "default", "on", "off"'),
        (GOOD + "[rules]\nlead_ms = 45", "rules.lead_ms: Expected `int` that's a multiple of 10; write a whole number"),
        (GOOD + '[rules]\nbarge_in = "stop"', "rules.barge_in: Invalid enum value 'stop'; write one of \"withdraw\", "),
        (GOOD + "rules = 1", "rules: Expected `object`, got `int`; write it as a table"),
        (GOOD + 'numbers = "+15550100"', "numbers: Expected `array`, got `str`; write a list of texts"),
        (GOOD + 'numbers = ["030 123456"]', 'numbers: "030 123456" is not a whole number; write it with its country'),
        (GOOD + 'numbers = ["+15550100", "+1 555 0100"]', "numbers: a number stands there twice; take one out"),
        (GOOD + 'base_url = "host"\napi_key_env = "K"', "base_url: not a URL; write it as https://host/v1"),
        (GOOD + 'base_url = "https://host/v1"', "base_url: needs api_key_env, or it would get the key of OPENAI_API"),
        (GOOD + 'api_key_env = "sk-secret"', "api_key_env: not the name of an environment variable; write the key"),
        (GOOD + 'timezone = "Berlin"', 'timezone: "Berlin" is not known here; write a name such as'),
        (GOOD + 'greeting = "{{nmae}}"\n[variables]\nname = ""', "greeting: {{nmae}} is not a variable; did you mean"),
        ('instructions = "{{zzz}}"', "instructions: {{zzz}} is not a variable; declare it: [variables] zzz = "),
        ('instructions = "{{a b}}"', "instructions: {{a b}} is not a variable; "),
        (GOOD + '[variables]\n"a b" = ""', 'variables: "a b" is not a name; write letters'),
        (GOOD + '[variables]\ndate = ""', "variables: date has a value in every call; take it out"),
        (
            GOOD + 'greeting = "{{date}}"\ngreeting_file = "x.wav"',
            "greeting_file: a recording says the same",
        ),
        (GOOD + 'fallback = "{{date}}"', "fallback: variables have no effect here; take them out"),
        (GOOD + "[transfer.desk]", "transfer.desk.to: missing; write a number with its country"),
        (GOOD + '[transfer.desk]\nto = "0123"', 'transfer.desk.to: "0123" is not a whole number; write it with'),
        (GOOD + '[transfer.desk]\nto = "+15550123"\ntimeout = 9', "transfer.desk.timeout: there is no such key; did"),
        (GOOD + '[transfer."a b"]\nto = "+15550123"', 'transfer: "a b" is not a name; write letters'),
        (GOOD + 'transfer = "+15550123"', "transfer: Expected `object`, got `str`; write"),
        (GOOD + '[[mcp]]\nname = "a"\nurl = "https://h/"', "mcp: Object missing required field `only`"),
        (GOOD + '[[mcp]]\nname = "a b"\nurl = "https://h/"\nonly = ["x"]', 'mcp: "a b" is not a name; write letters'),
        (GOOD + '[[mcp]]\nname = "a"\nurl = "h"\nonly = ["x"]', "mcp: the url of a is not a URL; write it as"),
        (
            GOOD + 2 * '[[mcp]]\nname = "a"\nurl = "https://h/"\nonly = ["x"]\n',
            "mcp: a name stands there twice; give each",
        ),
        (GOOD + '[hand_off]\n"a b" = ""', 'hand_off: "a b" is not the name of an agent; write'),
        (
            GOOD + 'voicemail = "end"\ntranscription_model = ""',
            "voicemail: greetings are recognised by their words",
        ),
        ("[[[", "it is not TOML ("),
    ],
)
def test_a_mistake_is_a_line_with_key_fault_and_advice(text: str, problem: str) -> None:
    _, problems = read(text.encode())
    assert len(problems) == 1
    assert problems[0].startswith(problem)
    assert "sk-secret" not in problems[0]


def test_all_mistakes_of_a_file_are_found_at_once() -> None:
    _, problems = read(b'voise = 1\nlanguage = 2\ngreeting = "{{nmae}}"\n[rules]\nlead_ms = 45\nbarge_in = 1')
    assert [problem.partition(":")[0] for problem in problems] == [
        "voise",
        "language",
        "rules.lead_ms",
        "rules.barge_in",
        "instructions",
        "greeting",
    ]


@pytest.mark.parametrize("key", ["name", "version", "greeting_audio"])
def test_a_key_without_an_effect_is_refused(key: str) -> None:
    assert read(f"{GOOD}[{key}]".encode())[1]


@pytest.mark.parametrize(
    "text",
    ['greeting = "{{name}}"\nvariables = 1', 'base_url = "https://host/v1"\napi_key_env = 1'],
)
def test_what_follows_from_a_wrong_key_is_no_mistake_of_its_own(text: str) -> None:
    assert len(read((GOOD + text).encode())[1]) == 1
