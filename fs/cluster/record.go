package cluster

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/daemon"
)

// auditName is the log of what concerns no volume, or none yet.
const auditName = "host.log"

var calls atomic.Uint64

func (h Host) by() *audit.Who {
	if h.By != nil {
		return audit.Process(h.By.PID, h.By.UID)
	}
	return audit.Process(int32(os.Getpid()), uint32(os.Getuid()))
}

// Recorded does what somebody has commanded, between two lines of the host's
// audit log. What cannot be put on record is not done.
func (h Host) Recorded(action, projectName, clusterName string, do func() error) error {
	return h.Record(audit.Record{Action: action, Project: projectName, Cluster: clusterName}, do)
}

// Record is Recorded, with a line that says more of what it is about.
func (h Host) Record(r audit.Record, do func() error) error {
	if h.StateDir == "" {
		return do()
	}
	log, err := audit.Open(filepath.Join(h.StateDir, "audit", auditName))
	if err != nil {
		return err
	}
	defer log.Close()
	began := time.Now()
	r.Time, r.Type, r.By, r.Call, r.Result = h.now().UTC(), audit.TypeCommand, h.by(), calls.Add(1), audit.ResultBegun
	if err := log.Append(r); err != nil {
		return err
	}
	err = do()
	r.Time, r.Result, r.Millis = h.now().UTC(), audit.ResultOK, float64(time.Since(began).Microseconds())/1000
	if err != nil {
		r.Result, r.Class, r.Error = audit.ResultFailed, daemon.Code(err), err.Error()
	}
	_ = log.Append(r) // it is done already
	return err
}

// Refused puts on record that somebody was refused, and how many refusals before
// it are not.
func (h Host) Refused(by control.Peer, action, projectName, clusterName string, untold int, why error) {
	if h.StateDir == "" {
		return
	}
	log, err := audit.Open(filepath.Join(h.StateDir, "audit", auditName))
	if err != nil {
		return // refused it is, in any case
	}
	defer log.Close()
	_ = log.Append(audit.Record{
		Time: h.now().UTC(), Type: audit.TypeCommand, Action: audit.Printable(action, 64),
		Project: audit.Printable(projectName, 64), Cluster: audit.Printable(clusterName, 64), By: audit.Process(by.PID, by.UID),
		Result: audit.ResultRefused, Class: control.CodeDenied, Error: why.Error(), Untold: untold,
	})
}
