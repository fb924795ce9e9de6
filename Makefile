# One command each: make demo, make test, make bench. They create .venv in the checkout.
# The first of these that is of a version in pyproject.toml and can make an environment is taken.
PYTHON ?= python3.12 python3.11 python3
FITS := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
EXTRAS := sb3,jax,warp,parallel,motion,score,ray,neural
LIVE := website/wasm/dist/mujoco.js
.PHONY: demo test coverage lint bench site clean system browser live

demo: $(VENV)/.package system
	$(BIN)/vnl-envs demo --out out
	$(BIN)/python -m leaderboard.make_submissions ppo
# A run that another version began there would be refused.
	rm -rf out/score
	$(BIN)/vnl-envs score run leaderboard/submissions/ppo.zip --suite quick-v2 --workers 2 --out out/score
	$(BIN)/vnl-envs score replays out/score/result.json leaderboard/submissions/ppo.zip --out out/replays
	$(BIN)/vnl-envs score report out/score/result.json --html out/report.html --replays out/replays
	@echo 'Open in a browser: out/rodent.html and out/humanoid.html, to turn and scrub; out/report.html, the scores.'

test: $(VENV)/.tools system browser live
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# By itself: tracing lines, as Python 3.11 must, takes a third more time.
coverage:
	$(MAKE) test ARGS='--cov $(ARGS)'

lint: $(VENV)/.tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.tools system
	$(BIN)/python -m pytest benchmarks -o testpaths=benchmarks $(ARGS)

# Documentation, gallery with replays, leaderboard.
site: $(VENV)/.tools system live
	$(PIP) --group docs
	$(BIN)/python -m website.build

# MuJoCo's WebAssembly module, for the site's live rat.
live:
	@if ! command -v npm >/dev/null; then echo 'no npm: the site has no live rat' >&2; \
	else $(MAKE) --no-print-directory $(LIVE) || echo 'npm failed: the site has no live rat' >&2; fi

$(LIVE): $(addprefix website/wasm/,build.mjs package.json package-lock.json)
	cd website/wasm && npm ci --silent --fetch-retries 1 --fetch-timeout 60000 && npm run --silent build

clean:
	rm -rf $(VENV) out site build dist website/wasm/dist website/wasm/node_modules

$(VENV)/bin/python:
	@for python in $(PYTHON); do \
	  if $$python -c '$(FITS)' 2>/dev/null; then exec $$python -m venv $(VENV); fi; done; \
	echo "error: needs Python 3.11 or 3.12 with its venv module; tried $(PYTHON)" >&2; exit 1

$(VENV)/.package: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .[score]
	touch $@

# torch by itself first: with it there, nothing asks for a larger build.
$(VENV)/.tools: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) 'pip>=25.1'
	$(PIP) torch
	$(PIP) -e .[$(EXTRAS)] --group test --group lint
	touch $@ $(VENV)/.package

# Software rendering without a display, and the sandbox of submitted policies. Where this cannot
# install them, rendering and scoring say what to do.
system:
	@missing=; \
	if [ "$$(uname)" = Linux ]; then \
	  if [ -z "$$DISPLAY" ] && ! ldconfig -p | grep -q libOSMesa; then missing=libosmesa6; fi; \
	  command -v bwrap >/dev/null || missing="$$missing bubblewrap"; \
	  if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && apt-get install -y -qq $$missing >/dev/null; fi; fi

# Drives the pages of the leaderboard; where there is none those tests are skipped.
browser:
	@if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq chromium >/dev/null; fi
