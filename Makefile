# make demo    the whole portal on this machine, for yourself alone
# make check   lint, types, import rules, unit tests: under a minute
# make test    all of it, with real nginx, Slurm and users (as root)
#
# All of them set up what they need: Debian's packages where root runs them, and a virtual environment.

# Not the first python3 of the PATH: one that ordinary users can read too, since PUNs become ordinary users.
PYTHON ?= $(shell for python in /usr/bin/python3 /usr/local/bin/python3 $$(command -v python3); do \
	[ -x "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' && echo "$$python" && break; done)
# And for the same reason root's virtual environment is not in the checkout, which may lie in root's home.
VENV ?= $(if $(filter 0,$(shell id -u)),/opt/punway-dev,.venv)

.PHONY: demo check test packages node-parts install install-test clean

demo: packages install
	$(VENV)/bin/punway demo $(if $(PORT),--port $(PORT))

check: install-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m pytest -q -n auto --ignore tests/system

test: PACKAGES_FOR = test
test: packages check node-parts
	$(VENV)/bin/python -m pytest -q tests/system

packages:
	@sh tests/packages.sh $(or $(PACKAGES_FOR),demo)

# The OpenID provider that the tests sign in at, and MCP clients; node and npm come with the test packages.
node-parts: install-test
	for folder in provider mcp_clients; do PATH="$(VENV)/bin:$$PATH" \
	$(VENV)/bin/npm ci --no-audit --no-fund --silent --prefix tests/system/$$folder || exit 1; done

install: $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check .

install-test: $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check '.[test]'

$(VENV)/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "No python3 of version 3.10 or later is found; install python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Install python3-venv, or name another Python: make PYTHON=…" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
