# The two commands: make run, make test. Variables: CONFIG (one or more matrices), SET (overrides, dotted.key=value, quoted
# as in a shell), CORES, PROFILE (of Snakemake: profiles/slurm), PYTHON, ARGS (for snakemake or pytest).
CONFIG ?= config/config.yaml
SET ?=
CORES ?= all
PROFILE ?=
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
# CONFIG and SET are words for the shell, quoted as on its command line: CONFIG='"my matrix.yaml"'. The matrix is checked
# before anything runs. SET becomes one more config file; `elastickv overrides` prints its path.
export SET
OVERRIDES := set=$$($(BIN)/elastickv overrides --configfile $(CONFIG) --set="$$SET") &&
MATRIX := --configfile $(CONFIG) $$set
# When make is killed, Snakemake ends too. The process number of make is read here, where make certainly still runs; the
# shell of a recipe may be an orphan already.
TIED := ELASTICKV_DIE_WITH_PARENT=$(shell echo $$PPID) exec
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES) $(if $(PROFILE),--profile $(PROFILE)) $(ARGS) $(MATRIX)

# UTF-8 in every locale, also in one that is not installed.
export PYTHONUTF8 := 1
# Without compiled modules every start of Snakemake would take three times as long.
unexport PYTHONDONTWRITEBYTECODE

ifeq ($(strip $(CONFIG)),)
ifneq ($(filter run remeasure,$(MAKECMDGOALS)),)
$(error CONFIG= names no matrix; name one or more, as in: make run CONFIG=config/smoke.yaml)
endif
endif

# Two processes share the test files, in the order that tests/conftest.py gives: those that take longest first.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

# Prints the verdicts of the last finished run, except after a dry run or an unlock.
SHOW := $(if $(filter -n --dry-run --dryrun --unlock,$(ARGS)),,@$(OVERRIDES) $(BIN)/elastickv show --if-finished $(MATRIX))

.DEFAULT_GOAL := help
.PHONY: help run remeasure test test-slow lint format clean setup setup-dev

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /: /'

run: setup ## build, measure, judge, report; then print the verdicts
	@$(OVERRIDES) ELASTICKV_MAKE=$@ $(TIED) $(SNAKEMAKE)
	$(SHOW)

remeasure: setup ## the same as run, but measure every case again
	@$(OVERRIDES) ELASTICKV_REMEASURE=1 ELASTICKV_MAKE=$@ $(TIED) $(SNAKEMAKE) --forcerun measure ceilings
	$(SHOW)

test: setup-dev lint ## lint and the fast tests (minutes)
	@$(BIN)/python -m pytest $(TWO) $(ARGS)

test-slow: ## the tests that take longer: llama.cpp, SLURM, the notebook, injected faults
	@exec $(PYTHON) workflow/bootstrap.py dev slurm
	@$(BIN)/python -m pytest $(TWO) -m slow -rs $(ARGS)

lint: setup-dev ## ruff, snakefmt, snakemake --lint
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/snakefmt --check Snakefile workflow/rules
	@$(BIN)/python workflow/lint.py

format: setup-dev ## rewrite the sources in the project's style
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format
	@$(BIN)/snakefmt Snakefile workflow/rules

clean: ## delete everything that was built; results stay
	rm -rf build .venv .envs .snakemake .pytest_cache .ruff_cache .hypothesis

setup:
	@exec $(PYTHON) workflow/bootstrap.py $(if $(findstring slurm,$(PROFILE)),slurm)

setup-dev:
	@exec $(PYTHON) workflow/bootstrap.py dev
