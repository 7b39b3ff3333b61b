# Everything a developer or CI runs. Needs make and Python 3.11+ only: `make demo`, `make check`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The interpreter that the environments are made of; looked for when nothing is given.
PYTHON ?=
PORT ?= 9090
# What the demo is about: digits, or detection with DATA=FOLDER_OR_ZIP.
TASK ?= digits
# none: leave out the tests in a browser, on a machine that cannot have one.
BROWSER ?=
BIN := .venv/bin
OURS := .venv/.installed
LABEL_STUDIO := .venv-label-studio/.installed
# Each process of end-to-end tests has a Label Studio of its own; much of such a test is waiting, so
# that three of them share two cores.
COVERED := --cov --cov-append --cov-report=
LOCK := $(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header $(LOCK_ARGS)

.PHONY: help demo data check test format serve soak bench audit lock lint envs browser pictures postgres containers hostile steady

help: ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

demo: data envs ## Label Studio with handwritten digits, the rare ones first (HEADLESS=1 [SEED=n|SEEDS=5]), or TASK=detection DATA=...
	@$(BIN)/python -m demo.run --task $(TASK) $(if $(DATA),--data "$(DATA)") $(if $(TAIL),--tail "$(TAIL)") \
		$(if $(TILES),--tiles $(TILES)) $(if $(PICTURES),--pictures $(PICTURES)) \
		$(if $(LABELS),--labels $(LABELS)) $(if $(HEADLESS),--headless) $(if $(SEED),--seed $(SEED)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(LABEL_STUDIO_PORT),--label-studio-port $(LABEL_STUDIO_PORT)) \
		--port $(PORT)

# First of all: what is missing is said before minutes of downloads.
data:
ifeq ($(TASK),detection)
	@test -n "$(DATA)" -a -e "$(DATA)" || { echo "$$DATA_WANTED" >&2; exit 2; }
else ifneq ($(TASK),digits)
	@echo "demo: found TASK=$(TASK), expected digits or detection" >&2; exit 2
endif

define DATA_WANTED
demo: TASK=detection needs DATA=FOLDER_OR_ZIP, found $(if $(DATA),no $(DATA),none).
It is to hold pictures with boxes, as VOC (an XML file for each picture, beside it or in a folder such as
annotations/) or as COCO (a JSON file with images, annotations and categories). Also:
  TAIL=names       the rare classes, comma-separated; else those with less than 0.3 of the mean number of boxes
  TILES=n          cut the pictures into tiles of about n px, 0: never; else only large ones that are all alike
  PICTURES=n       at most n to label (400)
  HEADLESS=1       label by itself and judge; SEED=n chooses the pictures, LABELS=n how many
endef
export DATA_WANTED

check: lint ## format, lint, types, import borders and the quick tests (about 5 minutes)
	@echo "[check] tests"
	@$(BIN)/pytest -q -n 2 -m "not e2e and not slow and not gpu"

test: browser envs lint ## everything that CI runs: check, then end to end on a real Label Studio
	@echo "[test] quick tests"
	@$(BIN)/coverage erase
	@$(BIN)/pytest -q -n 2 $(COVERED) -m "not e2e and not slow and not gpu"
	@echo "[test] end to end"
	@$(BIN)/pytest -q -n 3 $(COVERED) --dist loadfile \
		-m "e2e and not slow and not gpu$(if $(filter none,$(BROWSER)), and not browser)"
	@$(BIN)/coverage report
	@$(if $(filter none,$(BROWSER)),echo "$(LEFT_OUT)")

lint: $(OURS)
	@echo "[lint] ruff format"; $(BIN)/ruff format --check --quiet .
	@echo "[lint] ruff check"; $(BIN)/ruff check --quiet .
	@echo "[lint] mypy"; $(BIN)/mypy -p backend -p models -p demo
	@echo "[lint] import borders"; $(BIN)/lint-imports

LEFT_OUT := [browser] LEFT OUT by BROWSER=none: the tests in a browser did not run

# First of all: what cannot be installed is said before minutes of downloads.
browser:
ifeq ($(BROWSER),none)
	@echo "$(LEFT_OUT)"
else
	@.ci/find-browser --install >/dev/null
endif

pictures: browser envs ## the README's pictures of Label Studio and of our pages, taken by the tests in a browser
	@$(BIN)/pytest -q tests/e2e/browser --pictures docs/images

format: $(OURS) ## mend formatting and what ruff can mend
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

serve: $(OURS) ## web and worker on PORT; LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY say where
	@PORT=$(PORT) $(BIN)/rarefirst serve

soak: envs ## what takes long: random kills, fuzzing, whole training runs
	@$(BIN)/pytest -m "slow and not gpu"

postgres: envs ## the end-to-end tests with Label Studio on a PostgreSQL of their own (ONLY=file or test)
	@RAREFIRST_TEST_DATABASE=postgres $(BIN)/pytest -q -n 2 --dist loadfile -m "e2e and not slow and not gpu and not browser" \
		$(if $(ONLY),$(ONLY),tests/e2e)

containers: envs ## build the image and serve a queue from two containers of it (root, buildah, crun; KEEP=folder keeps images)
	@$(BIN)/python -m tests.containers.run $(if $(KEEP),--keep "$(KEEP)") $(if $(REPORT),--report "$(REPORT)")

hostile: $(OURS) ## every attack of docs/SECURITY.md at length, with the number of inputs tried (TRIED=file)
	@$(BIN)/pytest -q -m "not e2e and not gpu" $$($(BIN)/python -m tests.security.counting) \
		--tried $(or $(TRIED),.tried.json)

steady: envs ## half an hour with labels arriving: memory, file handles and files on disk stay flat
	@$(BIN)/python -m benchmarks.soak

bench: envs ## every benchmark in turn; each prints JSON
	@failed=0; for name in embed rescore reorder latency submits finetune_cost load sigterm; do echo "[bench] $$name" >&2; \
		$(BIN)/python -m benchmarks.$$name || failed=1; done; exit $$failed

audit: $(OURS) ## known vulnerabilities of the locked packages (needs the network), licences into docs/licences.md
	@.ci/audit requirements.lock requirements-label-studio.lock

lock: $(OURS) ## resolve the lock files anew from pyproject.toml (LOCK_ARGS=--upgrade for newer versions)
	@echo hatchling | $(LOCK) -o requirements.lock pyproject.toml - >/dev/null
	@printf 'hatchling\neditables\nuv\n' | $(LOCK) -o requirements-dev.lock --group dev -c requirements.lock \
		pyproject.toml - >/dev/null
	@echo label-studio==1.23.2 | $(LOCK) -o requirements-label-studio.lock - >/dev/null
	@echo "[lock] written; the next make installs what changed"

# Both environments at once: most of the time is spent waiting for downloads.
envs:
	@$(MAKE) -j2 $(OURS) $(LABEL_STUDIO)

$(OURS): requirements-dev.lock pyproject.toml
	@python=$$(.ci/find-python $(PYTHON)) && .ci/make-env "$$python" .venv requirements-dev.lock --project

$(LABEL_STUDIO): requirements-label-studio.lock
	@python=$$(.ci/find-python $(PYTHON)) && .ci/make-env "$$python" .venv-label-studio requirements-label-studio.lock
