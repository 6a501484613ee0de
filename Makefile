# `make run` and `make test` are all a newcomer needs. Each makes .venv once and installs into it once.
PYTHON ?= python3
VENV   ?= .venv
ROOT    = build/types
BIN     = $(VENV)/bin
DATA   ?=
ADDRESS ?= 127.0.0.1:50051
KERNELS = $(wildcard kernels/cpp/*/*.cpp kernels/cpp/*/*.h)

# Runs $(2), and says every PACE seconds that $(1) goes on: installers are silent for minutes where there is no terminal.
PACE = 4
define patiently
@echo "$(1)"; start=$$(date +%s); \
( while sleep $(PACE) > /dev/null 2>&1 < /dev/null; do echo "$(1): $$(($$(date +%s) - start)) s so far" >&2; done ) & \
beat=$$!; trap 'kill $$beat' EXIT; trap 'exit 130' INT TERM; $(2)
endef

.DELETE_ON_ERROR:
.PHONY: run test test-long check sanitize damaged damaged-sanitized fuzz-data aot gpu bench bench-kernels bench-forward bench-int8 bench-headline bench-steps bench-ids bench-score bench-shadow bench-mapping public-protocols bench-proxy chaos soak overload hang mirror fleet swaps demo ramps ramp-kills demo-mesh demo-shadow demo-own-proto load quality refresh links protos protos-current stubs mesh-answers skew mesh-tuning faults gate-errors

run: $(VENV)/.installed
	$(BIN)/meshfold run $(if $(DATA),--data $(DATA)) --address $(ADDRESS)

test: $(VENV)/.installed-dev
	$(BIN)/pytest -q -m "not long"

# Tests of benchmarks and compilers, which take some minutes more.
test-long: $(VENV)/.installed-dev
	$(BIN)/pytest -q -m long

# Kernels of GPUs, compiled ahead of time. No GPU is needed.
aot: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.gpu.aot --json build/aot.json

# All kernels' tests on a GPU, then rows, within nine minutes. For a bare machine: PYTHON is one that has a CUDA build of
# torch, triton, numpy, safetensors and pytest; nothing is installed. Answers are compared with those of the native
# kernels where there is a C++ compiler, else with the reference's.
GPU_NATIVE = build/gpu/_native.so

gpu: links
	@$(MAKE) --no-print-directory $(GPU_NATIVE) || echo "no C++ compiler with OpenMP: the CPU runs its reference" >&2
	@library=$(CURDIR)/$(GPU_NATIVE); test -f "$$library" || library=; \
	  MESHFOLD_KERNELS_LIBRARY=$$library PYTHONPATH=$(CURDIR)/$(ROOT) $(PYTHON) -m benchmarks.gpu.run --keep

$(GPU_NATIVE): $(KERNELS)
	@mkdir -p $(@D)
	@$(CXX) -std=c++20 -O3 -ffp-contract=off -fvisibility=hidden -fopenmp -fPIC -shared -Ikernels/cpp $(filter %.cpp,$^) -o $@

# Appends rows to benchmarks/results and writes the measured tables of the pages.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.index --keep
	$(BIN)/python -m benchmarks.tables

# String ids beside integer ids: a million UUIDs by default.
bench-ids: $(VENV)/.installed
	$(BIN)/python -m benchmarks.string_ids $(KEEP)

# Beside Faiss and pyroaring. Data and the peers' indices are kept in build/bench-kernels.
bench-kernels: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.kernels.compare --keep

# Threads wait as `meshfold serve` has them wait. The snapshot is kept in build/forward.
bench-forward: $(VENV)/.installed-bench
	GOMP_SPINCOUNT=2000 $(BIN)/python -m benchmarks.forward --keep
	$(BIN)/python -m benchmarks.tables

# The mesh and the model over one snapshot, in turn on the same cores. The catalog and its weights are made once in
# build/headline. VARIANTS=--no-over-arch or --all for more cases, --small for a try.
VARIANTS ?=

bench-headline: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.headline.run --keep $(VARIANTS)
	@$(BIN)/python -m benchmarks.tables

# What each step from the mesh to the model buys, and where the processor time of both goes.
bench-steps: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.headline.steps --keep
	@$(BIN)/python -m benchmarks.tables

# An OverArch in integers beside float32, on what bench-headline was trained on.
bench-int8: $(VENV)/.installed-bench
	GOMP_SPINCOUNT=2000 $(BIN)/python -m benchmarks.layers_int8 $(KEEP)

# Mesh and model on one data set, and the traffic moved over. DATA, or MovieLens as it is published.
demo-mesh: $(VENV)/.installed-mesh $(if $(DATA),,.meshfold/movielens)
	$(BIN)/python -m benchmarks.mesh.demo --data $(or $(DATA),.meshfold/movielens)

# A mesh that differs from itself and the model: mirrored requests, compared while callers are served, and the report.
# Everything is in build/shadow: the report is report/report.html.
demo-shadow: $(VENV)/.installed-mesh
	$(BIN)/python -m benchmarks.shadow.demo --work build/shadow

# From the mesh to serve by evidence, while callers ask. Everything is in build/ramp-demo.
demo: $(VENV)/.installed-mesh
	$(BIN)/python -m benchmarks.ramp.demo --work build/ramp-demo

# Ramps against planted faults: each must stop at its step and roll back. ALL=--all for every step.
ramps: $(VENV)/.installed-mesh
	$(BIN)/python -m benchmarks.ramp.ramps $(ALL)

# The ramp's process and the server's killed at KILLS random moments, while callers ask.
KILLS ?= 50

ramp-kills: $(VENV)/.installed-mesh
	$(BIN)/python -m benchmarks.ramp.kills --kills $(KILLS)

.meshfold/movielens: | $(VENV)/.installed
	$(BIN)/meshfold data movielens --out $@

# Item vectors inside the model beside vectors from a Redis that it starts: Debian's package redis-server. The snapshot is
# that of bench-forward.
bench-score: $(VENV)/.installed-bench
	GOMP_SPINCOUNT=2000 $(BIN)/python -m benchmarks.score --keep
	$(BIN)/python -m benchmarks.tables

# A made-up company's protocol of awkward choices, mapped, proxied, mirrored, compared, and moved to the model. Needs
# redis-server.
demo-own-proto: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.own_proto.run --work build/own_proto

# What a mapping costs beside a built-in adapter.
bench-mapping: $(VENV)/.installed
	$(BIN)/python -m benchmarks.mapping

# Public protocols that examples/protocols maps, asked by their official clients. These lie in an environment of their
# own, which sees the project's behind them: they need an older protobuf.
CLIENTS = build/clients
CLIENT_PACKAGES = $$($(BIN)/python -c "import tomllib; \
  print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['clients'])")

public-protocols: $(VENV)/.installed-dev $(CLIENTS)/.installed
	SERVER_PYTHON=$(CURDIR)/$(BIN)/python PYTHONPATH=$(CURDIR) \
	  $(CLIENTS)/bin/python -m pytest -q -p no:cacheprovider tests/compat/mapped/public

$(CLIENTS)/.installed: pyproject.toml
	$(BIN)/python -m venv --clear $(CLIENTS)
	$(call patiently,installing the official clients,$(CLIENTS)/bin/pip install $(CLIENT_PACKAGES))
	echo "import site; site.addsitedir('$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")')" \
	  > $$($(CLIENTS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/zz_project.pth
	@touch $@

# Pairs a second that a comparison takes in, and pairs a second whose differences get their causes over a million items.
# The items are made once in build/attribution.
bench-shadow: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.shadow.pairs
	$(BIN)/python -m benchmarks.shadow.attribution

# What the proxy adds to calls of a mesh, and a proxy whose mesh and model are killed while callers go on.
PROXIED = .meshfold/proxied

bench-proxy: $(VENV)/.installed-mesh $(PROXIED)
	$(BIN)/python -m benchmarks.mesh.proxy --data $(PROXIED) --keep
	$(BIN)/python -m benchmarks.tables

chaos: $(VENV)/.installed-mesh $(PROXIED)
	test -d build/proxy/generated/store || $(BIN)/meshfold build $(PROXIED) --store build/proxy/generated/store
	$(BIN)/python tests/load/chaos.py --store build/proxy/generated/store --surface generated

# What a server holds of: multiples of what it can answer, callers who do not behave, half load for MINUTES with swaps, and
# shadows beside calls. Each makes its catalog once in build/load. KEEP=--keep appends rows to benchmarks/results.
MINUTES ?= 30
KEEP    ?=

overload hang mirror: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.load.$@ $(KEEP)

# Three servers and one Redis that fails. Needs redis-server.
fleet: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.load.fleet

soak: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.load.soak --minutes $(MINUTES) $(KEEP)

# Swaps, roll-backs, takedowns and restarts under load; each answer is compared with its version's offline answer.
swaps: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.load.swaps $(KEEP)

$(PROXIED): | $(VENV)/.installed
	$(BIN)/meshfold data generated --items 20000 --dimension 64 --users 2000 --out $@

# Open-loop load on a mesh, a proxy or a model: TARGET=host:port, or TARGET="mesh=host:port model=host:port". DATA is what
# the served snapshot was built from; REQUESTS is a file of requests instead, METHOD the method that takes them. Reports
# are written to build/load.
TARGET   ?= $(ADDRESS)
RATE     ?= 20
DURATION ?= 30
REQUESTS ?= build/load/requests.bin

load: $(VENV)/.installed-load $(REQUESTS)
	$(BIN)/locust -f tests/load/locustfile.py --headless --only-summary --run-time $(DURATION)s --targets "$(TARGET)" \
	  --requests $(REQUESTS) $(if $(METHOD),--method $(METHOD)) --rate $(RATE) --csv build/load/report --html build/load/report.html

build/load/requests.bin: FORCE | $(VENV)/.installed-load
	$(BIN)/python -m benchmarks.mesh.traffic --data $(or $(DATA),.meshfold/generated) --out $@

FORCE:

# Mesh and model over one snapshot, the same requests; made once in build/mesh.
mesh-answers: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.mesh.answers --data $(DATA) --keep
	@$(BIN)/python -m benchmarks.tables

# What the mesh's settings were chosen by.
mesh-tuning: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.mesh.tuning --keep
	$(BIN)/python -m benchmarks.headline.mesh_sweep --keep
	@$(BIN)/python -m benchmarks.tables

# Causes of differences against faults planted in a mesh and a model. Stores are built once in build/faults. ALL=--all for
# all pairs of faults.
ALL ?=

faults: $(VENV)/.installed-mesh
	$(BIN)/python -m benchmarks.shadow.faults $(ALL)

# How often the gate is wrong, by simulation of migrations. MIGRATIONS of each case.
MIGRATIONS ?= 1000

gate-errors: $(VENV)/.installed
	$(BIN)/python -m benchmarks.gate.errors --migrations $(MIGRATIONS)

# A mesh whose tower and index are of two versions. Versions are trained once in build/skew.
skew: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.mesh.skew --data $(DATA) --keep
	@$(BIN)/python -m benchmarks.tables

quality: $(VENV)/.installed
	$(BIN)/python -m benchmarks.quality --data $(DATA) --keep
	$(BIN)/python -m benchmarks.tables

# A day's refresh on MovieLens: movies added and removed, then new interactions. The days are written to build/refresh.
refresh: $(VENV)/.installed $(if $(DATA)$(MESHFOLD_MOVIELENS),,.meshfold/movielens)
	$(BIN)/python -m benchmarks.refresh --data $(or $(DATA),$(MESHFOLD_MOVIELENS),.meshfold/movielens) $(KEEP)
	@$(BIN)/python -m benchmarks.tables

# Static tools and protoc cannot follow setuptools' import hook, so `links` gives them the installed shape.
check: $(VENV)/.installed-dev links protos-current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=$(ROOT) $(BIN)/lint-imports

# The kernels' tests on a library that ends at the first access out of bounds and the first undefined operation. Fresh
# memory is filled with what no answer may show; the runtimes come first because Python is built without them.
SANITIZED = build/sanitize/_native.so
RUNTIMES  = $(foreach runtime,libasan.so libstdc++.so,$(shell $(CXX) -print-file-name=$(runtime)))

sanitize: $(VENV)/.installed-dev $(SANITIZED)
	LD_PRELOAD="$(RUNTIMES)" \
	ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1:max_malloc_fill_size=1073741824:malloc_fill_byte=165 \
	UBSAN_OPTIONS=print_stacktrace=1 MESHFOLD_KERNELS_LIBRARY=$(CURDIR)/$(SANITIZED) $(BIN)/pytest -q --capture=sys tests/kernels

# Snapshots with right seals and absurd contents, COUNT of them: refused or answered, never a crash.
COUNT ?= 5000

damaged: $(VENV)/.installed-dev
	$(BIN)/python tests/load/damaged.py --count $(COUNT)

damaged-sanitized: $(VENV)/.installed-dev $(SANITIZED)
	LD_PRELOAD="$(RUNTIMES)" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	$(BIN)/python tests/load/damaged.py --count $(COUNT) --library $(SANITIZED)

# Random tables by pyarrow, pandas, Polars, DuckDB and Python's csv, TABLES of them: read back equal or refused by name.
TABLES ?= 2000

fuzz-data: $(VENV)/.installed-fuzz
	$(BIN)/python tests/load/fuzz_data.py --count $(TABLES)

$(SANITIZED): $(KERNELS)
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O1 -g -ffp-contract=off -fopenmp -fPIC -shared -Ikernels/cpp -fsanitize=address,undefined \
	  -fno-sanitize-recover=all -fno-omit-frame-pointer $(filter %.cpp,$^) -o $@

links:
	@mkdir -p $(ROOT)/meshfold
	@for d in api commands compat kernels model protos service tools; do ln -sfn ../../../$$d $(ROOT)/meshfold/$$d; done
	@ln -sfn ../../../api/meshfold/__init__.py $(ROOT)/meshfold/__init__.py

PROTOS = $$(cd protos && find mesh meshfold -name '*.proto' | LC_ALL=C sort)
STUBS  = build/stubs

# What mesh.v1 has gained is frozen with it: from then on tests hold that it stays.
protos: stubs $(VENV)/.installed-dev
	cp -R $(STUBS)/. protos/
	$(BIN)/python tests/protos/frozen.py

# The committed stubs are what the generator makes of the committed protos.
protos-current: stubs
	@cd $(STUBS) && find . -type f | LC_ALL=C sort | while read -r f; do cmp "$$f" ../../protos/$$f || \
	  { echo "$$f is not what the protos say: run 'make protos' and commit the result" >&2; exit 1; }; done

# Names of files and descriptors are those that every caller's protoc gives them; the modules are renamed into the package.
stubs: build/protoc/.installed
	@rm -rf $(STUBS) && mkdir -p $(STUBS)
	@build/protoc/bin/python -m grpc_tools.protoc -Iprotos \
	  --python_out=$(STUBS) --pyi_out=$(STUBS) --grpc_python_out=$(STUBS) $(PROTOS)
	@find $(STUBS) -type f -exec sed -E -i.generated \
	  -e 's/^from ((mesh|meshfold)\.v[0-9]+) import /from meshfold.protos.\1 import /' \
	  -e "s/'((mesh|meshfold)\.v[0-9]+\.[a-z_]+_pb2)'/'meshfold.protos.\1'/" {} +
	@find $(STUBS) -name '*.generated' -delete

# Newer generators make code that older protobuf runtimes refuse, so this one has an environment of its own.
build/protoc/.installed:
	$(call patiently,creating build/protoc,$(PYTHON) -m venv build/protoc)
	$(call patiently,installing protoc into build/protoc,build/protoc/bin/pip install grpcio-tools==1.71.2 "protobuf<6" "setuptools<81")
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "meshfold needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(call patiently,creating $(VENV),$(PYTHON) -m venv $(VENV))

# A library that does not build any more must not stay behind: what runs is always what the sources say.
$(VENV)/.installed: pyproject.toml constraints.txt $(KERNELS) | $(VENV)/bin/python
	@rm -f kernels/_native*.so
	$(call patiently,installing meshfold into $(VENV),$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .)
	@touch $@

# An extra of pyproject.toml, such as .installed-dev.
$(VENV)/.installed-%: pyproject.toml constraints.txt $(KERNELS) | $(VENV)/bin/python
	@rm -f kernels/_native*.so
	$(call patiently,installing meshfold[$*] into $(VENV),$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[$*]')
	@touch $@ $(VENV)/.installed
