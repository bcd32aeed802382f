# `make help` lists the targets. A fresh Debian machine needs nothing but make and git.
#
# Everything is installed into the tree: .venv, .venv-3.x (test-all), .venv-oldest and
# .venv-newest (test-frameworks) and .venv-sanitize.

PYTHON ?= python3
# Twice as many tests at a time as there are cores, since most of them wait; what TESTS
# chooses runs by itself.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) \* 2)
PARALLEL = $(if $(TESTS),,--numprocesses $(JOBS) --dist worksteal)
# What pytest is run with besides; `make test TESTS="tests/test_glob.py -x"`.
TESTS ?=

# Else each worker, and each program that a test starts, compiles its Python anew. `make
# clean` removes what is kept.
unexport PYTHONDONTWRITEBYTECODE

SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
VENV := --quiet --disable-pip-version-check
LIBASAN = $$($${CC:-gcc} -print-file-name=libasan.so)
# Each allocation of Python's is one of the sanitizer's: a stack of a few frames and less
# of what was freed take a fifth of the time. REDLANE_FRUGAL= gives all of both.
FRUGAL = $${REDLANE_FRUGAL-malloc_context_size=6:quarantine_size_mb=64}
# Leaks have tests of their own: CPython keeps too much alive at exit to tell them here.
SANITIZE = LD_PRELOAD=$(LIBASAN) PYTHONMALLOC=malloc REDLANE_SANITIZED=1 \
	REDLANE_EXAMPLES=$${REDLANE_EXAMPLES:-25} \
	ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:allocator_may_return_null=1:$(FRUGAL) \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

.PHONY: help system system-build hiredis build demo test test-all servers test-servers \
	test-frameworks soak lint format types sanitize packaging bench docs dist clean

help:
	@echo 'make demo       build, then measure the Mural on the engine and on Redis'
	@echo 'make run-mural  build, then serve that example; run-videocache, run-matrx,'
	@echo '                run-ludo, run-krowoc are the others (PORT, WORKERS, REDIS_URL)'
	@echo 'make test       build, then run the tests (TESTS="…" chooses)'
	@echo 'make test-all   the tests on every Python from 3.10 to 3.13 that is found'
	@echo 'make test-servers  the tests on Redis 8 and Valkey 8'
	@echo 'make test-frameworks  applications on the oldest and the newest Flask, FastAPI …'
	@echo 'make servers    fetch Redis 8 and Valkey 8 from Debian only'
	@echo 'make build      build the extension in place, into .venv'
	@echo 'make hiredis    fetch the source of hiredis only'
	@echo 'make sanitize   the tests under AddressSanitizer and UBSan'
	@echo 'make packaging  build, install and try the sdist and wheel in empty environments'
	@echo 'make soak       the tests at full size; hours (TESTS="…" chooses a part)'
	@echo 'make lint       ruff, clang-format and the compiler, warnings as errors'
	@echo 'make format     let ruff and clang-format rewrite the files'
	@echo 'make types      mypy, stubtest and basedpyright'
	@echo 'make bench      measure against other libraries'
	@echo 'make docs       build the documentation into site/'
	@echo 'make dist       sdist and wheel into dist/'
	@echo 'make clean      remove everything that was made'

system:
	@PYTHON='$(PYTHON)' tools/system.sh test

system-build:
	@PYTHON='$(PYTHON)' tools/system.sh build

hiredis: | system-build
	@$(PYTHON) tools/fetch_hiredis.py

# --- environments -----------------------------------------------------------------

# pip's editable install notes where the package is; the extension is then built in
# place, so that only what has changed is compiled.
.venv/ready: requirements-test.txt pyproject.toml | system-build
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	sys.exit(0 if v >= (3, 10) else f"Python 3.10 or later is needed, not {v[0]}.{v[1]}")'
	@echo 'Making .venv'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install $(VENV) -r requirements-test.txt
	@$(BIN)/pip install $(VENV) --no-build-isolation --no-deps --editable .
	@touch $@

.venv/ready-dev: requirements-dev.txt .venv/ready
	@echo 'Installing the development tools into .venv'
	@$(BIN)/pip install $(VENV) -r requirements-dev.txt
	@touch $@

build: .venv/ready
	@$(BIN)/python setup.py -q build_ext --inplace

# --- what people run --------------------------------------------------------------

demo: build
	@$(BIN)/python -m redlane demo

EXAMPLES := krowoc ludo matrx mural videocache
.PHONY: $(EXAMPLES:%=run-%)
$(EXAMPLES:%=run-%): run-%: build
	@tools/run_example.sh $*

test: system build
	@$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

test-all: system
	@tools/pythons.sh | sed 's/^/Found Python /'
	@tools/pythons.sh | { failed=; while read -r version python; do \
		$(MAKE) --no-print-directory test-one VERSION=$$version PYTHON=$$python \
			|| failed="$$failed $$version"; \
	done; [ -z "$$failed" ] || { echo "Failed on:$$failed"; exit 1; }; }

.PHONY: test-one
test-one: .venv-$(VERSION)/ready
	@echo 'Testing on Python $(VERSION)'
	@.venv-$(VERSION)/bin/python setup.py -q build_ext --inplace
	@.venv-$(VERSION)/bin/python -m pytest $(PARALLEL) $(TESTS)

.venv-$(VERSION)/ready: requirements-test.txt pyproject.toml
	@$(PYTHON) -m venv .venv-$(VERSION)
	@.venv-$(VERSION)/bin/pip install $(VENV) -r requirements-test.txt
	@.venv-$(VERSION)/bin/pip install $(VENV) --no-build-isolation --no-deps --editable .
	@touch $@

# Tests in which a framework answers.
APPLICATIONS = $$(grep -l -E '^(from|import) .*(flask|fastapi|starlette|http_|mural|prom|opentel)' \
	tests/test_*.py)

test-frameworks: system build
	@failed=; for age in oldest newest; do \
		PYTHON='$(PYTHON)' tools/frameworks.sh $$age $(PARALLEL) \
			$(or $(TESTS),$(APPLICATIONS)) || failed="$$failed $$age"; \
	done; [ -z "$$failed" ] || { echo "Failed with the frameworks:$$failed"; exit 1; }

servers: system
	@$(PYTHON) tools/fetch_servers.py

# One server after another, each in a run of its own: what one of them breaks is plain.
# Which tests run there, and which under the sanitizers, tests/selection.py says.
test-servers: servers build
	@failed=; for program in $$($(PYTHON) tools/fetch_servers.py); do \
		echo "Testing on $$program"; \
		REDLANE_TEST_SERVERS=$$program $(BIN)/python -m pytest \
			$(PARALLEL) $(TESTS) \
			|| failed="$$failed $$program"; \
	done; [ -z "$$failed" ] || { echo "Failed on:$$failed"; exit 1; }

soak: system build
	REDLANE_SOAK=1 $(BIN)/python -m pytest -m soak -o faulthandler_timeout=0 $(TESTS)

bench: build
	@$(BIN)/pip install $(VENV) -r benchmarks/requirements.txt
	-@$(PYTHON) tools/fetch_servers.py redis-8 >/dev/null
	@$(BIN)/python -m benchmarks

# --- checks -----------------------------------------------------------------------

C_FILES = $$(git ls-files '*.c' '*.h')

lint: .venv/ready-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	@REDLANE_WERROR=1 $(BIN)/python setup.py -q build_ext --inplace
	@tools/compiles.sh

format: .venv/ready-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(C_FILES)

types: build .venv/ready-dev
	@$(BIN)/mypy python/redlane
	@MYPYPATH=python $(BIN)/mypy tests/typing
	@$(BIN)/python -m mypy.stubtest redlane._core
	@$(BIN)/basedpyright

.venv-sanitize/ready: requirements-test.txt
	@echo 'Making .venv-sanitize'
	@$(PYTHON) -m venv .venv-sanitize
	@.venv-sanitize/bin/pip install $(VENV) -r requirements-test.txt
	@touch $@

# Not editable: in place is the release build.
sanitize: system .venv-sanitize/ready
	@REDLANE_BUILD=sanitize .venv-sanitize/bin/pip install $(VENV) \
		--no-build-isolation --no-deps --force-reinstall .
	@$(SANITIZE) .venv-sanitize/bin/python -m pytest -p no:cacheprovider \
		$(PARALLEL) $(TESTS)

packaging: system build
	@$(BIN)/python -m pytest -m packaging tests/test_packaging.py \
		--numprocesses 2 --dist loadgroup

docs: build .venv/ready-dev
	@$(BIN)/mkdocs build --quiet --strict

dist: .venv/ready-dev
	@$(BIN)/python -m build

clean:
	rm -rf build dist site vendor .venv .venv-* .servers .tools .pytest_cache \
		.hypothesis .mypy_cache .ruff_cache python/*.egg-info
	find python tests src tools benchmarks examples \( -name '*.so' -o -name '*.o' \
		-o -name '*.gc??' -o -name __pycache__ \) -prune -exec rm -rf {} + 2>/dev/null || true
