# One command each: `make report` and `make test`. Both make their own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export PROFILE ?= auto
export DATASET ?= auto
export DEVICE ?= auto
export DATA_ROOT ?= data
export RETRAIN ?= 0
export STORE ?= $(if $(filter 1,$(RETRAIN)),report/retrained,report/runs)
export IMAGE_SIZE ?=
PARAMETERS ?=
export PYTHONUNBUFFERED := 1
# With it, as in many images, each of the many processes compiles torch's sources anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help env report lab test .known commands units cells bench readme lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16
	@echo "Variables: PROFILE=auto|smoke|quick|cpu|paper DATASET=auto|cifar10|tiny-imagenet|imagenet|digits DEVICE=auto|cpu|cuda"
	@echo "           DATA_ROOT=folder STORE=folder of the records PARAMETERS='seeds=3 rates=[0,0.5,1]'"
	@echo "           RETRAIN=1 trains all again beside the records, into report/retrained, and compares"
	@echo "           IMAGE_SIZE=pixels of the photographs, 64 for tiny-imagenet and 299 for imagenet if not set"
	@echo "           OFFLINE=1 downloads nothing"

env: $(READY)  ## make the environment in .venv

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo "error: Python 3.11 to 3.14 is needed; set PYTHON=..."; exit 2; }
	@test ! -L $(VENV) || { echo "error: $(VENV) is a link, and what it points to would be emptied: remove the link"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>&- || { echo "error: no venv module; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirement requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

report: $(READY)  ## train what has no record and build report/html/index.html
	@$(BIN)/python -m lib.report $(PARAMETERS)

lab: $(READY)  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir=. \
	  --LabApp.default_url=/lab/tree/notebooks/index.ipynb

test: units commands cells  ## style, unit tests and notebooks; make -j2 -O test runs two of its parts at a time

.known: $(READY)  # an unknown data set is refused before anything runs
	@$(BIN)/python -c "from lib import config, data; exit(config.run_command(lambda: not data.resolve_dataset('$(DATASET)')))"

# Those of pages, sweeps and torchrun take about as long as all others and the notebooks.
COMMANDS := $(patsubst %,tests/test_%.py,browser distributed report sweep)

units: .known  ## check style and run the unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	$(BIN)/python -m pytest -q tests $(addprefix --ignore=,$(COMMANDS))

commands: .known  ## run the tests of whole commands and built pages
	$(BIN)/python -m pytest -q $(COMMANDS)

cells: .known  ## run every notebook at PROFILE=smoke
	rm -rf build/test-runs
	PROFILE=smoke STORE=build/test-runs $(BIN)/python -m pytest -q --nbval-lax --nbval-cell-timeout=120 --nbval-kernel-startup-timeout=600 \
	  $(if $(filter tiny-imagenet imagenet,$(DATASET)),--ignore=notebooks/label_corruption.ipynb) notebooks

bench: $(READY)  ## measure the engine's speed beside a plain loop; writes report/bench-<device>.md
	@$(BIN)/python -m lib.bench

readme: $(READY)  ## refresh the README's verdicts, figure and speeds from report/
	@$(BIN)/python -m lib.overview

lock: $(READY)  ## resolve pyproject.toml into requirements.txt
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --all-extras --python-version 3.11 pyproject.toml > $(VENV)/lock
	grep -vE '^(nvidia-|cuda-|triton==)' $(VENV)/lock > requirements.txt  # torch itself pins its CUDA libraries

clean:  ## remove what was built; records and data, also decoded, stay
	rm -rf build report/html .pytest_cache .ruff_cache *.egg-info
	find lib tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
