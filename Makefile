# akvfs: `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# Keys are erased from the heap too, where Go can do that (see crypto/doc.go).
export GOEXPERIMENT := runtimesecret

PREFIX ?= /usr/local
DESTDIR ?=
FUZZTIME ?= 20s
BENCHFLAGS ?=

# Without a commit, or where git does not trust the directory's owner, Go must
# not ask git either; without a tag the program finds its version by itself.
VERSION := $(shell git describe --tags --dirty 2>/dev/null | sed 's/^v//')
VCS := $(if $(shell git rev-parse --verify --quiet HEAD 2>/dev/null),auto,false)
BUILDFLAGS := -trimpath -buildvcs=$(VCS)
LDFLAGS := $(if $(VERSION),-X main.version=$(VERSION))

# Bounds, so that a hung test ends with a stack dump.
TEST_TIMEOUT := 10m
RACE_TIMEOUT := 15m
INTEGRATION_TIMEOUT ?= 20m

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: require-root ## show it: a database on an encrypted mount, a disabled key, a refusal (needs root)
	scripts/demo

.PHONY: check
check: require-root ## everything: setup, lint, test, race, integration (needs root)
	@scripts/check setup lint test race integration

.PHONY: setup
setup: require-root ## install what tests and demo need, on Debian or Ubuntu (needs root)
	scripts/setup

.PHONY: build
build: ## build the static binary bin/akvfs
	CGO_ENABLED=0 go build $(BUILDFLAGS) -ldflags '$(LDFLAGS)' -o bin/akvfs ./cmd/akvfs

.PHONY: wtload
wtload: ## build bin/wtload, the WiredTiger load of tests, demo and benchmarks
	@$(MAKE) --no-print-directory -C scripts/wtload OUT='$(CURDIR)/bin/wtload'

.PHONY: test
test: require-root ## unit, property and mount tests (needs root)
	go test -timeout $(TEST_TIMEOUT) ./...
	python3 -m unittest discover --start-directory scripts/loads --pattern '*_test.py'

.PHONY: race
race: require-root ## the same with the race detector (needs root)
	CGO_ENABLED=1 go test -race -timeout $(RACE_TIMEOUT) ./...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, shellcheck
	@unformatted="$$(gofmt -l .)"; if [ -n "$$unformatted" ]; then echo "gofmt -w is needed for:"; echo "$$unformatted"; exit 1; fi
	go vet -tags integration ./...
	CGO_ENABLED=1 go vet -race ./...
	go tool staticcheck -tags integration ./...
	shellcheck scripts/setup scripts/check scripts/demo scripts/fuzz .ci/run scripts/package/{build,check,inside,postinst,prerm,postrm}

.PHONY: integration
integration: require-root build wtload ## databases on real mounts over ext4 and XFS (needs root and make setup)
	go test -tags integration -count=1 -timeout $(INTEGRATION_TIMEOUT) ./scripts/integration

.PHONY: soak
soak: require-root build wtload ## all at once on one volume, at random, for SOAK_MINUTES (60); SOAK_RACE=1 with the race detector (needs root)
	$(if $(SOAK_RACE),CGO_ENABLED=1 go build -race $(BUILDFLAGS) -o bin/akvfs-race ./cmd/akvfs)
	AKVFS_SOAK_MINUTES=$(or $(SOAK_MINUTES),60) AKVFS_SOAK_SEED=$(SOAK_SEED) AKVFS_TEST_BINARY=$(if $(SOAK_RACE),'$(CURDIR)/bin/akvfs-race') \
		go test -tags integration -count=1 -v -timeout 0 -run 'TestSoak$$' ./scripts/integration

.PHONY: integration-soak
integration-soak: ## integration, ten times as long: SOAK=N for another factor (needs root)
	@$(MAKE) --no-print-directory integration AKVFS_SOAK=$(or $(SOAK),10) INTEGRATION_TIMEOUT=6h
export AKVFS_SOAK

.PHONY: convert-soak
convert-soak: require-root build wtload ## encrypt and decrypt 2 GiB in place, killed 200 times (needs root)
	AKVFS_CONVERT_FILES=5000 AKVFS_CONVERT_MIB=2048 AKVFS_CONVERT_KILLS=200 \
		go test -tags integration -count=1 -v -timeout 2h -run TestConvertInPlace ./scripts/integration

.PHONY: bench
bench: require-root build wtload ## compare with ext4 and gocryptfs; BENCHFLAGS='-h' tells more (needs root)
	scripts/setup --bench
	go run ./scripts/bench $(BENCHFLAGS)

.PHONY: plots
plots: require-root build ## measure against threads and file sizes, and draw docs/plots (needs root)
	scripts/setup --bench
	go run ./scripts/bench -loads threads,sizes -out build/plots.json -plots docs/plots $(BENCHFLAGS)

.PHONY: growth
growth: require-root build ## measure against 10 to 10^5 files and 1 MiB to 100 GiB, and draw docs/plots (needs root)
	go run ./scripts/bench -fs bare,akvfs -loads files,sparse -rounds 1 -seconds 300 -out build/growth.json -plots docs/plots $(BENCHFLAGS)

.PHONY: differential-soak
differential-soak: require-root ## compare 5 million system calls with ext4 (DIFFERENTIALSTEPS); prints the first seed, for DIFFERENTIALSEED (needs root)
	go test ./fs/fusefs -run TestDifferential -v -timeout 0 -differential.steps $(or $(DIFFERENTIALSTEPS),5000000) -differential.seed $(or $(DIFFERENTIALSEED),$(shell date +%s))

.PHONY: directory-soak
directory-soak: require-root ## a directory of 10^6 entries, through a mount (DIRECTORYENTRIES) (needs root)
	go test ./fs/fusefs -run 'TestDirectory$$' -v -timeout 0 -directory.entries $(or $(DIRECTORYENTRIES),1000000)

.PHONY: crash-soak
crash-soak: ## cut the power at about 10^6 points (CRASHSEEDS=8000); prints the first seed, for CRASHFIRST=N
	go test ./fs/volume -run TestPowerCut -v -timeout 0 -crash.seeds $(or $(CRASHSEEDS),8000) -crash.first $(or $(CRASHFIRST),$(shell date +%s))

.PHONY: kill-soak
kill-soak: require-root build wtload ## kill daemons and cut disks off under load, SOAK times the usual (needs root and make setup)
	AKVFS_SOAK=$(or $(SOAK),10) go test -tags integration -timeout 0 ./scripts/integration -run 'Killed|CutOff|SyncedByOthers'

.PHONY: mutate
mutate: ## break each rule of the write path, and see that a test notices (MUTATEFLAGS=-quick for some)
	go run ./scripts/mutate $(MUTATEFLAGS)

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (20s); FUZZKEEP=N keeps that many inputs of each in testdata
	scripts/fuzz $(FUZZTIME) $(if $(FUZZKEEP),--keep $(FUZZKEEP))

.PHONY: install
install: build ## install akvfs under DESTDIR and PREFIX (/usr/local)
	install -D --mode 0755 bin/akvfs '$(DESTDIR)$(PREFIX)/bin/akvfs'
	install -d '$(DESTDIR)$(PREFIX)/share/man/man1' && bin/akvfs man '$(DESTDIR)$(PREFIX)/share/man/man1' && rm '$(DESTDIR)$(PREFIX)/share/man/man1/mount.akvfs.8'
	install -D --mode 0644 <(bin/akvfs completion bash) '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/akvfs'
	install -D --mode 0644 <(bin/akvfs completion zsh) '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_akvfs'
	install -D --mode 0644 <(bin/akvfs completion fish) '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/akvfs.fish'

.PHONY: package
package: ## build dist/: deb, rpm, SBOM and checksums, the same bytes for the same commit
	scripts/package/build

.PHONY: package-check
package-check: require-root package ## lint the packages, and install, upgrade and remove them in a booted container (needs root)
	scripts/setup --package
	scripts/package/check

.PHONY: clean
clean: ## remove what was built
	rm -rf bin build dist

.PHONY: require-root
require-root:
	@[ "$$(id -u)" -eq 0 ] || { echo "make: this target makes mounts and loop devices and needs root: try sudo env \"PATH=\$$PATH\" make $(MAKECMDGOALS)" >&2; exit 1; }
