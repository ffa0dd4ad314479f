package daemon

import (
	"context"

	"github.com/akvfs/akvfs/fs/vigil"
)

// ProcessorStatus tells whether processors are kept from sleeping deeply, which
// they are while requests follow each other closely.
type ProcessorStatus struct {
	Awake   bool    `json:"awake"`         // at the moment
	Seconds float64 `json:"seconds_awake"` // since the mount
	Reason  string  `json:"reason"`        // why they never are; "" if they may be
}

// beginVigil is ready to keep processors awake. Where that cannot be, the mount
// is slower and otherwise the same.
func (d *Daemon) beginVigil(context.Context) error {
	if d.cfg.MaySleep {
		d.noVigil = "not wanted (awake=off)"
		return nil
	}
	v, err := vigil.Open()
	if err != nil {
		d.noVigil = err.Error()
		d.log.Debug("processors are not kept awake", "error", err)
		return nil
	}
	d.vigil = v
	return nil
}

func (d *Daemon) processors() *ProcessorStatus {
	s := d.vigil.Stats()
	p := &ProcessorStatus{Awake: s.Awake, Seconds: s.Total.Seconds(), Reason: d.noVigil}
	if s.Err != nil {
		p.Reason = s.Err.Error()
	}
	return p
}
