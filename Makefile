# Works on a fresh machine with make and Python 3.11 to 3.13; everything is installed into .venv.
#
#   make quickstart   show what the packaged models do, train a translator and fine-tune a writer
#                     (FRESH=1 trains again)
#   make test         run the tests
#   make notebook     open the notebooks in JupyterLab
#   make lint         check style, types and documentation
#   make docs         build the documentation site: build/site/index.html
#   make coverage     run the tests and print which lines they do not reach
#   make venv         install only
#   make clean        remove what the others have made, except for runs

# Only looked for when .venv is to be built; PYTHON=/path/to/python chooses one.
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)
VENV := .venv
BIN := $(VENV)/bin
# Warnings are errors; with --quiet, mkdocs would not count them. The variable silences a notice of the
# theme.
BUILD_DOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Each process runs a contiguous half of the tests, then takes over some from the other: fixtures of a
# module are made once. With pytest-xdist's default, both processes would make most of them.
# The summary lists tests of more than ten seconds.
PYTEST = $(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal --durations=20 --durations-min=10

.PHONY: help venv quickstart notebook test lint docs coverage clean
help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.installed-dev

quickstart: $(VENV)/.installed
	$(BIN)/python -m seq2seq_kit.samples.quickstart $(if $(FRESH),--fresh)

notebook: $(VENV)/.installed-notebook
	$(BIN)/jupyter lab notebooks

test: $(VENV)/.installed-dev
	$(PYTEST)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BUILD_DOCS)

docs: $(VENV)/.installed-dev
	$(BUILD_DOCS)

coverage: $(VENV)/.installed-dev
	mkdir -p build/coverage
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps are written last: an installation that was interrupted starts again.
$(VENV)/.installed: setup.cfg pyproject.toml
	@for python in $(PYTHONS); do \
	    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break; \
	    python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "make: Python 3.11, 3.12 or 3.13 is needed, and none of these is one: $(PYTHONS)." >&2; \
	    echo "make: Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "make: $$python lacks its venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi; \
	echo "Installing into $(VENV); TensorFlow is some 600 MB, which takes a few minutes."; \
	$$python -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[speech]'
	touch $@

$(VENV)/.installed-notebook: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[insight,notebook,speech]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'
	touch $@
