package store

import "time"

// The model of durability is the one that ext4 and XFS share, taken at its
// most adverse:
//
//   - Changes of metadata form one ordered log: names, links, attributes,
//     truncation, allocation. A sync commits the log up to the last change
//     that touches what is synced (for Datasync: that changes its size, its
//     space, or made it), and with it all that came before.
//   - At a power cut, a random prefix of the uncommitted log survives.
//   - Data is not in the log. Each write leaves, for each 512-byte sector, a
//     version that may or may not reach the medium, in any order, until a
//     sync of the file or O_DSYNC makes it do so.
//   - A size that a write grew is not in the log either: it may survive
//     without the data, which then reads as zeros, and the reverse.
//   - What was freed (truncated, punched) never comes back once the change
//     that freed it survives; and a write into space allocated after that
//     change survives only if the change does.

// sector is what a device writes whole or not at all, in bytes.
const sector = 512

// change is one record of the metadata log.
type change struct {
	apply func(*image)
	// any are the inodes whose Sync commits the change, data those whose
	// Datasync does.
	any, data []uint64
	// frees is what the change takes from a file's content, if anything.
	frees *freed
	// drops is the inode that the change ends, if any.
	drops uint64
}

// freed says that a change drops a file's bytes in [from, to), of which only
// whole pages are given back, and whether it sets the size to something.
type freed struct {
	ino      uint64
	from, to int64
	sizes    bool
	// tail is the sector that from lies within, as it was after the change;
	// nil if from is where a sector begins. File systems write it before they
	// commit, lest old bytes come back when the file grows.
	tail *write
}

// write is data that is not durable.
type write struct {
	lsn  int64  // how many changes the log had seen
	off  int64  // of the first sector
	data []byte // whole sectors, as the file was after the write
	dead []bool // by sector: superseded or freed; nil while none is
	end  int64  // the size that the write grew the file to, or 0
	lost bool   // a sync failed: no later one makes it durable
}

// sectors calls f for each sector that is not dead.
func (w *write) sectors(f func(off int64, b []byte)) {
	for i := 0; i < len(w.data)/sector; i++ {
		if w.dead == nil || !w.dead[i] {
			f(w.off+int64(i)*sector, w.data[i*sector:(i+1)*sector])
		}
	}
}

// kill makes the sectors dead that lie wholly in [from, to).
func (w *write) kill(from, to int64) {
	for i := range len(w.data) / sector {
		if off := w.off + int64(i)*sector; off >= from && off+sector <= to {
			if w.dead == nil {
				w.dead = make([]bool, len(w.data)/sector)
			}
			w.dead[i] = true
		}
	}
}

// state is all that a Mem stores.
type state struct {
	live    *image // what calls see
	durable *image // what is certain to survive

	log  []change // what makes live of durable, but for data
	base int64    // the number of changes committed
	// last is, by inode, how many changes must be committed to sync it.
	last    map[uint64]lastChange
	pending map[uint64][]*write // by inode, in order
	held    int64               // bytes in pending

	nextIno  uint64
	opens    map[uint64]int  // by inode, of the live image
	nameless map[uint64]bool // made by O_TMPFILE and still to be linked
	locked   map[uint64]bool
	used     int64 // pages of the live image
	time     time.Time
	Options
	readOnly bool
}

type lastChange struct{ any, data int64 }

func newState(live, durable *image, opts Options) *state {
	return &state{
		live: live, durable: durable, Options: opts,
		last: map[uint64]lastChange{}, pending: map[uint64][]*write{},
		opens: map[uint64]int{}, nameless: map[uint64]bool{}, locked: map[uint64]bool{},
	}
}

// lsn is the number of changes made so far.
func (s *state) lsn() int64 { return s.base + int64(len(s.log)) }

// do makes a change to the live image and logs it.
func (s *state) do(c change) {
	c.apply(s.live)
	s.log = append(s.log, c)
	for _, ino := range c.any {
		l := s.last[ino]
		l.any = s.lsn()
		s.last[ino] = l
	}
	for _, ino := range c.data {
		s.last[ino] = lastChange{s.lsn(), s.lsn()}
	}
}

// commit makes the changes before lsn durable.
func (s *state) commit(lsn int64) {
	for s.base < lsn {
		c := s.log[0]
		s.log[0] = change{}
		s.log = s.log[1:]
		c.apply(s.durable)
		if c.frees != nil {
			s.forget(c.frees)
		}
		if c.drops != 0 {
			s.unhold(c.drops)
		}
		s.base++
	}
}

// forget takes what a committed change freed out of the writes before it.
func (s *state) forget(f *freed) {
	var before []*write
	for _, w := range s.pending[f.ino] {
		if w.lsn > s.base {
			break
		}
		w.kill(f.from, f.to)
		if f.sizes {
			w.end = min(w.end, f.from)
		}
		before = append(before, w)
	}
	if f.tail != nil {
		s.put(f.ino, f.tail, before)
	}
}

// put makes a write durable, and older versions of its sectors void.
func (s *state) put(ino uint64, w *write, older []*write) {
	s.durable.update(ino, func(n *inode) {
		w.sectors(func(off int64, b []byte) { n.content.write(b, off) })
	})
	for _, o := range older {
		o.kill(w.off, w.off+int64(len(w.data)))
	}
}

// sync makes a file durable.
func (s *state) sync(ino uint64, dataOnly bool) {
	if dataOnly {
		s.commit(s.last[ino].data)
	} else {
		s.commit(s.last[ino].any)
	}
	var lost []*write
	for _, w := range s.pending[ino] {
		if w.lost {
			lost = append(lost, w)
			continue
		}
		s.put(ino, w, lost)
		s.held -= int64(len(w.data))
	}
	s.setPending(ino, lost)
	live := s.live.inodes[ino]
	s.durable.update(ino, func(n *inode) {
		n.content.size = live.content.size
		if !dataOnly {
			n.mtime, n.ctime = live.mtime, live.ctime
		}
	})
}

func (s *state) setPending(ino uint64, ws []*write) {
	if len(ws) == 0 {
		delete(s.pending, ino)
		return
	}
	s.pending[ino] = ws
}

// lose is what a failed sync does: the data counts as clean, and no later
// sync writes it.
func (s *state) lose(ino uint64) {
	for _, w := range s.pending[ino] {
		w.lost = true
	}
}

// dirty tells whether anything of an inode is not durable.
func (s *state) dirty(ino uint64) bool {
	return len(s.pending[ino]) > 0 || s.last[ino].any > s.base
}

// record takes note of n bytes just written at off to the live image. A
// durable write is durable at once; the others wait.
func (s *state) record(n *inode, off, length, end int64, durable bool) {
	w := s.sectorsOf(n, off, length)
	w.end = end
	if !durable {
		s.pending[n.ino] = append(s.pending[n.ino], w)
		s.held += int64(len(w.data))
		return
	}
	s.commit(s.last[n.ino].data)
	s.put(n.ino, w, s.pending[n.ino])
	s.durable.update(n.ino, func(d *inode) { d.content.size = max(d.content.size, min(off+length, n.content.size)) })
}

// sectorsOf copies the sectors that [off, off+length) lies in.
func (s *state) sectorsOf(n *inode, off, length int64) *write {
	from := off / sector * sector
	w := &write{lsn: s.lsn(), off: from, data: make([]byte, (off+length+sector-1)/sector*sector-from)}
	n.content.read(w.data, from)
	return w
}

const (
	// heldLimit and logLimit are how much is kept back at most, bytes of data
	// and changes; beyond, all of it is written, as a kernel does.
	heldLimit = 256 << 20
	logLimit  = 1 << 18
)

// writeBack makes everything durable if too much waits.
func (s *state) writeBack() {
	if (s.held > heldLimit || len(s.log) > logLimit) && !s.readOnly {
		s.syncAll()
	}
}

func (s *state) syncAll() {
	s.commit(s.lsn())
	for ino := range s.pending {
		if s.live.inodes[ino] != nil {
			s.sync(ino, false)
		}
	}
}

// drop forgets an inode that nothing leads to and nobody has open.
func (s *state) drop(ino uint64) {
	n := s.live.inodes[ino]
	if n == nil || !n.gone() || s.opens[ino] > 0 {
		return
	}
	s.used -= n.content.blocks()
	delete(s.nameless, ino)
	s.do(change{drops: ino, apply: func(img *image) { delete(img.inodes, ino) }})
}

// unhold forgets the writes to an inode that is no more.
func (s *state) unhold(ino uint64) {
	for _, w := range s.pending[ino] {
		s.held -= int64(len(w.data))
	}
	delete(s.pending, ino)
	delete(s.last, ino)
}

// now is the time, later than any told before.
func (s *state) now() time.Time {
	t := time.Unix(0, s.Clock().UnixNano())
	if !t.After(s.time) {
		t = s.time.Add(1)
	}
	s.time = t
	return t
}
