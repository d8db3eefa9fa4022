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
	--manifest-path native/Cargo.toml -p py_nif
C_FLAGS = -std=c11 -O2 -g -fPIC -fvisibility=hidden -Wall -Wextra -Werror

.PHONY: all setup native portable demo test bench bench-plot fuzz asan lint format docs clean

all: native
	$(REBAR3) compile

setup:
	@scripts/setup

# Builds the library for the Python that PYTHON names.
native: priv/py_loader.so
	@test -n "$(TAG)" || { echo "make: PYTHON=$(PYTHON) does not run" >&2; exit 1; }
	@PYO3_PYTHON="$(PYTHON_EXE)" $(CARGO_BUILD) --target-dir native/target/$(TAG)
	@scripts/install native/target/$(TAG)/release/libpy_nif.so priv/py_nif.$(TAG).so

# Builds one library for every Python from 3.11 on.
portable: priv/py_loader.so
	@PYO3_PYTHON="$(PYTHON_EXE)" $(CARGO_BUILD) --features abi3 --target-dir native/target/abi3
	@scripts/install native/target/abi3/release/libpy_nif.so priv/py_nif.abi3.so

priv/py_loader.so: c_src/py_loader.c c_src/py_loader.h
	@mkdir -p priv
	@$(CC) $(C_FLAGS) -shared -Wl,-z,nodelete -I"$(ERTS_INCLUDE)" -o $@.new c_src/py_loader.c -ldl
	@mv $@.new $@

demo: setup all
	@scripts/example demo

test: setup all
	@PYTHON="$(PYTHON_EXE)" scripts/test

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

lint: setup native
	$(CARGO) fmt --all --manifest-path native/Cargo.toml --check
	PYO3_PYTHON="$(PYTHON_EXE)" PYO3_BUILD_EXTENSION_MODULE=1 $(CARGO) clippy --locked \
		--manifest-path native/Cargo.toml --target-dir native/target/lint -- -D warnings
	PYO3_PYTHON="$(PYTHON_EXE)" PYO3_BUILD_EXTENSION_MODULE=1 $(CARGO) clippy --locked \
		--manifest-path native/Cargo.toml --target-dir native/target/lint --features abi3 -- -D warnings
	$(CC) $(C_FLAGS) -fsyntax-only -I"$(ERTS_INCLUDE)" c_src/*.c
	scripts/openers
	$(REBAR3) xref
	$(REBAR3) dialyzer

format:
	$(CARGO) fmt --all --manifest-path native/Cargo.toml

docs: setup
	@scripts/docs

clean:
	rm -rf _build priv native/target .venv .venv-bench docs/edoc examples/elixir/_build
