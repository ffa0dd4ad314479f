package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/highwater"
)

// noteInterval is how often it is recorded how far a mounted volume has come.
// What a daemon that is killed had done since is not missed if it is taken away.
const noteInterval = time.Minute

// actionRollback is the audit log's, for a volume that is older than it was and
// was mounted all the same.
const actionRollback = "accept-rollback"

// seen holds a volume against what this host has seen of it. It is used by one
// goroutine at a time.
type seen struct {
	record *highwater.Record // nil: nothing is kept
	mark   highwater.Mark
	accept bool // an older one is taken
	older  bool // one was
	failed bool // the record could not be written: it was told
	log    *slog.Logger
}

// recall reads the record of a volume. One that cannot be read is told of, and
// refuses nothing.
func recall(cfg Config, id uuid.UUID) *seen {
	s := &seen{accept: cfg.AcceptRollback, log: cfg.Logger}
	if cfg.StateDir == "" {
		return s
	}
	s.record = highwater.At(cfg.StateDir, id, cfg.Backing)
	var err error
	if s.mark, err = s.record.Read(); err != nil {
		s.log.Warn("an older keyring or journal would not be noticed: the record of the newest cannot be read", "error", err)
	}
	return s
}

func (s *seen) admit(err error) error {
	if err == nil || !s.accept {
		return err
	}
	s.older = true
	s.log.Warn("taken all the same, as commanded", "what", err.Error())
	return nil
}

// keyring refuses one that is older than it was.
func (s *seen) keyring(generation uint64) error { return s.admit(s.mark.CheckKeyring(generation)) }

// journal refuses one that is older than it was.
func (s *seen) journal(frame uint64) error { return s.admit(s.mark.CheckJournal(frame)) }

// note records how far a volume has come, which must be durable there.
func (s *seen) note(m highwater.Mark) {
	if s.record == nil {
		return
	}
	write := s.record.Raise
	if s.older {
		write = s.record.Reset
	}
	err := write(m)
	if err == nil {
		s.older = false
	} else if !s.failed {
		s.log.Warn("an older keyring or journal may go unnoticed: the newest cannot be recorded", "error", err)
	}
	s.failed = err != nil
}

func (d *Daemon) recall(context.Context) error {
	d.seen = recall(d.cfg, d.info.ID)
	return nil
}

// noteSeen records how far the volume has come. A volume that is only read
// goes nowhere.
func (d *Daemon) noteSeen() {
	if d.cfg.ReadOnly || d.volume == nil {
		return
	}
	if d.seen.older {
		_ = d.audit(d.mountRecord(actionRollback, audit.ResultOK, nil)) // the alert tells
	}
	d.seen.note(highwater.Mark{Keyring: d.keys.keyring().Generation(), Journal: d.volume.JournalPosition()})
}

// noteLoop does so now and then until ctx ends.
func (d *Daemon) noteLoop(ctx context.Context) {
	for {
		d.noteSeen()
		select {
		case <-ctx.Done():
			return
		case <-time.After(d.cfg.noteInterval):
		}
	}
}

// ForgetSeen forgets what this host has seen of a volume in a backing
// directory, where it was made anew.
func ForgetSeen(stateDir string, id uuid.UUID, backing string) error {
	path, err := canonical(backing)
	if err != nil || stateDir == "" {
		return err
	}
	return highwater.At(stateDir, id, path).Forget()
}
