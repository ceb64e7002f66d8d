# Every target sets up what it needs; `make help` lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RUN := $(VENV)/bin/python
PROFILE ?= auto
ARGS ?=
EXPERIMENT ?= table3
TABLE = profile=$$($(RUN) -m sharpv.configuration.profile $(PROFILE) $@) && $(RUN) run.py experiment=$@ profile=$$profile $(ARGS)
BENCH_TINY ?= --model tiny --frames 8 16 32 64 256 --tokens 64 --repeats 9
BENCH ?= --model llava_ov_0_5b --layers 4 --frames 2 4 8 16 --tokens 16 --repeats 3
OLDEST := .venv-oldest
NEWEST := .venv-newest
CORE_TESTS := $(addprefix tests/test_,runtime.py batches.py batch_rules.py conversations.py front_door.py memory_methods.py \
	all_methods.py metrics.py profile.py controls.py sharpv_formulas.py visual_a.py visual_b.py visual_tower.py)

FAST_TESTS := $(addprefix tests/test_,sharpv_formulas.py visual_a.py visual_b.py runtime.py front_door.py memory_methods.py scoring.py \
	controls.py columns.py by_name.py availability.py code_hash.py summary.py validation.py paths.py fingerprint.py batch_rules.py \
	frames.py reports_markup.py reports_statistics.py reports_table1_2.py unpack.py judge.py visual_tower.py front.py)

# Many containers set it; every command would then compile torch and transformers anew, which doubles its start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup field-table table1 table2 table3 table4 fig5 figures categories audit readings test test-fast lint format footage bench bench-pruners bench-page bench-frames page-picture test-oldest test-newest train-tiny docs lock clean report demo new-method rehearsal gpu-check

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11), f"Python 3.11 is what the lock file is for, found {sys.version}: make PYTHON=/path/to/python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

setup: $(VENV)/installed ## make .venv with exactly the tested versions

table3: setup ## Table 3: paper profile where GPU, weights and data are there, else tiny (PROFILE=tiny|paper overrides; ARGS="limit=5" and the like go to run.py)
	@$(TABLE)

table1: setup ## Table 1: the paper's marks of each method beside what runs of it show (PROFILE as above)
	@$(TABLE)

table2: setup ## Table 2: what the models are and what they cost unpruned (PROFILE as above)
	@$(TABLE)

table4: setup ## Table 4: Visual SharpV against random choices, per sub-task (PROFILE as above)
	@$(TABLE)

fig5: setup ## Figure 5: SharpV over its settings M, w and K (PROFILE as above); writes results/fig5.*
	@$(TABLE)

field-table: setup ## every method at the same budgets, as papers of 2026 print it (PROFILE as above); HIGHLIGHT=NAME in its picture; writes results/field_table.*
	@profile=$$($(RUN) -m sharpv.configuration.profile $(PROFILE) field_table) && \
		if [ $$profile = tiny ]; then run="$(VENV)/bin/torchrun --standalone --nproc-per-node 2 run.py threads=1"; else run="$(RUN) run.py"; fi && \
		$$run experiment=field_table profile=$$profile $(ARGS)
	@$(if $(ARGS),:,$(RUN) -m sharpv.reports figures --experiment field_table) $(if $(HIGHLIGHT),--highlight "$(HIGHLIGHT)")

figures: setup ## all figures of Table 3 (EXPERIMENT=NAME for another that was run); writes results/figures/
	@$(RUN) -m sharpv.reports figures --experiment $(EXPERIMENT)

categories: setup ## accuracy by sub-task of Table 3 (EXPERIMENT=NAME for another that was run); writes results/last_categories.*
	@$(RUN) -m sharpv.reports categories --experiment $(EXPERIMENT)

report: setup ## one HTML page of Table 3 (EXPERIMENT=NAME for another that was run; VIDEOS=FOLDER); writes results/report.html
	@$(RUN) -m sharpv.reports.page.build --experiment $(EXPERIMENT) $(RUNS) $(if $(VIDEOS),--videos $(VIDEOS))

page-picture: setup ## screenshot of results/report.html, its table and a sample; needs Chromium; writes results/figures/page.png
	@$(RUN) scripts/page_picture.py $(ARGS)

demo: setup ## one question with and without pruning: VIDEO=path QUESTION="..." (default: a tiny video); writes results/demo/
	@test -n "$(VIDEO)" || $(RUN) -c "from sharpv.paths import tasks_dir; from sharpv.tiny.benchmarks import write_benchmarks as w; w(tasks_dir() / 'tiny' / 'data')"
	@$(RUN) run.py demo video="$(or $(VIDEO),tasks/tiny/data/videos/100003.mp4)" question="$(or $(QUESTION),Where does the moving object go?)"

new-method: setup ## start a method: NAME=my_method writes its file, its configurations and its test line
	@$(RUN) scripts/new_method.py $(NAME)

rehearsal: setup ## Table 3's real command on made checkpoints and data: what a new machine meets (ARGS="rehearse.questions=2"); writes results/rehearsal/
	@$(RUN) run.py rehearse experiment=table3 profile=paper $(ARGS)

gpu-check: setup ## what only a GPU can show, one report in 20 minutes (ARGS="--device cpu --small" without one); writes results/gpu/
	@$(RUN) scripts/gpu_check.py $(ARGS)

audit: setup ## where the paper's tables contradict themselves; writes docs/paper_audit.md
	@$(RUN) -m sharpv.reports audit

readings: setup ## SharpV's alternative readings of the paper side by side, on the tiny model
	@$(RUN) run.py experiment=readings profile=tiny $(ARGS)

footage: setup ## dense and SharpV on three real clips; writes results/footage/
	@$(RUN) scripts/footage.py

bench: setup ## TTFT, TPOT, memory, FLOPs of every pruner, tiny and 0.5B shape (BENCH=... for another); writes results/bench/
	@$(RUN) scripts/profile.py $(BENCH_TINY)
	@$(RUN) scripts/profile.py $(BENCH)

bench-pruners: setup ## time of each stage against one LLM layer's prefill (SMALL=--small on a CPU); writes results/bench/
	@$(RUN) scripts/bench_pruners.py $(SMALL)

bench-page: setup ## seconds to open, filter and search pages of 5,000 and 460,000 answers; needs Chromium; writes results/bench/
	@$(RUN) scripts/bench_page.py $(ARGS)

bench-frames: setup ## frames by seeking against decoding from the start, videos of 1 to 60 minutes (made once); writes results/bench/
	@$(RUN) scripts/bench_frames.py $(ARGS)

test: setup ## style, types and all tests
	$(MAKE) --no-print-directory lint
	$(RUN) -m pytest

test-fast: setup ## the tests of the inner loop: files that run in seconds, without their slow tests
	$(RUN) -m pytest -m "not slow" $(FAST_TESTS)

$(OLDEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	echo '*' > $(OLDEST)/.gitignore
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.11.*" torchvision "transformers==5.18.*" --editable . pytest pytest-xdist hypothesis matplotlib "setuptools>=77"
	touch $@

test-oldest: $(OLDEST)/installed ## tests of the core on torch 2.11 with transformers 5.18, in an environment of their own
	$(OLDEST)/bin/python -m pytest $(CORE_TESTS)

$(NEWEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(NEWEST)
	echo '*' > $(NEWEST)/.gitignore
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --editable . torchvision pytest pytest-xdist hypothesis matplotlib "setuptools>=77"
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --no-deps transformers
	touch $@

test-newest: $(NEWEST)/installed ## tests of the core on the newest torch and transformers that there are, beyond pyproject's bound too
	$(NEWEST)/bin/python -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
	$(NEWEST)/bin/python -m pytest $(CORE_TESTS)

lint: setup ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: setup ## these documents and the reference as a site that needs no network; writes build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

train-tiny: setup ## train the bundled model anew (hours on 2 cores; resumes)
	$(RUN) scripts/train_tiny.py

lock: ## resolve requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --extra suite --extra dev --extra docs --extra footage --generate-hashes --no-emit-index-url --python-version 3.11 --no-header -o requirements.lock

clean: ## remove the environment and the made data, keep results
	rm -rf $(VENV) tasks/tiny/data .pytest_cache .mypy_cache .ruff_cache
