package daemon

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/keymgr"
)

// keys are a volume's open keys, and what is known of the vaults behind them.
type keys struct {
	providers *providers
	watch     *watch

	mu     sync.RWMutex
	master *keymgr.MasterKeys // destroyed while the volume is locked
}

// openKeys opens a volume's keyring through the configured providers, within
// the configured time, if it is not older than one that was seen.
func openKeys(ctx context.Context, cfg Config, id uuid.UUID, st keymgr.Storage, seen *seen) (*keys, error) {
	keyring, err := keymgr.LoadKeyring(st)
	if err != nil {
		return nil, err
	}
	k := &keys{watch: newWatch(cfg.Now), providers: openProviders(cfg, keyring)}
	if k.master, err = k.unwrap(ctx, cfg, id, st); err != nil {
		return nil, err
	}
	// What it says of itself counts only now that it is authentic.
	if err := seen.keyring(k.keyring().Generation()); err != nil {
		k.destroy()
		return nil, err
	}
	return k, nil
}

// unwrap opens the keyring as it is stored now, which must not be older than
// the one before. What each key says is noted.
func (k *keys) unwrap(ctx context.Context, cfg Config, id uuid.UUID, st keymgr.Storage) (*keymgr.MasterKeys, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.KeyTimeout)
	defer cancel()
	return keymgr.OpenKeyring(ctx, st, id, func(keyID string) (keymgr.Provider, error) {
		provider, err := k.providers.get(keyID)
		if err != nil {
			return nil, err
		}
		return &watched{provider, k.watch}, nil
	}, keymgr.WithClock(cfg.Now), keymgr.MinGeneration(k.generation()))
}

// generation is that of the keyring in use, 0 before there was one.
func (k *keys) generation() uint64 {
	if master := k.current(); master != nil {
		return master.Keyring().Generation()
	}
	return 0
}

func (k *keys) keyring() *keymgr.Keyring { return k.current().Keyring() }

// current are the master keys in use, or those destroyed last.
func (k *keys) current() *keymgr.MasterKeys {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.master
}

// replace puts new master keys in the place of destroyed ones.
func (k *keys) replace(master *keymgr.MasterKeys) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.master = master
}

func (k *keys) destroy() { k.current().Destroy() }
