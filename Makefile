# A thin front for CMake, which does the work (CMakePresets.json); `make help` lists the targets.
# Release output lies in build/release.

# How many things are built or tested at once.
JOBS ?= $(shell nproc)
# Where `make install` puts things; DESTDIR comes before it for packagers.
PREFIX ?= /usr/local
# ON: a warning of the compiler is an error.
WERROR ?= OFF
# Further options for CMake, such as -DBERTH_HWLOC=OFF.
CMAKE_FLAGS ?=
# Further arguments for perf/bench.py.
BENCH_FLAGS ?=
# Further arguments for perf/serving.py.
SERVERS_FLAGS ?=
# Further arguments for perf/trace.py all.
TRACE_FLAGS ?=
# Of perf/netty.py.
NETTY_FLAGS ?=

release := build/release
configure := cmake --preset release -DCMAKE_INSTALL_PREFIX="$(PREFIX)" \
	-DBERTH_WERROR=$(WERROR) $(CMAKE_FLAGS)
# CMake's own make is told its number of jobs, and is not part of this one.
build := env -u MAKELEVEL -u MAKEFLAGS cmake --build $(release) --parallel $(JOBS)
export JOBS WERROR CMAKE_FLAGS
unexport MAKEFLAGS

.PHONY: all test test-all demo bench servers traces netty install lint docs coverage clean help

all:
	@$(configure)
	@$(build)

test:
	@cmake/need-packages build test
	@tests/run release debug

test-all:
	@cmake/need-packages build test
	@tests/run release debug hardened asan tsan

demo:
	@cmake/need-packages build demo
	@$(configure)
	@$(build)
	@tests/demo/run

bench:
	@cmake/need-packages build bench
	@$(configure) -DBERTH_PERF=ON
	@$(build)
	@python3 perf/bench.py $(BENCH_FLAGS)

servers:
	@cmake/need-packages build servers
	@$(configure) -DBERTH_PERF=ON
	@$(build)
	@python3 perf/serving.py $(SERVERS_FLAGS)

traces:
	@cmake/need-packages build bench
	@$(configure) -DBERTH_PERF=ON
	@$(build)
	@python3 perf/trace.py all $(TRACE_FLAGS)

netty:
	@cmake/need-packages build netty
	@$(configure) -DBERTH_PERF=ON
	@$(build)
	@perf/netty.py $(NETTY_FLAGS)

install: all
	@DESTDIR="$(DESTDIR)" cmake --install $(release)

lint:
	@cmake/need-packages lint
	@tests/lint/run

docs:
	@docs/generate/run --write

coverage:
	@cmake/need-packages build test
	@tests/coverage

clean:
	rm -rf build

help:
	@echo 'make            build into $(release); installs nothing'
	@echo 'make test       release and debug build, all short tests; installs what they need by apt'
	@echo 'make test-all   the same, and hardened, AddressSanitizer and ThreadSanitizer builds'
	@echo 'make demo       the demonstration; installs what it needs by apt'
	@echo 'make bench      the benchmarks against other allocators'
	@echo 'make servers    servers on buffers against malloc and copies, nginx, Redis, Netty'
	@echo 'make traces     records the calls of the servers that are installed, and replays them'
	@echo "make netty      berth's pools against Netty's on the JVM; installs both by apt"
	@echo 'make install    to PREFIX ($(PREFIX)), under DESTDIR if that is set'
	@echo 'make lint       static checks; installs the checkers by apt'
	@echo 'make docs       writes the generated parts of docs/ anew'
	@echo 'make coverage   lines of arena/ that the tests run; fails if a file is below 85 %'
	@echo 'make clean      removes build/'
	@echo 'Variables: JOBS=$(JOBS) PREFIX=$(PREFIX) WERROR=$(WERROR) CMAKE_FLAGS BENCH_FLAGS SERVERS_FLAGS TRACE_FLAGS NETTY_FLAGS'
