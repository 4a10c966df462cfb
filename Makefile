# The two commands: make run, make test. Variables: CONFIG (one or more files), CORES, PYTHON, ARGS (for snakemake, pytest).
CONFIG ?= config/config.yaml
CORES ?= all
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
CONFIGFILES := $(foreach file,$(CONFIG),--configfile $(file))
# A killed make takes its snakemake along: $$PPID of the recipe's shell is this make.
TIED := ELASTICKV_DIE_WITH_PARENT=$$PPID exec

.DEFAULT_GOAL := help
.PHONY: help run remeasure test test-slow lint format clean setup setup-dev

help: ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /: /'

run: setup ## build, measure, judge, report; then print the verdicts
	@$(BIN)/elastickv cases $(CONFIGFILES) > /dev/null
	@$(TIED) $(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG) $(ARGS)
	@$(BIN)/elastickv show $(CONFIGFILES)

remeasure: setup ## as run, but time every case again
	@$(BIN)/elastickv cases $(CONFIGFILES) > /dev/null
	@ELASTICKV_FRESH=1 $(TIED) $(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG) \
		--forcerun measure ceilings $(ARGS)
	@$(BIN)/elastickv show $(CONFIGFILES)

test: setup-dev lint ## lint and the fast tests (minutes)
	@$(TIED) $(BIN)/python -m pytest $(ARGS)

test-slow: setup-dev ## the tests that take longer
	@$(TIED) $(BIN)/python -m pytest -m slow $(ARGS)

lint: setup-dev ## ruff, snakefmt, snakemake --lint
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/snakefmt --check --quiet Snakefile workflow/rules
	@$(BIN)/python workflow/lint.py

format: setup-dev ## rewrite the sources in the project's style
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format
	@$(BIN)/snakefmt Snakefile workflow/rules

clean: ## delete everything that this checkout made but results and reference
	rm -rf build .venv .envs .snakemake .pytest_cache .ruff_cache .hypothesis

setup:
	@$(PYTHON) workflow/bootstrap.py

setup-dev:
	@$(PYTHON) workflow/bootstrap.py dev
