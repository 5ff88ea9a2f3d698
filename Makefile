# Needs python3 >= 3.11, pip and make; everything else lands in .venv.

PYTHON ?= python3
ORIGIN ?=
SECONDS ?= 60
VENV := .venv
BIN := $(VENV)/bin
# The other servers are the distribution's builds, so the benchmark prefers its Python too.
BENCH_VENV := .venv-bench
BENCH_PYTHON ?= $(shell /usr/bin/python3 -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo /usr/bin/python3 || echo $(PYTHON))
READY := $(VENV)/.ready

# command:Debian package. What the tests start besides Python.
TEST_COMMANDS := node:nodejs npm:npm openssl:openssl curl:curl nginx:nginx-light
BENCH_COMMANDS := wrk:wrk nginx:nginx-light haproxy:haproxy varnishd:varnish node:nodejs npm:npm

.DEFAULT_GOAL := help
.PHONY: help setup run test check fuzz bench million soak many-urls fmt clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## make .venv, with the pinned version of every dependency
	@echo 'Ready: $(VENV)'

run: $(READY) ## demo origin and proxy; ORIGIN=http://localhost:3000 puts it in front of your app
	@exec $(BIN)/isr-proxy demo $(if $(ORIGIN),--origin '$(ORIGIN)')

test: $(READY) ## run the whole test suite
	$(call need,$(TEST_COMMANDS))
	$(BIN)/python -m pytest --conformance=docs/conformance.md

check: $(READY) ## lint, format, types, import layers, example config
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/isr-proxy check config.example.yaml

fuzz: $(READY) ## arbitrary bytes through the proxy, for a minute; SECONDS=600 is ten
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --group fuzz \
		|| echo 'Without atheris: chance chooses the bytes, coverage does not.' >&2
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

bench: ## beside nginx, HAProxy, Varnish and next start, 20 minutes; ARGS=--quick takes under two
	$(call need,$(BENCH_COMMANDS))
	@$(MAKE) --no-print-directory setup VENV=$(BENCH_VENV) PYTHON='$(BENCH_PYTHON)'
	$(BENCH_VENV)/bin/python -m bench $(ARGS)

million: $(READY) ## a million stored pages beside a thousand, 6 GB; ARGS='--pages 100000' is shorter
	$(BIN)/python -m bench.million $(ARGS)

soak: $(READY) ## five minutes of mixed traffic: memory, files and tasks stay flat; ARGS='--seconds 60' is shorter
	$(BIN)/python -m bench.soak $(ARGS)

many-urls: $(READY) ## 200,000 URLs against a 64 MiB store, some minutes; ARGS='--urls 20000' is shorter
	$(BIN)/python -m bench.many_urls $(ARGS)

fmt: $(READY) ## format, and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv, caches and build output; stored pages stay
	rm -rf $(VENV) $(BENCH_VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# Made again when a pin or a dependency changes. Debian without python3-venv cannot give the
# environment its own pip, so there the system's pip puts it in.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'isr-proxy needs Python 3.11 or newer; make PYTHON=python3.12 ... names another one' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) \
			&& $(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint constraints.txt pip; }
	@echo 'Setting up $(VENV) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --build-constraint constraints.txt \
		--editable . --group dev
	@touch $@

# As root on Debian: installs what is missing. Otherwise: names it, and what needs it fails.
define need
	@missing=''; \
	for pair in $(1); do \
		PATH="$$PATH:/usr/sbin" command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing$$missing ..."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else \
		echo "Not installed:$$missing. What needs them fails; as root, make installs them." >&2; \
	fi
endef
