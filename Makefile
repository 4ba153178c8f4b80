# Two commands on a bare machine with Python 3.11, 3.12 or 3.13 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Threads of OpenMP and OpenBLAS that spin while they wait make a busy machine many times slower.
export GOMP_SPINCOUNT ?= 1000
export OPENBLAS_THREAD_TIMEOUT ?= 4
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: install demo readme test test-slow lint bench bench-headlines bench-encoder bench-speed bench-metrics bench-scoring bench-features bench-night bench-train bench-peers \
	clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,download,dev]"
	touch $@

demo: install
	rm -rf nightrank-demo
	$(BIN)/nightrank demo --to nightrank-demo

# The tables of options between marks such as `<!-- config: ranker -->` in the packages' READMEs, from the descriptions.
readme: install
	$(BIN)/python -m pipelines.cli.readme

# Two processes; each file stays in one, so that what its tests share is made once, and torch has one thread in each.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -n 2 --nbmake --nbmake-timeout=600 notebooks

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb

# Every data set by its protocol, what stands in the results file excepted; BENCH="--data upworthy" for a part.
bench: install
	$(BIN)/python tests/benchmarks/scoreboard.py $(BENCH)

bench-headlines: install
	$(BIN)/python tests/benchmarks/scoreboard.py --data upworthy

bench-encoder: install
	$(BIN)/python tests/benchmarks/scoreboard.py --data amazon-beauty-towers --data citeulike-a
	$(BIN)/python tests/benchmarks/ablations.py online-retail; of_retail=$$?; \
	$(BIN)/python tests/benchmarks/ablations.py simulated && exit $$of_retail

bench-speed: install
	$(BIN)/python tests/benchmarks/encoder_speed.py
	$(BIN)/python tests/benchmarks/fit_speed.py --modes fp32

bench-metrics: install
	$(BIN)/python tests/benchmarks/metrics_speed.py

bench-scoring: install
	$(BIN)/python tests/benchmarks/scoring_speed.py

bench-features: install
	$(BIN)/python tests/benchmarks/feature_speed.py
	$(BIN)/python tests/benchmarks/feature_speed.py --incremental

# NIGHTRANK_BENCH names the folder where the simulated logs are kept; BENCH="--users 10_000 100_000" for a part.
bench-night: install
	$(BIN)/python tests/benchmarks/night_scale.py $(BENCH)

bench-train: install
	$(BIN)/python tests/benchmarks/train_scale.py $(BENCH)

bench-peers: install
	$(BIN)/python tests/benchmarks/peers/run.py beauty
	$(BIN)/python tests/benchmarks/peers/run.py online-retail

clean:
	rm -rf $(VENV) nightrank-demo out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
