# `make run` and `make test` need Python 3.11 or newer and nothing else; both set up .venv by themselves.

# The first of these that runs, is new enough and can make a virtual environment. `make run PYTHON=…` picks one.
PYTHONS := $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3 python
VENV := .venv/bin/python
INSTALL := $(VENV) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	--overrides requirements/overrides.in
TESTS :=

.DEFAULT_GOAL := help
.PHONY: help run tokenizer test test-fast check fmt bench bench-pages lock prices vendor screenshots

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/base  ## set up, then serve on PORT (8000)
	@exec $(VENV) manage.py quickstart

tokenizer: .venv/base  ## install what counts tokens where an upstream reports none
	@$(INSTALL) -r requirements/tokenizer.txt

test: .venv/dev  ## every test, on SQLite and on PostgreSQL and Redis (TESTS=… picks some)
	@$(VENV) -m tests.everything $(TESTS)

test-fast: .venv/dev  ## the tests that take no time and no server, on SQLite
	@$(VENV) -m tests.everything --fast $(TESTS)

check: export DATA_DIR = .mypy_cache/data
check: .venv/dev  ## lint, types, imports, migrations, size rules
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy
	.venv/bin/lint-imports --no-cache
	$(VENV) manage.py makemigrations --check --dry-run
	$(VENV) -m pytest tests/test_style.py

fmt: .venv/dev  ## put the code in its format
	$(VENV) -m ruff check --fix .
	$(VENV) -m ruff format .

bench: .venv/dev  ## what a call costs the server's process, beside nginx
	@$(VENV) -m benchmarks

bench-pages: .venv/dev  ## how long pages and lists take over five million calls, and what calls cost meanwhile
	@$(VENV) -m benchmarks.pages

lock: .venv/dev  ## write requirements/*.txt from requirements/*.in
	$(LOCK) requirements/base.in -o requirements/base.txt
	$(LOCK) requirements/tokenizer.in -o requirements/tokenizer.txt
	$(LOCK) requirements/dev.in -o requirements/dev.txt

screenshots: .venv/dev  ## take the pictures of docs/screenshots
	@$(VENV) -m tests.screenshots

prices: .venv/dev  ## write proxy/prices.json from the maintained price list
	$(VENV) -m proxy.price_list

vendor: .venv/dev  ## write the pages' libraries anew, as their manifest names them
	$(VENV) -m gateway.vendored

# The environment. The empty files .venv/base and .venv/dev say what is in it, and since when.

.venv/base: requirements/base.txt | $(VENV)
	@echo "Installing requirements/base.txt (only when it has changed) …"
	@$(INSTALL) -r requirements/base.txt
	@touch $@

.venv/dev: requirements/dev.txt | $(VENV)
	@echo "Installing requirements/dev.txt (only when it has changed) …"
	@$(INSTALL) -r requirements/dev.txt
	@touch .venv/base $@

$(VENV):
	@for python in $(PYTHONS); do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "Making .venv with $$($$python --version) …"; \
			exec $$python -m venv --clear .venv; \
		fi; \
	done; \
	echo "There is no Python 3.11 or newer here that can make a virtual environment." >&2; \
	echo "Install one, such as with: apt-get install python3 python3-venv, or: brew install python" >&2; \
	exit 1
