# The two commands that matter: make demo, make test.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X tidemark/internal/cli.version=$(VERSION)
export CGO_ENABLED ?= 0

.PHONY: build demo test test-fast test-standby test-kube kube vet lint fuzz bench bench-registry rehearse bench-control bench-control-quick test-bench-modules screenshots generate setup clean

build: ## bin/tidemark and bin/registry: static, without cgo
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/tidemark ./cmd/registry

demo: build ## a real fleet follows a real tide, in under three minutes
	bin/tidemark demo

test: vet lint kube ## all that must hold: race detector, real servers, short fuzzing
	CGO_ENABLED=1 $(GO) test -race -run '^$$' ./... >/dev/null # build all test programs first, on all cores ...
	CGO_ENABLED=1 $(GO) test -race -timeout 30m -p 2 $$($(GO) list ./... | grep -v '/test$$') # ... then two suites at a time, as many of them mostly wait ...
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./test         # ... and the end-to-end suite has the machine to itself
	scripts/fuzz 3s

kube: ## the control plane that tests run: built once for each version of Kubernetes
	scripts/kube

test-kube: kube ## what touches Kubernetes, on a real control plane, at length
	$(GO) test -count=1 ./internal/kubeapi ./internal/observe/kubernetes
	$(GO) test -count=1 -timeout 30m ./internal/act/kubernetes -rounds 100
	$(GO) test -count=1 -run Kubernetes ./test -lead-changes 50

test-fast: ## the quick part, in under a minute
	$(GO) vet ./...
	$(GO) test -short ./...

test-standby: ## the leader of three daemons killed 50 times at random: ten minutes (docs/standby.md)
	$(GO) test -v -timeout 30m ./test -run TestLeaderKilledAtRandom -leader-kills 50

vet:
	$(GO) vet ./...

lint: bin/golangci-lint
	bin/golangci-lint run ./...

bin/golangci-lint: tools/go.mod
	cd tools && $(GO) build -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

fuzz: ## longer fuzzing of each parser
	scripts/fuzz 60s

bench: ## the figures of docs/figures.md that are benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-registry: ## what must hold of the registry, on the real stack (Debian; see bench/README.md)
	bench/registry/run

rehearse: ## a go-live rehearsed at full length on the registry's real stack: 2 h a scenario (Debian; see bench/README.md)
	bench/rehearsal/run --scenario peak-farmer-registration-drive
	bench/rehearsal/run --scenario concurrent-mobile-sync

test-bench-modules: ## vet and short tests of the peers and the generator, which are modules of their own
	cd bench/peers && $(GO) vet ./... && $(GO) test -short ./...
	cd bench/generator && $(GO) vet ./... && $(GO) test -short ./...

screenshots: ## the README's pictures, of the demo (Debian's chromium)
	TIDEMARK_SCREENSHOTS=$(CURDIR)/docs $(GO) test -count=1 -run '^TestScreenshots$$' ./test

generate: ## refresh generated files
	$(GO) generate ./...

setup: ## install what the real-server tests need (Debian)
	scripts/setup

clean:
	rm -rf bin

bench-control: ## how well fleets are kept, ours and others', on traces of real load: hours (docs/control.md)
	$(GO) run ./bench/control -out bench/results

bench-control-quick: ## the same on two days of each trace, small fleets, one run each: minutes
	$(GO) run ./bench/control -seeds 1 -days 2 -workers 4,16 -boot 60 -out bench/results
