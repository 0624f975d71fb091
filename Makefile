# `make run` and `make test` set up everything they need on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=
T ?=

# Compiled modules are kept, whatever the shell says: the tests start the app many times.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install install-dev run test lint format bench fakes clean

$(VENV)/.installed: requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed (not found: $(PYTHON))."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $$($(PYTHON) --version) was found. Use: make PYTHON=python3.12 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

# make run ARGS="--port 6000 --no-browser"
run: install
	$(BIN)/python app.py $(ARGS)

# make test T="-k rename"   or   make test T=tests/web/test_characters.py
# Everything, a file to a process: what computes first, then the browser, for each page wants a core to itself.
test: install-dev
ifeq ($(strip $(T)),)
	@failed=0; \
	$(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder --ignore tests/e2e || failed=1; \
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder tests/e2e || failed=1; \
	exit $$failed
else
	$(BIN)/python -m pytest $(T)
endif

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy dalla tools app.py
	$(BIN)/python -m tools.audit

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev
	$(BIN)/python -m bench

# A dashboard with a pretend ComfyUI beside it, for working on pages without a GPU.
fakes: install-dev
	$(BIN)/python -m tests.fakes

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache
