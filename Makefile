# Everything runs in .venv, made from the lock files in constraints/. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.10,$(shell python$(v) -c 'import sys; print(sys.executable)' 2>/dev/null)) python3)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints/override-cpu.txt)
REAL_TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints/gpu.txt)
# extra words for the command, e.g. make run ARGS="mu_peak=0.4"
ARGS ?=

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: check-python
check-python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 13) else \
	"chord_exp needs Python 3.10, 3.11 or 3.12, and $(PYTHON) is %d.%d: run make PYTHON=/path/to/python3.11" % v)'

# the CPU and the GPU lock hold different builds of torch: one .venv never takes both
remove_other_stack = if [ -e $(VENV)/.$(1) ]; then \
	echo "removing $(VENV): it holds the $(1) packages, and the two sets do not mix"; rm -rf $(VENV); fi

.PHONY: setup
setup: $(VENV)/.cpu  ## install everything for CPU (and the local engine) into .venv
$(VENV)/.cpu: constraints/cpu.txt constraints/override-cpu.txt pyproject.toml | check-python
	@$(call remove_other_stack,gpu)
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing $(TORCH) and the packages of constraints/cpu.txt into $(VENV) (minutes, once)"
	@$(PIP) install -q $(TORCH)
	@$(PIP) install -q --no-deps -r constraints/cpu.txt
	@$(PIP) install -q --no-deps -e .
	@touch $@

.PHONY: setup-gpu
setup-gpu: check-python  ## install everything for GPUs (vLLM, verl) into .venv
	@$(call remove_other_stack,cpu)
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q --no-deps -r constraints/gpu.txt
	$(PIP) install -q --no-deps -e .
	@touch $(VENV)/.gpu
	@echo "pip check names verl's cap on numpy: known, see constraints/override-gpu.txt"

.PHONY: setup-real
setup-real: .venv-real/.real  ## install the real vLLM and verl for a CPU into .venv-real
.venv-real/.real: constraints/real.txt constraints/gpu.txt pyproject.toml | check-python
	@test -x .venv-real/bin/python || $(PYTHON) -m venv .venv-real
	@echo "installing $(REAL_TORCH) and the packages of constraints/real.txt into .venv-real (minutes, once)"
	@.venv-real/bin/python -m pip --disable-pip-version-check install -q $(REAL_TORCH)
	@.venv-real/bin/python -m pip --disable-pip-version-check install -q --no-deps -r constraints/real.txt
	@.venv-real/bin/python -m pip --disable-pip-version-check install -q --no-deps -e .
	@touch $@

# whatever is installed already will do
READY := $(if $(wildcard $(VENV)/.gpu),,$(VENV)/.cpu)

.PHONY: run
run: $(READY)  ## run one CHORD experiment on this machine (ARGS="mu_peak=0.4 ...")
	@$(PY) -m chord_exp $(ARGS)

.PHONY: plan
plan: $(READY)  ## show what would run, with every derived number (ARGS="cluster=gpu_8 model=qwen3_4b")
	@$(PY) -m chord_exp action=plan $(ARGS)

.PHONY: export
export: $(READY)  ## write the YAML for `trinity run --config` (ARGS="export_to=my.yaml cluster=gpu_8 ...")
	@$(PY) -m chord_exp action=export $(ARGS)

.PHONY: prepare
prepare: $(READY)  ## look at a split of sft_data; make run makes its own (ARGS="--input-dir my_data ...")
	@$(PY) -m chord_exp.prepare $(if $(ARGS),$(ARGS),--input-dir sft_data)

.PHONY: sweep
sweep: $(READY)  ## run several experiments, as many at once as fit (ARGS="mu_peak=0.2,0.4,0.6")
	@$(PY) -m chord_exp -m $(if $(ARGS),$(ARGS),mu_peak=0.2,0.4,0.6)

.PHONY: report
report: $(READY)  ## write a page of the newest run or sweep, or of others (ARGS="outputs/a outputs/b --watch")
	@$(PY) -m chord_exp.report $(ARGS)

.PHONY: study
study: $(READY)  ## CHORD against its baselines on the small model (docs/study.md; about an hour on two cores)
	@$(PY) -m tools.study.run --out outputs/study $(ARGS)

.PHONY: package
package: $(READY)  ## write the generated files of package/ from conf/ and docs/
	@$(PY) tools/make_package $(ARGS)

.PHONY: check
check: $(READY)  ## explain what does not fit in a hand-written configuration (ARGS=my_config.yaml)
	@$(PY) -m chord_exp.check $(if $(ARGS),$(ARGS),package/qwen3_chord_config.yaml package/qwen3_chord_simple.yaml)

.PHONY: doctor
doctor: $(READY)  ## check this machine, or say what is wrong with a run (ARGS=my_run)
	@$(PY) -m chord_exp.doctor $(ARGS)

# files of tests at once, in this order: whole runs begin first (xdist's groups are lost on pytest 9.2)
WORKERS ?= 2
PYTEST = $(PY) -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(READY)  ## quick tests and one whole run of each mechanism (WORKERS=4 for more at once)
	@$(PYTEST) -m "not slow" $(ARGS)

.PHONY: test-unit
test-unit: $(READY)  ## quick tests only
	@$(PYTEST) tests/unit $(ARGS)

.PHONY: test-all
test-all: $(READY)  ## all tests, with every fault and the runs that learn
	@$(PYTEST) $(ARGS)

# the one-click script joins any Ray that runs
ALONE = tests/real/test_one_click.py
.PHONY: test-real
test-real: .venv-real/.real  ## tests of the real vLLM and verl on a CPU (half an hour)
	@.venv-real/bin/python -m pytest -q -n $(WORKERS) --no-loadscope-reorder tests/real --ignore $(ALONE) $(ARGS); \
	code=$$?; .venv-real/bin/python -m pytest -q $(ALONE) $(ARGS) && exit $$code

GPUS ?= 1
.PHONY: check-memory
check-memory: $(READY)  ## hold the forecast of GPU memory against PyTorch's tracker, without a GPU (ARGS=--write)
	@$(PY) -m tools.check_memory $(ARGS)

.PHONY: gpu-check
gpu-check: $(READY)  ## the same against what an update allocates on a GPU (GPUS=4 for the settings of four)
	@$(VENV)/bin/torchrun --nproc-per-node $(GPUS) -m tools.check_memory --gpu

# newest versions, which cap packages that the locks have newer (pillow, importlib-metadata, protobuf)
TRACKERS := mlflow-skinny==3.17.2 swanlab==0.10.3 trackio==0.43.0 alembic sqlalchemy orjson pytest
.PHONY: test-trackers
test-trackers: .venv-trackers/.done  ## tests of monitor=swanlab|mlflow|trackio with the real libraries, offline
	@PYTHONPATH=. .venv-trackers/bin/python -m pytest -q -c /dev/null --rootdir=. --noconftest -p no:cacheprovider \
	    tests/unit/test_trackers.py $(ARGS)
.venv-trackers/.done: | check-python
	@test -x .venv-trackers/bin/python || $(PYTHON) -m venv .venv-trackers
	@.venv-trackers/bin/python -m pip --disable-pip-version-check install -q $(TRACKERS)
	@touch $@

.PHONY: lint
lint: $(READY)  ## ruff, mypy and the import rules
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check -q .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-cache

.PHONY: format
format: $(READY)  ## let ruff format the code
	@$(PY) -m ruff check -q --fix .
	@$(PY) -m ruff format -q .

.PHONY: bench
bench: $(READY)  ## speed of the default run against its bare arithmetic, and of trials
	@$(PY) benchmarks/default_run.py $(ARGS)

.PHONY: bench-prepare
bench-prepare: $(READY)  ## speed and memory of data preparation against its peers (ARGS="--rows 100000")
	@$(PY) benchmarks/prepare_data.py $(ARGS)

# e.g. the Python of a throw-away environment with hydra-ray-launcher, see benchmarks/sweep_peers.py
HYDRA_RAY ?= $(PY)
.PHONY: bench-sweep
bench-sweep: $(READY)  ## makespan, launch and memory of sweeps, and their peers (HYDRA_RAY=VENV/bin/python)
	@$(PY) benchmarks/sweep_scheduler.py
	@$(PY) benchmarks/sweep_launch.py $(ARGS)
	@$(PY) benchmarks/sweep_peers.py --hydra-ray $(HYDRA_RAY)

.PHONY: lock
lock: | check-python  ## remake constraints/*.txt (needs a network)
	@bash constraints/lock.sh $(PYTHON)

.PHONY: clean
clean:  ## remove caches and build products; outputs/ and .venv stay
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
