package fuseloop

import (
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// postponed is a request that is answered after its handler.
type postponed struct {
	loop   *Loop
	header fuse.InHeader
	done   atomic.Bool
	out    [answerHeader]byte
}

// Postpone has the FSYNC that a handler was called for, with this channel, be
// answered by calling done, now or later; only the first call counts. What the
// handler returns is then of no importance unless it is an error, which is the
// answer if there has been none. Only the handler may call it, on the goroutine
// that it was called on. It is nil for a request that cannot be postponed.
func (l *Loop) Postpone(cancel <-chan struct{}) (done func(fuse.Status)) {
	found, ok := l.serving.Load(cancel)
	if !ok {
		return nil
	}
	r := found.(*reader)
	if r.header().Opcode != opFsync || r.postponed != nil {
		return nil
	}
	l.work.Add(1)
	l.lookout.open.Add(1)
	r.postponed = &postponed{loop: l, header: *r.header()}
	return r.postponed.answer
}

// Postponed reports whether the request that a handler has just been called
// for, with this channel, is postponed.
func (l *Loop) Postponed(cancel <-chan struct{}) bool {
	found, ok := l.serving.Load(cancel)
	return ok && found.(*reader).postponed != nil
}

func (p *postponed) answer(code fuse.Status) {
	if p.done.Swap(true) {
		return
	}
	defer p.loop.work.Done()
	defer p.loop.lookout.open.Add(-1)
	put(p.out[:], &p.header, code, answerHeader)
	p.loop.send(&p.header, p.out[:])
}
