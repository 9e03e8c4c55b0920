# make demo    the whole portal on this machine, for yourself alone
# make check   lint, import rules, types, documentation, unit tests: a minute, and another one the first time
# make test    all of it, with real nginx, Slurm and users (as root): about ten minutes
# make docs    the documentation as a site, in build/docs
# make reference   the OpenAPI file and the reference pages in docs/, from the code
# make lock        the exact versions of the test tools, newest first
# make picture     the picture of the processes, from its source (needs Debian's graphviz)
#
# The times are of a machine with two processors that does nothing else. A busy one takes longer, and all holds.
# All of them set up what they need: Debian's packages where root runs them, and a virtual environment.

# Not the first python3 of the PATH: one that ordinary users can read too, since PUNs become ordinary users.
PYTHON ?= $(shell for python in /usr/bin/python3 /usr/local/bin/python3 $$(command -v python3); do \
	[ -x "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' && echo "$$python" && break; done)
# And for the same reason root's virtual environment is not in the checkout, which may lie in root's home.
VENV ?= $(if $(filter 0,$(shell id -u)),/opt/punway-dev,.venv)

# The exact versions of what the tests and the documentation need. An installation by a site has only lower bounds.
LOCK := tests/requirements.lock

# More than processors, as many tests wait for something. Each process of the system tests has a Slurm of its own.
WORKERS ?= 4

NODE_PARTS := $(patsubst %,tests/system/%/node_modules/.package-lock.json,provider mcp_clients axe)

# Whatever root's umask is: ordinary users run what is installed.
READABLE := $(if $(filter 0,$(shell id -u)),umask 022;)

.PHONY: demo check lint docs reference picture lock test packages node-parts install install-test clean

demo: packages install
	$(VENV)/bin/punway demo $(if $(PORT),--port $(PORT))

check: install-test lint
	$(VENV)/bin/mypy
	$(SPHINX)
	$(VENV)/bin/python -m pytest -q -n $(WORKERS) --ignore tests/system --cov --cov-report=

# What pre-commit runs: seconds, and nothing is installed.
lint: | $(VENV)/bin/python
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

# Warnings are errors: a link that leads nowhere, a page that no other links to, an example that is not what its label says.
SPHINX = $(VENV)/bin/sphinx-build --quiet --fail-on-warning --keep-going -d build/doctrees docs build/docs

docs: $(VENV)/bin/sphinx-build
	$(SPHINX)
	@echo "Open build/docs/index.html"

$(VENV)/bin/sphinx-build: | $(VENV)/bin/python
	$(READABLE) $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOCK) '.[docs]'

lock: $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --extra test --extra docs --upgrade \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" --output-file $(LOCK) pyproject.toml

reference: install-test
	mkdir -p build
	$(VENV)/bin/python -m pun_app.openapi > build/openapi.json && mv build/openapi.json nginx/static/openapi.json
	$(VENV)/bin/python -m docs.reference

picture:
	dot -Tsvg docs/developers/architecture.dot > docs/developers/architecture.svg

test: PACKAGES_FOR = test
test: packages check node-parts
	$(VENV)/bin/python -m pytest -q -n $(WORKERS) --dist loadscope --no-loadscope-reorder tests/system

packages:
	@sh tests/packages.sh $(or $(PACKAGES_FOR),demo)

# The OpenID provider that the tests sign in at, MCP clients, and axe, which looks at the pages; node and npm come with the test packages.
node-parts: $(NODE_PARTS)

tests/system/%/node_modules/.package-lock.json: tests/system/%/package-lock.json | install-test
	PATH="$(VENV)/bin:$$PATH" $(VENV)/bin/npm ci --no-audit --no-fund --silent --prefix tests/system/$*
	touch $@

install: $(VENV)/bin/python
	$(READABLE) $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check .

# Dependencies are installed again when pyproject.toml or the lock file has changed; the package itself always.
install-test: PIP = $(READABLE) $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
install-test: $(VENV)/bin/python
	if cat pyproject.toml $(LOCK) | cmp -s - $(VENV)/installed; then $(PIP) --no-deps .; \
	else $(PIP) --constraint $(LOCK) '.[test,docs]' && cat pyproject.toml $(LOCK) > $(VENV)/installed; fi

$(VENV)/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "No python3 of version 3.10 or later is found; install python3" >&2; exit 1; }
	$(READABLE) $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Install python3-venv, or name another Python: make PYTHON=…" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
