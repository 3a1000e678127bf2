PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
USERS ?= 1,2
# Spinning OpenMP threads starve each other on few cores.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: setup demo test check bench bench-ner bench-recall bench-train bench-serve bench-dao chaos up down backfill lock
setup:            ## install everything into .venv; does nothing when it is done
	@$(PYTHON) install.py

demo: setup       ## one person's documents become an answering twin
	@$(BIN)/twin demo

test: setup       ## all tests; they start the engines they need
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		--ignore=tests/embedded --ignore=tests/twin_serving/test_outage.py --ignore=tests/chaos
	@$(BIN)/python -m pytest tests/embedded tests/twin_serving/test_outage.py tests/chaos  # they kill engines, and want no others beside them

check: setup      ## format, lint, types, definitions, house rules; about two minutes
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/dg check defs
	@$(BIN)/python -m pytest tests/rules

bench: setup      ## performance and quality beside baselines
	@$(BIN)/python -m bench

bench-recall: setup  ## what recall finds, how fast, and that users never meet
	@$(BIN)/python -m bench recall locomo prefeval recall_latency

bench-ner: setup  ## named entities: each extractor on four labelled sets; needs no engines
	@$(BIN)/python -m bench.ner

bench-train: setup  ## training beside transformers' Trainer and TRL: speed, memory, and what is learned
	@$(BIN)/python -m bench training

bench-serve: setup  ## tokens a second, first token, memory: beside raw llama.cpp and its server; 20 minutes
	@$(BIN)/python -m bench.serve

bench-dao: setup  ## votes: from ballot and deadline to resolution, a thousand at once, tallies a second; 10 minutes
	@$(BIN)/python -m bench.dao

chaos: setup      ## a hundred kill -9 while five twins are built, asked and vote; then everything must agree; 30 minutes
	@$(BIN)/python -m chaos kills

up: setup         ## engines, Dagster UI, daemon and API, watched
	@$(BIN)/twin up

down:             ## stop them; data stays
	@$(BIN)/twin down

backfill: setup   ## make backfill USERS=1,2
	@$(BIN)/twin backfill $(USERS)

lock: setup       ## rewrite constraints.txt with the newest allowed versions
	@$(PYTHON) install.py --lock
