package daemon

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/meter"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

const (
	// assessInterval is how often what is known is looked through.
	assessInterval = 15 * time.Second
	// describeInterval is how often a key is described, for its expiry, and
	// describeSoon the same for one that expires soon or did not answer.
	describeInterval = 24 * time.Hour
	describeSoon     = time.Hour
)

// credentialFile stands for the certificate's file where assessor has key IDs.
const credentialFile = ""

// actionDescribe is a keyEvent's: a vault was asked about a key, not for it.
const actionDescribe = "describe"

// facts are what alerts about time and damage are judged by. Zero times are
// not known.
type facts struct {
	akis       []AKIStatus
	described  map[string]keymgr.KeyInfo // by key ID
	credential time.Time                 // its expiry
	stats      volume.Stats
	failed     bool // the background failed to write since the facts before
}

// assessment is what facts say of one alert.
type assessment struct {
	name   alertName
	firing bool
	detail string
}

// assess judges facts at a time. It knows no other time: a clock that jumps
// changes alerts, until it jumps back, and nothing else.
func assess(cfg Config, now time.Time, f facts) []assessment {
	var old, expiring []string
	for _, k := range f.akis {
		if age := now.Sub(k.Created); cfg.AKIMaxAge > 0 && age > cfg.AKIMaxAge {
			old = append(old, fmt.Sprintf("%s version %s wraps since %s, %s", k.KeyID, k.Version, date(k.Created), days(age)))
		}
		if info, ok := f.described[k.KeyID]; ok && soon(info.Expires, now, cfg.ExpiryWarning) {
			expiring = append(expiring, fmt.Sprintf("%s version %s %s", k.KeyID, info.Version, expiry(info.Expires, now)))
		}
	}
	credential := ""
	if soon(f.credential, now, cfg.ExpiryWarning) && inVault(f.akis) {
		credential = "the client secret or certificate " + expiry(f.credential, now)
	}
	damage, storage := "", ""
	if n := f.stats.IntegrityErrors; n > 0 {
		damage = fmt.Sprintf("%d integrity errors since the mount; the log names the files", n)
	}
	if f.stats.Journal.Failed {
		storage = "the journal cannot be written; mount the volume anew once its disk is well"
	} else if f.failed {
		storage = "committed data cannot be brought home; the log says why"
	}
	judged := make([]assessment, 0, 5)
	for _, a := range []struct {
		name alertName
		text string
	}{
		{alert.KeyNotRotated, strings.Join(old, "; ")},
		{alert.KeyExpiring, strings.Join(expiring, "; ")},
		{alert.CredentialExpiring, credential},
		{alert.Integrity, damage},
		{alert.StorageFailed, storage},
	} {
		judged = append(judged, assessment{a.name, a.text != "", a.text})
	}
	return judged
}

// inVault: only a vault asks for credentials.
func inVault(akis []AKIStatus) bool {
	for _, k := range akis {
		if k.Provider != "file" {
			return true
		}
	}
	return false
}

// soon: no warning time, no warning.
func soon(t, now time.Time, warning time.Duration) bool {
	return !t.IsZero() && warning > 0 && t.Sub(now) < warning
}

func expiry(t, now time.Time) string {
	if left := t.Sub(now); left > 0 {
		return fmt.Sprintf("expires on %s, in %s", date(t), days(left))
	}
	return "has expired on " + date(t)
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// days counts whole days.
func days(d time.Duration) string {
	if n := d / (24 * time.Hour); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "1 day"
}

// assessor keeps what was learnt of keys and credentials at intervals.
type assessor struct {
	mu         sync.Mutex
	infos      map[string]keymgr.KeyInfo // by key ID
	due        map[string]time.Duration  // by key ID: when to describe it next, on the meter's clock
	credential time.Time
	failures   uint64 // volume.Stats.WriteFailures of the assessment before
}

// described is what is known of a key; zero, if nothing is.
func (a *assessor) described(keyID string) keymgr.KeyInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.infos[keyID]
}

func (a *assessor) credentialExpires() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.credential
}

// learn takes in how a key describes itself, and when to ask again. Whoever
// describes keys for other reasons may call it, too, and spares that.
func (a *assessor) learn(info keymgr.KeyInfo, next time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.init()
	a.infos[info.KeyID], a.due[info.KeyID] = info, next
}

// init makes the maps. Called with mu held.
func (a *assessor) init() {
	if a.due == nil {
		a.infos, a.due = make(map[string]keymgr.KeyInfo), make(map[string]time.Duration)
	}
}

// claim tells whether a key is to be described now, and if so puts the next
// time off: it is asked once, whatever it answers.
func (a *assessor) claim(keyID string, up, first, next time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.init()
	due, known := a.due[keyID]
	if !known {
		due = first
		a.due[keyID] = first
	}
	if up < due {
		return false
	}
	a.due[keyID] = next
	return true
}

// assessLoop raises and ends the alerts that only time or counters bring about,
// until ctx ends.
func (d *Daemon) assessLoop(ctx context.Context) {
	interval := min(assessInterval, d.cfg.CheckInterval)
	// Volumes that were mounted together do not all describe their key together.
	first := meter.Clock() + time.Duration((1+rand.Float64())*float64(d.cfg.CheckInterval)/2)
	for {
		d.assessAt(ctx, meter.Clock(), first)
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

// assessAt is one look, at a time of the monotonic clock.
func (d *Daemon) assessAt(ctx context.Context, up, first time.Duration) {
	a := &d.observed.assess
	s := d.Status()
	f := facts{akis: s.AKIs, described: make(map[string]keymgr.KeyInfo), stats: *s.Stats}
	for _, k := range s.AKIs {
		if a.claim(k.KeyID, up, first, up+max(describeSoon, d.cfg.CheckInterval)) {
			d.describe(ctx, k, up)
		}
		f.described[k.KeyID] = a.described(k.KeyID)
	}
	a.mu.Lock()
	f.failed = f.stats.WriteFailures > a.failures
	a.failures = f.stats.WriteFailures
	a.mu.Unlock()
	f.credential = d.credentialExpiry(up)
	for _, j := range assess(d.cfg, d.cfg.Now(), f) {
		d.alert(j.name, j.firing, j.detail)
	}
}

// describe asks a key's vault about it. That it does not answer is the checks'
// to judge.
func (d *Daemon) describe(ctx context.Context, k AKIStatus, up time.Duration) {
	provider, err := d.keys.providers.get(k.AKI)
	if err != nil {
		return
	}
	one, cancel := context.WithTimeout(ctx, d.cfg.KeyTimeout)
	defer cancel()
	began := meter.Clock()
	info, err := provider.Describe(one)
	if ctx.Err() != nil {
		return // the mount ends, and nobody waits for the answer
	}
	d.tell(keyEvent{Action: actionDescribe, KeyID: k.KeyID, Version: info.Version, Err: err, Took: meter.Clock() - began})
	if err != nil {
		return
	}
	info.KeyID = k.KeyID
	next := describeInterval
	if soon(info.Expires, d.cfg.Now(), d.cfg.ExpiryWarning) {
		next = describeSoon
	}
	d.observed.assess.learn(info, up+max(next, d.cfg.CheckInterval))
}

// credentialExpiry is the operator's word, else that of the certificate, which
// is read again from time to time.
func (d *Daemon) credentialExpiry(up time.Duration) time.Time {
	a := &d.observed.assess
	expires := d.cfg.CredentialExpires
	if expires.IsZero() && d.cfg.CertificateExpiry != nil && a.claim(credentialFile, up, 0, up+describeSoon) {
		var err error
		if expires, err = d.cfg.CertificateExpiry(); err != nil {
			d.log.Warn("the certificate's expiry cannot be read", "error", err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !expires.IsZero() { // else it stays as it was known last
		a.credential = expires
	}
	return a.credential
}
