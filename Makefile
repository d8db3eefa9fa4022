# The tasks of the project. `make demo` and `make test` install the tools that a fresh machine
# lacks; the other targets expect them (`make setup`).

PYTHON ?= python3
CARGO ?= cargo
REBAR3 ?= rebar3
CC ?= gcc

# The tag of the Python: cp311 for 3.11. A build directory for each, so that none undoes the work of
# another.
TAG = $(shell $(PYTHON) -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
# PyO3 asks the interpreter itself, and a launcher script may not answer: so this is the real path.
PYTHON_EXE = $(shell $(PYTHON) -c 'import sys; print(sys.executable)')
ERTS_INCLUDE = $(shell erl -noshell -eval 'io:format("~ts/erts-~ts/include", [code:root_dir(), erlang:system_info(version)]), halt().')

CARGO_BUILD = PYO3_BUILD_EXTENSION_MODULE=1 $(CARGO) build --release --locked \
	--manifest-path native/Cargo.toml
C_FLAGS = -std=c11 -O2 -g -fPIC -fvisibility=hidden -Wall -Wextra -Werror
# The functions of the BEAM are found when a library is loaded: Apple's linker has to be told so.
ifeq ($(shell uname),Darwin)
SHARED_FLAGS = -bundle -undefined dynamic_lookup
CARGO_LIB = libpy_nif.dylib
CHILD_LIB = libpy_child.dylib
else
SHARED_FLAGS = -shared -Wl,-z,nodelete
CARGO_LIB = libpy_nif.so
CHILD_LIB = libpy_child.so
endif

.PHONY: all help setup native child portable dist dist-check demo test watch bench bench-plot fuzz asan lint format docs clean

# Builds the library and compiles the Erlang code.
all: native
	$(REBAR3) compile

# Lists the targets, by the comments above them.
help:
	@scripts/help $(firstword $(MAKEFILE_LIST))

# Installs the tools that a build and the tests need, or says how to.
setup:
	@scripts/setup

# Builds the library for the Python that PYTHON names.
native: priv/py_loader.so child
	@test -n "$(TAG)" || { echo "make: PYTHON=$(PYTHON) does not run" >&2; exit 1; }
	@PYO3_PYTHON="$(PYTHON_EXE)" $(CARGO_BUILD) -p py_nif --target-dir native/target/$(TAG)
	@scripts/install native/target/$(TAG)/release/$(CARGO_LIB) priv/py_nif.$(TAG).so

# Builds the extension module of child processes, for every Python from 3.11 on; needs none. Without the
# optimization of the whole program, which `make dist` has: it takes a minute.
child:
	@CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 PYO3_NO_PYTHON=1 \
		$(CARGO_BUILD) -p py_child --features abi3 --target-dir native/target/child
	@scripts/install native/target/child/release/$(CHILD_LIB) priv/py_child.abi3.so

# Builds one library for every Python from 3.11 on; needs none.
portable: priv/py_loader.so child
	@PYO3_NO_PYTHON=1 $(CARGO_BUILD) -p py_nif --features abi3 --target-dir native/target/abi3
	@scripts/install native/target/abi3/release/$(CARGO_LIB) priv/py_nif.abi3.so

priv/py_loader.so: c_src/py_loader.c c_src/py_loader.h
	@mkdir -p priv
	@$(CC) $(C_FLAGS) $(SHARED_FLAGS) -I"$(ERTS_INCLUDE)" -o $@.new c_src/py_loader.c -ldl
	@mv $@.new $@

# Builds the archives of libraries for machines without Rust, into dist/, and writes prebuilt.sha256.
dist: setup
	@$(PYTHON) scripts/dist

# Fails unless prebuilt.sha256 is of these sources.
dist-check:
	@grep --quiet --line-regexp "# sources $$(escript scripts/build_native --digest)" prebuilt.sha256 \
		|| { echo "prebuilt.sha256 is of other sources: run make dist, and commit it" >&2; exit 1; }

# Runs a program that shows the main functions.
demo: setup all
	@ERLANG_PYTHON="$(PYTHON_EXE)" scripts/example demo

# Runs every test. One suite: scripts/test 'ct py_life'.
test: setup all
	@PYTHON="$(PYTHON_EXE)" scripts/test

# Rebuilds and runs one suite after each edit, until it is stopped: make watch SUITE=py_life.
watch: setup
	@PYTHON="$(PYTHON_EXE)" scripts/watch $(SUITE)

# Measures all groups, or those that GROUP names; takes about three minutes.
bench: setup all
	@PYTHON="$(PYTHON_EXE)" scripts/bench $(GROUP)

# Draws the results of the last `make bench`.
bench-plot: setup
	@PYTHON="$(PYTHON_EXE)" scripts/bench_plot

# Fuzzes for SECONDS; SEED repeats a run.
fuzz: SECONDS ?= 60
fuzz: setup all
	@ERLANG_PYTHON="$(PYTHON_EXE)" scripts/fuzz $(SECONDS)

# Runs the fuzzer's inputs on a library with AddressSanitizer; skips without a nightly Rust.
asan: setup all
	@PYTHON="$(PYTHON_EXE)" scripts/asan

# Checks format and style with rustfmt, clippy, gcc, xref, dialyzer and the schema of the CI workflow.
lint: setup native
	$(CARGO) fmt --all --manifest-path native/Cargo.toml --check
	PYO3_PYTHON="$(PYTHON_EXE)" PYO3_BUILD_EXTENSION_MODULE=1 $(CARGO) clippy --locked \
		--manifest-path native/Cargo.toml --target-dir native/target/lint -- -D warnings
	PYO3_PYTHON="$(PYTHON_EXE)" PYO3_BUILD_EXTENSION_MODULE=1 $(CARGO) clippy --locked \
		--manifest-path native/Cargo.toml --target-dir native/target/lint --features abi3 -- -D warnings
	$(CC) $(C_FLAGS) -fsyntax-only -I"$(ERTS_INCLUDE)" c_src/*.c
	scripts/openers
	"$$(PYTHON="$(PYTHON_EXE)" scripts/venv lint)" -m check_jsonschema --builtin-schema \
		vendor.github-workflows .github/workflows/*.yml
	$(REBAR3) xref
	$(REBAR3) dialyzer

# Formats the Rust code.
format:
	$(CARGO) fmt --all --manifest-path native/Cargo.toml

# Writes the API reference to docs/edoc.
docs: setup
	@scripts/docs

# Removes all that was built.
clean:
	rm -rf _build priv/*.so priv/built_from dist native/target .venv .venv-bench .venv-lint .venv-dist docs/edoc \
		examples/elixir/_build
