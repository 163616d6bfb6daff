# Everything runs in .venv, with the versions of constraints.txt. Needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install demo run recording docs test prove lint types bench-pacing bench bench-peers bench-network bench-near-ear bench-fleet lock clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "twentyms needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## one judged call through the whole pipeline, with the simulated model
	@$(BIN)/twentyms demo

run: install  ## all processes; without OPENAI_API_KEY, with the simulated model
	@exec $(BIN)/twentyms run

recording: install  ## docs/audio/restaurant.wav again: the demo's call
	@$(BIN)/twentyms demo --out out/recording
	@mkdir -p docs/audio && cp out/recording/call.wav docs/audio/restaurant.wav

docs: install  ## the documentation as a site: out/site/index.html
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

# They start some hundred interpreters, which shall not compile the same modules again.
test prove: export PYTHONDONTWRITEBYTECODE :=

test: install  ## the tests: three at a time, and then, alone, those that run in real time
	$(BIN)/pytest -m "not slow and not live" -n 3 --dist loadfile --no-loadscope-reorder
	$(BIN)/pytest -m "not slow and live" $$(grep -rl --include='test_*.py' 'mark\.live' tests)

prove: install  ## the long proofs: killed processes, floods, alerts, a thousand calls, new random examples
	$(BIN)/pytest -m slow
	$(BIN)/pytest tests/txpacer/core tests/aibridge/core tests/gateway/core -m "not slow" -n 3 --hypothesis-profile=default

lint: install types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

bench-pacing: install  ## how late frames leave, on an idle and on a busy machine
	@$(BIN)/python -m benchmarks.pacing

bench: install  ## how many calls this machine carries, and what each costs
	@$(BIN)/python -m benchmarks.capacity

bench-peers: install  ## the same callers against other bridges, each installed into out/peers
	@$(BIN)/python -m benchmarks.peers

bench-network: install  ## the same over bad networks: writes out/bench-network.md and .svg
	@$(BIN)/python -m benchmarks.network

bench-near-ear: install  ## what the near ear misses, how late it is, what it takes for speech: out/bench-near-ear.md, .svg
	@$(BIN)/python -m benchmarks.near_ear

bench-fleet: install  ## 10,000 calls on 60 cells in simulated time: out/bench-fleet.md, .json, .svg
	@$(BIN)/python -m benchmarks.fleet

lock: install  ## write constraints.txt again, with the newest versions
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra docs --no-header --no-annotate \
		--no-emit-index-url --upgrade -o constraints.txt pyproject.toml

clean:
	rm -rf .venv out
