# SPDX-License-Identifier: Apache-2.0

IMAGE      ?= netpold
IMAGE_TOOL ?= docker
LINT       := .cache/bin/golangci-lint
# Where distributions keep nft, which ordinary users do not look into.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help build test test-kernel test-cluster test-e2e demo bench microbench fuzz golden lint fmt image clean

# The packages that have goroutines, and the race detector for them where there is a C compiler, which it needs.
CONCURRENT := ./cmd/... ./nft/kernel/... ./nft/nflog/... ./watch/...
RACE       := $(shell command -v $$(go env CC) >/dev/null && echo -race)

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/netpold, static
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -buildvcs=auto -o bin/ ./cmd/netpold

test: ## Run the tests, those on the kernel in network namespaces of their own
	@test/setup/setup.sh test
	go test -timeout 20m ./...
	@# Not cached: what it reads is outside of its module.
	go -C test/chart test -count 1 .
	$(if $(RACE),go test -timeout 20m -race $(CONCURRENT))

test-kernel: ## Run again what asks the kernel, whatever has changed
	go test -timeout 20m -count 1 ./nft/... ./test/...

test-cluster: ## Run the tests against a real API server; builds it first, which takes minutes
	go test -tags cluster -timeout 40m -count 1 ./test/cluster/...

test-e2e: ## Install NETPOLD_IMAGE in the cluster of $KUBECONFIG, test it there and remove it; test/e2e says more
	go test -tags e2e -timeout 2h -count 1 -v ./test/e2e $(E2E_ARGS)

demo: ## Show netpold at work on this kernel, in namespaces of its own
	@test/setup/setup.sh demo
	@CGO_ENABLED=0 test/setup/build.sh -trimpath -buildvcs=auto -o bin/ ./cmd/netpold ./test/programs/demo
	@bin/demo -netpold bin/netpold

bench: build ## Measure this machine and write docs/benchmarks.md (BENCH=-quick: in two minutes, less exactly)
	@mkdir -p docs
	go run ./test/programs/bench -out docs/benchmarks.json $(BENCH)
	go -C test/programs/plot run . -in $(CURDIR)/docs/benchmarks.json -out $(CURDIR)/docs

microbench: ## Run the benchmarks of the packages
	go test -run '^$$' -bench . -benchmem ./...

fuzz: ## Encode 100,000 random clusters, ask the kernel about a million flows, fuzz each target (FUZZTIME=30s)
	go test -count 1 -timeout 60m -v -run EncodeRandom ./nft/kernel -clusters 100000
	go test -count 1 -timeout 60m -v -run Random ./test/kernel -flows 1000000
	@go list -f '{{.Dir}}' ./... | while read -r dir; do \
	  for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' "$$dir"/*_test.go 2>/dev/null); do \
	    go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),30s) "$$dir" || exit 1; done; done

golden: ## Write the golden files anew; review what changes
	go test ./nft ./translate ./watch/folder -update

lint: $(LINT) ## Run the linters
	$(LINT) run ./...
	@.ci/columns

fmt: $(LINT) ## Format the code
	$(LINT) fmt ./...

$(LINT): test/tools/go.mod
	go -C test/tools build -o $(CURDIR)/$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

image: build ## Build the container image (IMAGE=netpold IMAGE_TOOL=docker, podman or buildah)
	$(IMAGE_TOOL) build -t $(IMAGE) .

clean: ## Remove what was built
	rm -rf bin .cache
