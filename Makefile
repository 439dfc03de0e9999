# Everything starts with `make setup`, which the others call; it does nothing when nothing changed.
.PHONY: demo setup check lint test soak bench lock clean

demo: setup
	.venv/bin/haplane demo

setup:
	@tools/setup

check: lint
	.venv/bin/pytest -q -n 4 -m "not lab and not soak and not wire"

lint: setup
	.venv/bin/ruff format --check --quiet src tests bench
	.venv/bin/ruff check --quiet src tests bench
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/deptry src

test: setup
	.venv/bin/pytest -n 4 -m "not lab and not soak"
	.venv/bin/pytest -m "lab and not soak"

soak: setup
	.venv/bin/pytest -m soak

bench: setup
	.venv/bin/python bench/bench.py

# Only here do versions change.
lock:
	uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --group dev --extra pictures pyproject.toml -o requirements/dev.txt
	uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml -o requirements/run.txt
	echo ansible-core | uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 - -o requirements/bench.txt

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
