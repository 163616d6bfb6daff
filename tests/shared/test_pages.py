from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from callbook.exporter import PagesCollector
from shared.metrics import counter, gauge, histogram
from shared.pages import create

DEFINITIONS = (
    counter("frames", "Frames"),
    counter("sends", "Sends by outcome", "outcome", ("ok", "late")),
    gauge("lines", "Lines"),
    histogram("lateness_seconds", "Lateness", (0.001, 0.01)),
)


def scrape(directory: Path) -> str:
    registry = CollectorRegistry()
    registry.register(PagesCollector(directory))
    return generate_latest(registry).decode()


def test_a_scrape_shows_what_was_counted(tmp_path: Path) -> None:
    page = create(tmp_path, "txpacer", DEFINITIONS)
    page.counter("frames").inc(3)
    page.counter("sends", "late").inc()
    page.gauge("lines").set(7)
    lateness = page.histogram("lateness_seconds")
    for value, times in ((0.0005, 1), (0.001, 2), (0.005, 1), (5.0, 1)):
        lateness.observe(value, times)
    text = scrape(tmp_path)
    for line in (
        'twentyms_frames_total{process="txpacer"} 3.0',
        'twentyms_sends_total{outcome="late",process="txpacer"} 1.0',
        'twentyms_sends_total{outcome="ok",process="txpacer"} 0.0',
        'twentyms_lines{process="txpacer"} 7.0',
        'twentyms_lateness_seconds_bucket{le="0.001",process="txpacer"} 3.0',
        'twentyms_lateness_seconds_bucket{le="0.01",process="txpacer"} 4.0',
        'twentyms_lateness_seconds_bucket{le="+Inf",process="txpacer"} 5.0',
        'twentyms_lateness_seconds_count{process="txpacer"} 5.0',
        'twentyms_lateness_seconds_sum{process="txpacer"} 5.0075',
    ):
        assert line in text.splitlines()


def test_the_series_of_two_processes_stand_in_one_family(tmp_path: Path) -> None:
    for number in range(2):
        create(tmp_path, f"aibridge-{number}", DEFINITIONS).gauge("lines").set(number)
    # Nobody holds the pages that those calls returned.
    assert "twentyms_lines" not in scrape(tmp_path)
    held = [create(tmp_path, f"aibridge-{number}", DEFINITIONS) for number in range(2)]
    text = scrape(tmp_path)
    assert text.count("# TYPE twentyms_lines gauge") == 1
    assert text.count("twentyms_lines{") == len(held)


def test_a_scrape_tells_the_version_and_what_each_process_uses_of_cpu_and_memory(tmp_path: Path) -> None:
    held = create(tmp_path, "txpacer", DEFINITIONS)
    text = scrape(tmp_path)
    del held
    (cpu,) = re.findall(r'^twentyms_process_cpu_seconds_total{process="txpacer"} ([\d.]+)$', text, re.MULTILINE)
    (memory,) = re.findall(
        r'^twentyms_process_resident_memory_bytes{process="txpacer"} ([\d.e+]+)$', text, re.MULTILINE
    )
    assert 0 < float(cpu) < 1_000
    assert 5e6 < float(memory) < 5e9
    assert f'version="{metadata.version("twentyms")}"' in text


def test_a_killed_process_leaves_no_series(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from shared.metrics import gauge; from shared.pages import create\n"
        "page = create(Path(sys.argv[1]), 'gone', (gauge('lines', 'Lines'),))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert 'process="gone"' in scrape(tmp_path)
        process.kill()
        process.wait()
    assert (tmp_path / "gone.page").exists()
    assert 'process="gone"' not in scrape(tmp_path)


def test_a_process_that_starts_again_begins_at_zero(tmp_path: Path) -> None:
    before = create(tmp_path, "txpacer", DEFINITIONS)
    before.counter("frames").inc(5)
    after = create(tmp_path, "txpacer", DEFINITIONS)
    assert 'twentyms_frames_total{process="txpacer"} 0.0' in scrape(tmp_path)
    after.counter("frames").inc()
    assert 'twentyms_frames_total{process="txpacer"} 1.0' in scrape(tmp_path)


@pytest.mark.parametrize("left", [b"", b"no header", b"{" * 20_000])
def test_a_file_that_is_not_a_page_is_skipped(left: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.page").write_bytes(left)
    held = create(tmp_path, "txpacer", DEFINITIONS)
    assert 'process="txpacer"' in scrape(tmp_path)
    del held


def test_definitions_that_exceed_the_header_are_refused(tmp_path: Path) -> None:
    many = tuple(counter(f"metric_{n}", "x" * 100) for n in range(200))
    with pytest.raises(ValueError, match="limit"):
        create(tmp_path, "txpacer", many)
