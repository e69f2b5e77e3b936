# Commands: demo near test check nightly lab docs bench fuzz matrix, and lint coverage dist release-check lock, which the
# workflows in .github call. Each makes .venv if it is missing.

PYTHON ?= python3
# PyTorch's public index of CPU wheels; for a GPU, the index of its CUDA build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# For `make bench`: a folder of test images, and sides in pixels of the scenes made from them.
DATA ?= ../shared/data
SIDES ?= 4096 8192

# Processes that share the tests, each from its end of the files; each takes about 2 GiB of memory.
# One that is lost ends the run: a new one would wait for ever for its share.
WORKERS ?= 2
SHARED := -n $(WORKERS) --dist worksteal --max-worker-restart=0

# The files that have tests with a mark: the others need not be collected.
marked = $$(grep -rlE 'mark\.$(1)|"$(1)"' tests --include="test_*.py")

# Tests start hundreds of processes, which must not each compile the sources again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
READY := $(VENV)/.ready

.PHONY: demo near test check slow nightly lab lint types rules coverage docs bench fuzz matrix dist release-check lock

demo: $(READY)  ## restore the sample in the window; result, record and screenshot go to demo/
	scripts/with-display $(BIN)/python scripts/demo.py

near: $(READY)  ## the quick tests that are nearest to what differs from main
	$(BIN)/python scripts/near.py | xargs -r $(BIN)/python -m pytest -m "not slow and not nightly"

test: $(READY)  ## all quick tests
	$(BIN)/python -m pytest -m "not slow and not static and not nightly" $(SHARED)

lint: $(READY)  ## style, types, manifest, and rules on sources and pages
	$(MAKE) --no-print-directory --jobs 2 types rules

types: $(READY)
	$(BIN)/mypy

rules: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/npe2 validate napari-restore
	$(BIN)/python -m pytest -m static $(call marked,static)

check: $(READY)  ## lint, the slow tests, and under PyQt6 the quick ones of what Qt's bindings do differently
	$(MAKE) --no-print-directory --jobs 2 types slow

slow: rules # the types are checked beside them, which takes one core for a minute
	$(BIN)/python -m pytest -m "slow and not nightly" $(call marked,slow) $(SHARED)
	QT_API=pyqt6 $(BIN)/python -m pytest -m "binding and not slow and not nightly" $(call marked,binding) $(SHARED)

nightly: $(READY)  ## what looks for a crash by chance, long variants, and all tests of the window under PyQt6
	$(BIN)/python -m pytest -m nightly $(call marked,nightly) $(SHARED)
	QT_API=pyqt6 $(BIN)/python -m pytest tests/plugin $(SHARED)

lab: $(READY)  ## synthetic haze, training and evaluation: install napari-restore-lab, run its tests
	$(BIN)/python -m pip install --constraint constraints.txt --editable "lab[classical,figures]"
	$(BIN)/python -m pytest lab/tests $(SHARED)

coverage: $(READY)  ## the quick tests, with the share of lines that they run; also in coverage.xml
	$(BIN)/python -m pytest -m "not slow and not static and not nightly" $(SHARED) --cov --cov-report=xml --cov-report=term:skip-covered

docs: $(VENV)/.docs  ## build the site in docs/_build/html, without a warning and without the network
	$(BIN)/python scripts/check_links.py
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(READY)  ## measure; figures go to docs/benchmarks.md
	scripts/bench $(BIN)/python $(DATA) $(SIDES)

# For `make fuzz`: how many damaged files, and the folder of the report, which a second call goes on with.
CASES ?= 20000
REPORT ?= fuzz-report

fuzz: $(READY)  ## feed damaged and hostile files to everything that reads one
	$(BIN)/python -W ignore tests/hostile/fuzz --cases $(CASES) --jobs $(WORKERS) --report $(REPORT)

# For `make matrix`: the runs, each END:PYTHON (lowest, newest, or pre for pre-releases, too), and tests other than all. Environments and reports
# lie in .matrix.
RUNS ?= lowest:$(PYTHON) newest:$(PYTHON)
TESTS ?=

matrix: $(READY)  ## quick tests at the lowest and the newest versions; figures go to docs/versions.md
	$(BIN)/python scripts/matrix.py $(RUNS) --index $(TORCH_INDEX) --workers $(WORKERS) --tests $(TESTS)

dist: $(READY)  ## source archive and wheel in dist/
	$(BIN)/python -c "import shutil; shutil.rmtree('dist', ignore_errors=True)"
	$(BIN)/python -m build --no-isolation

# cffconvert excludes the jsonschema of napari, so it is in no group, and the checks have an
# environment of their own.
RELEASE := .release/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

release-check: dist .release/.ready  ## metadata, archives, workflows, spelling; needs no network once it is set up
	PATH="$(CURDIR)/$(RELEASE):$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/release_check.py

.release/.ready: pyproject.toml
	$(PYTHON) -m venv .release
	$(RELEASE)/python -m pip install --upgrade "pip>=25.1"
	$(RELEASE)/python -m pip install --group release cffconvert
	touch $@

lock: .release/.ready  ## uv.lock: the pins of constraints.txt, for all systems and Pythons
	$(RELEASE)/uv lock $$(sed -n 's/^\([A-Za-z0-9._-]*==[^ ]*\)$$/--upgrade-package \1/p' constraints.txt)

# Stamps in .venv make every step run once; a changed list of packages runs its step again.
$(VENV)/.system: scripts/system-packages
	scripts/system-packages $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.torch: $(VENV)/.system scripts/install-torch constraints.txt
	scripts/install-torch $(BIN)/python $(TORCH_INDEX)
	touch $@

$(READY): $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install --constraint constraints.txt --upgrade pip # dependency groups: from 25.1 on
	$(BIN)/python -m pip install --constraint constraints.txt --no-compile --editable . --group dev # what is imported is compiled then
	touch $@

# With napari-restore-lab, whose commands have pages, too.
$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --constraint constraints.txt --group docs --editable lab
	touch $@
