# Everything here sets itself up: a .venv from the pinned requirements.lock, nothing else to type.
PYTHON ?= python3
RUN := .venv/bin/python
READY := .venv/.ready

.PHONY: venv quickstart report-demo test test-slow test-flower test-extras test-learned-optimization bench bench-frameworks results results-real claims lint lock

venv: $(READY)

$(READY): requirements.lock setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, got " + sys.version)'
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(RUN) -m learned_aggregation.kernels
	touch $@

quickstart: venv
	$(RUN) src/main.py --config config/meta_train/quickstart.py --auto_resume
	$(RUN) src/main.py --config config/meta_test/quickstart.py
	$(RUN) src/main.py --config config/meta_test/pretrained_conv.py

report-demo: venv
	$(RUN) src/main.py --config config/meta_test/report_demo.py

test: venv lint
	$(RUN) -m pytest -n 2 --dist loadfile

test-slow: venv
	$(RUN) -m pytest -m slow

# The tests that need TensorFlow (lm1b through seqio), Hugging Face's datasets, equinox, pandas or PyAV, in an environment of its own.
test-extras: .venv-extras/.ready
	.venv-extras/bin/python -m pytest -m extras tests/test_text.py tests/test_data_sources.py tests/test_adapters.py tests/test_api.py tests/test_video_files.py

.venv-extras/.ready: requirements-extras.txt requirements.lock setup.py
	$(PYTHON) -m venv .venv-extras
	.venv-extras/bin/pip install --quiet --disable-pip-version-check -r requirements.lock -r requirements-extras.txt
	.venv-extras/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The released learned_optimization, without its pins of 2021, in an environment of its own.
test-learned-optimization: .venv-learned-optimization/.ready
	.venv-learned-optimization/bin/python -m pytest -m extras tests/test_learned_optimization.py

.venv-learned-optimization/.ready: requirements-learned-optimization.txt requirements.lock
	$(PYTHON) -m venv .venv-learned-optimization
	.venv-learned-optimization/bin/pip install --quiet --disable-pip-version-check -r requirements-learned-optimization.txt
	.venv-learned-optimization/bin/pip install --quiet --disable-pip-version-check --no-deps learned-optimization==0.0.1 --editable .
	touch $@

# Flower's own environment: its pins do not fit ours. A simulation and a deployment on 127.0.0.1 are part of it.
FLOWER := .venv-flower/bin/python

test-flower: .venv-flower/.ready
	FLWR_TELEMETRY_ENABLED=0 $(FLOWER) -m pytest -m '' $(filter-out %_missing.py,$(wildcard tests/test_flower*.py))

.venv-flower/.ready: requirements-flower.lock setup.py
	$(PYTHON) -m venv .venv-flower
	$(FLOWER) -m pip install --quiet --disable-pip-version-check -r requirements-flower.lock
	$(FLOWER) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

bench: venv
	PYTHONPATH=src $(RUN) -m benchmarks.run $(BENCH)

# FedAvg in FedJAX and pfl-research, in an environment of their own (their pins do not fit ours; Python 3.11).
bench-frameworks: .venv-frameworks/.ready
	.venv-frameworks/bin/python -m benchmarks.frameworks

.venv-frameworks/.ready: requirements-frameworks.txt
	$(PYTHON) -m venv .venv-frameworks
	.venv-frameworks/bin/pip install --quiet --disable-pip-version-check -r requirements-frameworks.txt
	touch $@

# docs/results.md: every comparison of config/results/ that is not in runs/results yet, then the page.
results: venv
	PYTHONPATH=src $(RUN) -m benchmarks.results

# docs/results_real.md: likewise of config/results_real/, about twelve hours of two cores. DATA is the folder with the data:
# tfds/ (fashion_mnist and cifar10, as `tfds build` makes them), tinyshakespeare.txt, fsdd.npz.
DATA ?= data
results-real: venv
	PYTHONPATH=src $(RUN) -m benchmarks.results_real --data "$(DATA)"

# docs/claims/CLAIM.md: what was asked, its figures, met or not; runs what is missing. AGAIN=key measures a line anew.
claims: venv
	PYTHONPATH=src:tests $(RUN) -m benchmarks.claims.run "$(CLAIM)" --again "$(AGAIN)"

lint: venv
	$(RUN) -m ruff format --check src tests benchmarks examples
	$(RUN) -m ruff check src tests benchmarks examples
	$(RUN) -m basedpyright

# Pins what requirements.in and requirements-flower.in ask for; needs uv.
lock:
	uv pip compile --no-header --python-version 3.11 requirements.in -o requirements.lock
	uv pip compile --no-header --python-version 3.11 requirements-flower.in -o requirements-flower.lock
