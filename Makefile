# SPDX-License-Identifier: Apache-2.0

IMAGE     ?= netpold:latest
PLATFORMS ?= linux/$(shell go env GOARCH)
LINT      := .cache/bin/golangci-lint
RELEASE   := .cache/bin/goreleaser .cache/bin/cyclonedx-gomod
# The platforms of a release. Not arm: github.com/google/nftables does not compile where an int has 32 bits.
ALL       := linux/amd64 linux/arm64 linux/ppc64le linux/s390x linux/riscv64
# The other platforms of kubectl-netpold.
WORKSTATIONS := darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
comma     := ,
repository = $(patsubst %:$(call tag,$1),%,$1)
tag        = $(lastword $(subst :, ,$1))
BINARIES  := $(patsubst %,bin/%/netpold,$(if $(filter all,$(PLATFORMS)),$(ALL),$(subst $(comma), ,$(PLATFORMS))))
# Distributions keep nft here, which is not in the path of ordinary users.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: force help build test test-kernel test-cluster test-e2e demo bench microbench fuzz golden lint fmt
.PHONY: test-kernels image push cross release-files snapshot clean

# The other modules that have code.
NESTED := test/chart test/image test/programs/plot

# The packages with goroutines are tested with the race detector, where there is the C compiler that it needs.
CONCURRENT := ./cmd/... ./nft/kernel/... ./nft/nflog/... ./watch/...
RACE       := $(shell command -v $$(go env CC) >/dev/null && echo -race)

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/netpold and bin/kubectl-netpold, static
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -buildvcs=auto -o bin/ ./cmd/netpold ./cmd/kubectl-netpold

test: ## Run the tests; those that use the kernel make their own network namespaces
	@test/setup/setup.sh test
	go test -timeout 20m ./...
	@# Not cached, because the files it reads are outside its module.
	go -C test/chart test -count 1 .
	go -C test/image test .
	go -C test/conformance test -count 1 .
	$(if $(RACE),go test -timeout 20m -race $(CONCURRENT))

test-kernel: ## Run the tests that need the kernel, uncached
	go test -timeout 20m -count 1 ./nft/... ./test/...

test-cluster: ## Run the tests against a real API server; builds it first, which takes minutes
	go test -tags cluster -timeout 40m -count 1 ./test/cluster/...

test-e2e: ## Install NETPOLD_IMAGE in the cluster of $KUBECONFIG, test it there and remove it; see test/e2e
	go test -tags e2e -timeout 2h -count 1 -v ./test/e2e $(E2E_ARGS)

demo: ## Show netpold at work on this kernel, in its own network namespaces
	@test/setup/setup.sh demo
	@CGO_ENABLED=0 test/setup/build.sh -trimpath -buildvcs=auto -o bin/ ./cmd/netpold ./test/programs/demo
	@bin/demo -netpold bin/netpold

bench: build ## Measure this machine and write docs/benchmarks.md (BENCH=-quick: two minutes, less exact)
	@mkdir -p docs
	go run ./test/programs/bench -out docs/benchmarks.json $(BENCH)
	go -C test/programs/plot run . -in $(CURDIR)/docs/benchmarks.json -out $(CURDIR)/docs

microbench: ## Run the packages' Go benchmarks
	go test -run '^$$' -bench . -benchmem ./...

fuzz: ## Encode 100,000 random clusters, send a million flows through the kernel, fuzz each target (FUZZTIME=30s)
	go test -count 1 -timeout 60m -v -run EncodeRandom ./nft/kernel/message -clusters 100000
	go test -count 1 -timeout 60m -v -run Random ./test/kernel -flows 1000000
	@go list -f '{{.Dir}}' ./... | while read -r dir; do \
	  for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' "$$dir"/*_test.go 2>/dev/null); do \
	    go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),30s) "$$dir" || exit 1; done; done

golden: ## Rewrite the golden files; review the changes
	go test ./nft ./translate ./watch/folder -update

lint: $(LINT) ## Run the linters
	$(LINT) run ./...
	@for m in $(NESTED); do (cd $$m && $(CURDIR)/$(LINT) run -c $(CURDIR)/.golangci.yml ./...) || exit 1; done
	@.ci/columns

fmt: $(LINT) ## Format the code
	$(LINT) fmt ./...

$(LINT): test/tools/go.mod
	go -C test/tools build -o $(CURDIR)/$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

image: $(BINARIES) ## Write bin/netpold.tar, an OCI archive (IMAGE=netpold:latest PLATFORMS=linux/amd64,… or all)
	go -C test/image run . -tag $(IMAGE) -out $(CURDIR)/bin/netpold.tar \
	  $(foreach b,$(BINARIES),$(b:bin/%/netpold=%)=$(CURDIR)/$(b))

push: $(BINARIES) ## Push the image (IMAGE=registry.example/netpold:v1 PLATFORMS=all)
	go -C test/image run . -tag $(IMAGE) -push $(foreach b,$(BINARIES),$(b:bin/%/netpold=%)=$(CURDIR)/$(b))

bin/linux/%/netpold: force
	CGO_ENABLED=0 GOOS=linux GOARCH=$* \
	  go build -trimpath -ldflags '-s -w' -buildvcs=auto -o $@ ./cmd/netpold

test-kernels: ## Run the kernel tests on other kernels, in virtual machines (KERNELS="linux-image-….deb …")
	test/kernels/run.sh $(or $(KERNELS),$(error KERNELS= names no kernel package; see test/kernels/run.sh))

cross: ## Vet the programs and their tests for every platform of a release
	@for p in $(ALL:linux/%=%); do echo $$p; CGO_ENABLED=0 GOOS=linux GOARCH=$$p go vet ./... || exit 1; done
	@for p in $(WORKSTATIONS); do echo $$p; \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go vet ./cmd/kubectl-netpold || exit 1; done

release-files: ## Write to bin/release the chart and the manifests in one file, for the image IMAGE=…
	@rm -rf bin/release bin/manifests && mkdir -p bin/release
	cp -RL manifests bin/manifests
	sed -i 's|^  repository: .*|  repository: $(call repository,$(IMAGE))|; s|^  tag: .*|  tag: $(call tag,$(IMAGE))|' \
	  bin/manifests/chart/values.yaml
	sed -i 's|newName: .*|newName: $(call repository,$(IMAGE))|; s|newTag: .*|newTag: $(call tag,$(IMAGE))|' \
	  bin/manifests/kustomization.yaml
	go -C test/chart tool helm package $(CURDIR)/bin/manifests/chart -d $(CURDIR)/bin/release
	go -C test/chart tool kustomize build $(CURDIR)/bin/manifests >bin/release/netpold.yaml

snapshot: $(RELEASE) ## Build the files of a release in dist, without releasing
	.cache/bin/goreleaser check
	.cache/bin/goreleaser release --clean --snapshot --skip=sign

$(RELEASE): test/release/go.mod
	go -C test/release build -o $(CURDIR)/.cache/bin/ github.com/goreleaser/goreleaser/v2 \
	  github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

clean: ## Remove what was built
	rm -rf bin dist .cache
