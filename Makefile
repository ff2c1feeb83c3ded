# One command for each job; those that need the environment make it first.

.DEFAULT_GOAL := help
.PHONY: help setup demo test hunt test-image check bench lock format docs check-format check-lint check-types check-imports check-workflows check-manifests check-docs
MAKEFLAGS += --no-print-directory

# The Python to make .venv with, such as PYTHON=python3.12; without it, PATH is searched.
PYTHON ?=
RUN := .venv/bin/python

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv from requirements.lock; does nothing when that is done
	@sh tools/set_up.sh "$(PYTHON)"

demo: setup ## land digits day by day, train, compare, serve
	@$(RUN) examples/digits/demo.py

test: setup ## run all tests, several files at once; ARGS="tests/setup -k word" runs some, one after the other
	@$(RUN) -m pytest $(or $(ARGS),-n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder)

test-image: setup ## build the image and run the loop and the server in it (as root; docs/image.md)
	@sh tools/system-packages.sh image
	@$(RUN) -m pytest -s $(ARGS) tests/infra/run_image.py

hunt: setup ## draw what can happen to a project for MINUTES=10, or until something is broken; SEED=1 begins with those draws
	@$(RUN) tools/hunt.py --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

check: setup ## format, lint, types, imports, workflows, manifests and docs; changes nothing
	@$(MAKE) --keep-going check-format check-lint check-types check-imports check-workflows check-manifests check-docs

bench: setup ## measure what a person waits for; ALL=1 runs every benchmark, thoroughly; fails when a target is missed
	@ALL=$(ALL) sh tools/bench.sh $(RUN)

lock: setup ## resolve requirements.in again; UPGRADE=--upgrade takes the newest versions that fit
	@.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet $(UPGRADE) \
		--custom-compile-command "make lock" --override requirements.overrides requirements.in -o requirements.lock

format: setup ## format the code and correct what the linter can
	@$(RUN) -m ruff check --quiet --fix-only .
	@$(RUN) -m ruff format .

check-format:
	@echo "== format" && $(RUN) -m ruff format --check .

check-lint:
	@echo "== lint" && $(RUN) -m ruff check .

check-types:
	@echo "== types" && $(RUN) -m mypy

check-imports:
	@echo "== imports" && .venv/bin/lint-imports --no-logo

check-workflows:
	@echo "== workflows" && .venv/bin/actionlint infra/ci/workflows/*.yml
	@.venv/bin/zizmor --offline --no-progress --quiet --persona=pedantic infra/ci/workflows/*.yml

docs: setup ## write the generated pages of docs/ again
	@$(RUN) docs/generate.py cli settings features schema architecture troubleshooting one-record

check-docs:
	@echo "== docs" && $(RUN) docs/generate.py --check

check-manifests:
	@echo "== manifests" && $(RUN) tools/manifests.py
