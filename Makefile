# One command each: make demo, make test, make bench. They create .venv in the checkout.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The modules of the API reference; vnl_envs itself imports its names only when used.
DOCUMENTED := registry envs.single envs.vector envs.parallel envs.sb3 \
  envs.functional envs.autoreset envs.jax_vector engines.mjx parity bodies bodies.body tasks tasks.task \
  tasks.metrics scoring.evaluate scoring.policies motion.clip motion.datasets motion.kinematics \
  motion.readers motion.resample motion.splits motion.check motion.report motion.downloads \
  motion.keypoints motion.markers motion.refit \
  identity physics perturbations counter bodies.constants bodies.limbs \
  scenes.world scenes.floor scenes.gap_corridor engines.native envs.core rendering
.PHONY: demo test lint bench docs clean system

demo: $(VENV)/.package system
	$(BIN)/vnl-envs demo --out out

test: $(VENV)/.tools system
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/.tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.tools system
	$(BIN)/python -m pytest benchmarks -o testpaths=benchmarks $(ARGS)

docs: $(VENV)/.tools
	$(PIP) -e .[docs]
	PDOC_ALLOW_EXEC=1 $(BIN)/pdoc -d google $(addprefix vnl_envs.,$(DOCUMENTED)) -o site

clean:
	rm -rf $(VENV) out site build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	touch $@

# torch by itself first: with it there, nothing asks for a larger build.
$(VENV)/.tools: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) -e .[sb3,test,lint]
	touch $@ $(VENV)/.package

# Software rendering without a display. Where this cannot install it, rendering says what to do.
system:
	@if [ "$$(uname)" = Linux ] && [ -z "$$DISPLAY" ] && ! ldconfig -p | grep -q libOSMesa \
	  && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq libosmesa6 >/dev/null; fi
