# Fine-tune neural networks in kilobytes. `make demo` and `make test` need Python 3.11 or newer and nothing else.

.DELETE_ON_ERROR:
.PHONY: demo test lint bench clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# -qq: errors and nothing else. PIP_CONFIG_FILE, PIP_INDEX_URL and the like are the user's and are obeyed.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# Fine-tune the shipped backbone on shifted digits: no download, no GPU, under 90 seconds.
demo: $(VENV)/demo.stamp
	$(BIN)/kilotune demo

# Everything but what is marked slow; `.venv/bin/pytest -m slow` runs the rest.
test: lint
	$(BIN)/python -m pytest --numprocesses auto

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/step_cost.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A changed pyproject.toml makes a new environment. Debian splits ensurepip off Python: there the system's pip helps out.
$(VENV)/base.stamp: pyproject.toml
	rm -rf $(VENV)
	@echo "making $(VENV) (a few minutes on the first run)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) \
	       && $(PYTHON) -m pip --python $(BIN)/python install -qq pip; } \
	  || { rm -rf $(VENV); echo "$(PYTHON) can make no virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PIP) install --upgrade pip
	$(PIP) install torch==2.13.0
	touch $@

$(VENV)/demo.stamp: $(VENV)/base.stamp
	$(PIP) install --editable '.[demo]'
	touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(PIP) install --editable '.[demo,lightning,transformers,prune]' --group test
	$(PIP) install --no-deps --group zoo
	touch $@
