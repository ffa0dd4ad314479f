package daemon

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/meter"
	"github.com/akvfs/akvfs/fs/metrics"
)

// hookGrace is how long the on-alert command gets at the end for what waits.
const hookGrace = 10 * time.Second

// observed is everything that keeps account of a mounted volume. It is made
// once, before anything can be told, and its parts look after themselves.
type observed struct {
	ops      meter.Operations
	exporter *metrics.Exporter
	log      *audit.Log // nil: no audit log is kept
	board    *alert.Board
	hook     *alert.Hook // nil: there is no command
	calls    callNumbers
	assess   assessor

	scrapes *metrics.Server // nil: nobody can scrape
	unlink  func() error    // takes the scrapes' socket away
}

// observe begins to keep account. From here on the attempt to mount is on
// record.
func (d *Daemon) observe(context.Context) error {
	if err := d.openAccounts(); err != nil {
		return err
	}
	return d.audit(d.mountRecord("mount", audit.ResultBegun, nil))
}

// openAccounts opens the audit log and sets up alerts and metrics.
func (d *Daemon) openAccounts() error {
	o := &observed{}
	path, err := d.auditPath()
	if err != nil {
		return err
	}
	if path != "" {
		if o.log, err = audit.Open(path); err != nil {
			return err
		}
	}
	o.exporter = metrics.New(d.metricsInfo(), &o.ops, d.snapshot)
	sinks := []func(alert.Event){d.logAlert, o.exporter.Alert, func(e alert.Event) { d.audit(e) }}
	if d.cfg.OnAlert != "" {
		o.hook = alert.NewHook(d.cfg.OnAlert, alert.DefaultHookTime, d.log)
		sinks = append(sinks, o.hook.Notify)
	}
	o.board = alert.NewBoard(d.info.ID.String(), d.cfg.Now, sinks...)
	d.observed = o
	return nil
}

func (d *Daemon) metricsInfo() metrics.Info {
	info := metrics.Info{
		Volume: d.info.ID.String(), Cluster: d.info.Cluster, Mountpoint: d.cfg.Mountpoint, Version: d.cfg.Version,
	}
	for _, s := range []State{StateMounted, StateGrace, StateLocked} {
		info.States = append(info.States, string(s))
	}
	for _, s := range []KeyState{KeyUnknown, KeyAvailable, KeyRevoked, KeyCredentials, KeyUnreachable, KeyMismatch, KeyInvalid} {
		info.KeyStates = append(info.KeyStates, string(s))
	}
	return info
}

// serveMetrics answers scrapes where the configuration says. It comes after
// listen, whose socket lends its name.
func (d *Daemon) serveMetrics(context.Context) error {
	address := d.cfg.Metrics
	if err := metrics.CheckAddress(address); err != nil || address == metrics.Off {
		return err
	}
	var l net.Listener
	var err error
	if address == metrics.Unix {
		l, d.observed.unlink, err = d.socket.ListenBeside("metrics")
	} else {
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		return err
	}
	d.observed.scrapes = d.observed.exporter.Serve(l, d.log)
	return nil
}

// snapshot is what a scrape sees.
func (d *Daemon) snapshot() metrics.Snapshot {
	s := d.Status()
	m := metrics.Snapshot{
		State: string(s.State), Mounted: d.started, Stats: *s.Stats, Alerts: s.Alerts,
		Awake:             d.vigil.Stats().Total,
		CredentialExpires: d.observed.assess.credentialExpires(),
	}
	for _, k := range s.AKIs {
		key := metrics.Key{ID: k.KeyID, Version: k.Version, State: string(k.State), Wrapped: k.Created}
		key.Expires = d.observed.assess.described(k.KeyID).Expires
		if k.Checked != nil {
			key.Checked = *k.Checked
		}
		m.Keys = append(m.Keys, key)
	}
	for _, k := range s.MasterKeys {
		m.MasterKeys = append(m.MasterKeys, metrics.MasterKey{ID: k.ID, Active: k.Active, Created: k.Created})
	}
	m.Scrub = metrics.Scrub{Running: s.Scrub.Running, Read: d.scrubs.bytesRead(), Findings: s.Scrub.Findings}
	if s.Scrub.Finished != nil {
		m.Scrub.Finished = *s.Scrub.Finished
	}
	if d.observed.hook != nil {
		m.Hook = d.observed.hook.Stats()
	}
	return m
}

// count is the metrics' part of telling of a key event.
func (o *observed) count(e keyEvent) {
	switch {
	case o == nil:
	case e.Action == "check":
		o.exporter.Check(e.KeyID, string(keyState(e.Err)), e.Took)
	default:
		o.exporter.KeyOperation(e.Action, e.Err == nil)
	}
}

// firing lists the alerts for a status: never nil, which JSON would show as null.
func (o *observed) firing() []alert.Alert {
	if o == nil {
		return []alert.Alert{}
	}
	return o.board.Firing()
}

// stopScrapes hangs up before the control socket goes, and with it the claim
// to the name.
func (o *observed) stopScrapes() error {
	if o == nil || o.scrapes == nil {
		return nil
	}
	err := o.scrapes.Close()
	if o.unlink != nil {
		err = errors.Join(err, o.unlink())
	}
	return err
}

// endAccounts ends the accounts with how the mount went.
func (d *Daemon) endAccounts(action string, err error) {
	if d.observed == nil {
		return
	}
	result := audit.ResultOK
	if err != nil {
		result = audit.ResultFailed
	}
	_ = d.audit(d.mountRecord(action, result, err)) // the alert has told of it
	d.closeAccounts()
}

// closeAccounts gives the on-alert command its time, and closes the audit log.
func (d *Daemon) closeAccounts() {
	if d.observed.hook != nil {
		d.observed.hook.Close(hookGrace)
	}
	if d.observed.log != nil {
		_ = d.observed.log.Close() // every line was written when it was appended
	}
}
