# Every target makes the environment it needs when it is absent; the work itself is in Python.
PYTHON ?= python3
ENV = $(PYTHON) infra/environment.py
DEV = .venv/dev/bin
NEEDS_BARS = $(if $(MARKET_DATA_DIR),,$(error where are your bars? make $@ MARKET_DATA_DIR=folder))

.PHONY: run test coverage lint train evaluate bench build deploy openapi lock clean

run:            ## the whole platform on this machine
	@$(ENV) run emulator && exec .venv/run/bin/python -m infra.local $(ARGS)

test:           ## every test; says what it skipped and why
	@$(ENV) dev emulator sam && $(DEV)/python -m infra.check test $(ARGS)

coverage:       ## every test, and the lines and branches that none took
	@$(ENV) dev emulator sam && $(DEV)/python -m infra.check coverage

lint:           ## format, style, types, security, template
	@$(ENV) dev sam && $(DEV)/python -m infra.check lint $(ARGS)

train:          ## bundles from real candles: make train MARKET_DATA_DIR=folder [OUT=folder]
	$(NEEDS_BARS)@$(ENV) train && .venv/train/bin/python -m serving.training --data "$(MARKET_DATA_DIR)" --out "$(or $(OUT),.local/bundles)" $(ARGS)

evaluate:       ## bundles judged on the untouched slice: make evaluate MARKET_DATA_DIR=folder [BUNDLES=folder] [OUT=folder]
	$(NEEDS_BARS)@$(ENV) train && .venv/train/bin/python -m serving.evaluation --data "$(MARKET_DATA_DIR)" --bundles "$(or $(BUNDLES),serving/starter)" --out "$(or $(OUT),.local/evaluation)" $(ARGS)

bench:          ## speed as ratios, both sides in one run
	@$(ENV) dev bench && $(DEV)/python -m infra.bench $(ARGS)

build:          ## sam build and the finishing script: prune, strip, compile, check sizes
	@$(ENV) sam && .venv/sam/bin/python -m infra.build $(ARGS)

deploy: build   ## to the account and stage that samconfig.toml and STAGE name
	@$(ENV) run && .venv/run/bin/python -m infra.deploy "$(or $(STAGE),dev)" $(ARGS)

openapi:        ## write functions/docs/openapi.json anew
	@$(ENV) dev && $(DEV)/python -m infra.openapi

lock:           ## resolve every dependency anew (needs the network)
	@$(PYTHON) -m infra.lock

clean:          ## remove environments, builds and local state
	@rm -rf .venv .local .aws-sam build
