package daemon

import (
	"maps"
	"slices"
	"sync"

	"github.com/akvfs/akvfs/keymgr"
)

// providers are those of a volume's keys, opened when they are first needed
// and kept, with their credentials' tokens, until the key is removed. Opening
// one asks no vault anything.
type providers struct {
	cfg Config

	mu   sync.Mutex // guards open; no provider is called with it held
	open map[string]opened
}

// opened is a provider, and the operation that it wraps with.
type opened struct {
	keymgr.Provider
	operation string
}

func newProviders(cfg Config) *providers {
	return &providers{cfg: cfg, open: make(map[string]opened)}
}

// openProviders opens a provider for every key of the active master key. What
// fails is tried again when it is asked for.
func openProviders(cfg Config, keyring *keymgr.Keyring) *providers {
	p := newProviders(cfg)
	for _, w := range keyring.Wraps() {
		if provider, err := p.find(w.AKI, w.Operation); err == nil {
			p.keep(w.AKI, w.Operation, provider)
		}
	}
	return p
}

// get is the provider of a key, whatever it wraps with.
func (p *providers) get(aki string) (keymgr.Provider, error) {
	p.mu.Lock()
	known, ok := p.open[aki]
	p.mu.Unlock()
	if ok {
		return known.Provider, nil
	}
	provider, err := p.find(aki, keymgr.OpWrap)
	if err != nil {
		return nil, err
	}
	p.keep(aki, keymgr.OpWrap, provider)
	return provider, nil
}

// find is the provider of a key that wraps with an operation: the one that is
// kept, or a new one that is not.
func (p *providers) find(aki, operation string) (keymgr.Provider, error) {
	p.mu.Lock()
	known, ok := p.open[aki]
	p.mu.Unlock()
	if ok && known.operation == operation {
		return known.Provider, nil
	}
	return p.cfg.Openers.Open(aki, keymgr.ProviderOptions{
		Operation: operation, Timeout: p.cfg.KeyTimeout, Now: p.cfg.Now, Logger: p.cfg.Logger,
	})
}

// keep keeps a provider for get and find.
func (p *providers) keep(aki, operation string, provider keymgr.Provider) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[aki] = opened{provider, operation}
}

// retain drops every provider but those of a keyring's keys.
func (p *providers) retain(keyring *keymgr.Keyring) {
	p.mu.Lock()
	defer p.mu.Unlock()
	needed := make(map[string]bool)
	for _, mk := range keyring.MasterKeys() {
		for _, w := range mk.Wraps {
			needed[w.AKI] = true
		}
	}
	for aki := range p.open {
		if !needed[aki] {
			delete(p.open, aki)
		}
	}
}

// renew has the providers forget the tokens by which they unwrap, and leave
// their connections.
func (p *providers) renew() {
	p.mu.Lock()
	known := slices.Collect(maps.Values(p.open))
	p.mu.Unlock()
	for _, o := range known {
		if r, ok := o.Provider.(keymgr.Renewer); ok {
			r.Renew()
		}
	}
}
