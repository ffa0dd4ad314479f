package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/meter"
	"github.com/akvfs/akvfs/fs/store"
)

// Config is what a journal needs to know of its volume.
type Config struct {
	Volume [16]byte
	// Cipher is under the volume's journal key. The journal does not destroy it.
	Cipher *crypto.BlockCipher
	Nonces *crypto.NonceSource
}

// Ticket stands for a submitted record. Tickets are numbered in the order of
// submission; 0 is durable at all times.
type Ticket uint64

// ErrClosed is what a journal answers once it is closed.
var ErrClosed = errors.New("journal is closed")

// frameInfo is a frame that recovery would still need.
type frameInfo struct {
	number uint64
	length int
	last   Ticket // the newest ticket in it or before it
}

type queued struct {
	record  *Record
	reserve int
	ticket  Ticket
}

// Journal is an open journal. All methods are safe for concurrent use.
type Journal struct {
	cfg     Config
	seg     *segments
	opening opening
	buf     []byte // one frame, aligned for direct I/O; the writer's
	writes  meter.Histogram

	mu      sync.Mutex // guards everything below
	room    sync.Cond  // room was freed, there will be none, or the journal failed
	waiting []*waiter  // for a frame that somebody else writes; see turn.go
	turns   int        // waiters that were woken to write, and have not looked yet
	pledged []promise  // to those who went on; see promise.go
	writing bool       // one caller is writing a frame, outside mu
	queue   []queued
	last    Ticket // last submitted
	durable Ticket
	freed   Ticket // no frame with this ticket or an older one is needed
	number  uint64 // of the last frame written
	tail    uint64 // oldest frame still needed
	head    position
	live    []frameInfo // frames from tail to number
	used    int         // bytes of live frames
	reserve int         // bytes promised to records not yet written
	err     error       // sticky: the first failure
	stuck   error       // why no room can be made, for now
	stats   Stats
}

// Stats counts what a journal has done since it was opened.
type Stats struct {
	Frames   uint64 `json:"frames"`
	Records  uint64 `json:"records"`
	Bytes    uint64 `json:"bytes"`
	Used     int    `json:"used"`     // bytes of frames that are still needed
	Capacity int    `json:"capacity"` // bytes
	Direct   bool   `json:"direct"`   // written past the page cache
	Failed   bool   `json:"failed"`   // a write failed: nothing more is taken until the next mount

	Writes meter.Distribution `json:"-"` // how long it took to make a frame durable
}

func newJournal(cfg Config, seg *segments) (*Journal, error) {
	j := &Journal{cfg: cfg, seg: seg}
	j.room.L = &j.mu
	j.buf = store.AlignedBuffer(j.maxFrame())
	_, err := rand.Read(j.opening[:])
	return j, err
}

// maxFrame is the size of the largest frame in bytes. The room that frames
// waste at the ends of segments is less than one such frame each.
func (j *Journal) maxFrame() int { return min(j.seg.size/4/page*page, 2<<20) }

// capacity is how many bytes of frames fit whatever their sizes.
func (j *Journal) capacity() int {
	const spare = 4 * page // for frames without records, which reserve nothing
	return len(j.seg.files)*(j.seg.size-j.maxFrame()) - spare
}

// Size is the size of all segments together, in bytes.
func (j *Journal) Size() int64 { return int64(len(j.seg.files)) * int64(j.seg.size) }

// MaxBlocks is how many blocks a record may carry.
func (j *Journal) MaxBlocks() int {
	const name = 2 // pages that a record's path may take
	return min(256, j.maxFrame()/page*3/4-name-2)
}

// MaxEntries is how many blocks a record may list whose data is at home.
func (j *Journal) MaxEntries() int { return j.maxFrame() / 4 / runEntry }

// runEntry is what such a block takes in a record, in bytes, if blocks come in
// runs of 64 or more.
const runEntry = blockFixed + 2*groupFixed/64 + 2

const longestPath = 4096

// Room is what a record with so many blocks with data may take in the
// journal, in bytes, if no two of them share a group and one group gets holes.
func Room(blocks int) int {
	descr := recordFixed + longestPath + (groupFixed+blockFixed)*(blocks+2) + blockFixed*format.GroupBlocks
	return descriptorBytes(descr) + blocks*page
}

// EntriesRoom is what a record with so many blocks without data may take, in
// bytes.
func EntriesRoom(entries int) int {
	return descriptorBytes(recordFixed + longestPath + 4*groupFixed + entries*runEntry)
}

// TryReserve takes room for a record of n bytes, as Room tells, or reports
// that there is none now.
func (j *Journal) TryReserve(n int) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return false, j.err
	}
	if j.used+j.reserve+n > j.capacity() {
		return false, nil
	}
	j.reserve += n
	return true, nil
}

// WaitRoom returns when a reservation of n bytes may succeed, or with the
// reason why none can: the journal has failed, or NoRoom was called.
func (j *Journal) WaitRoom(n int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.err == nil && j.stuck == nil && j.used+j.reserve+n > j.capacity() {
		j.room.Wait()
	}
	if j.err != nil {
		return j.err
	}
	return j.stuck
}

// NoRoom says that frames cannot be released now, because err keeps what they
// hold from coming home. Who waits for room is told; nil takes it back.
func (j *Journal) NoRoom(err error) {
	j.mu.Lock()
	j.stuck = err
	j.mu.Unlock()
	j.room.Broadcast()
}

// Unreserve gives room back that no record was submitted for.
func (j *Journal) Unreserve(n int) {
	j.mu.Lock()
	j.reserve -= n
	j.mu.Unlock()
	j.room.Broadcast()
}

// Submit hands over a record for which reserved bytes were taken. It does
// not wait. The record and its data belong to the journal until the ticket
// is durable. Records of one file must be submitted in their order.
func (j *Journal) Submit(r *Record, reserved int) Ticket {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := descriptorBytes(r.descriptor()) + r.blocks()*page; n > reserved || n > j.maxFrame() {
		panic(fmt.Sprintf("journal: a record of %d bytes, with %d reserved, in frames of %d", n, reserved, j.maxFrame()))
	}
	j.last++
	j.queue = append(j.queue, queued{r, reserved, j.last})
	return j.last
}

// Wait returns once the ticket's record, and all before it, are durable. It
// writes the frame itself if nobody else is writing.
func (j *Journal) Wait(t Ticket) error {
	j.mu.Lock()
	defer j.leave()
	for t > j.durable {
		if j.err != nil {
			return j.err
		}
		if j.writing {
			j.await(t)
			continue
		}
		j.writeFrame()
	}
	return nil
}

// Durable is the newest ticket that is durable.
func (j *Journal) Durable() Ticket {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable
}

// Last is the newest ticket that was handed out.
func (j *Journal) Last() Ticket {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// Freed is the newest ticket such that neither its frame nor an older one is
// needed any more.
func (j *Journal) Freed() Ticket {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.freed
}

// Position is the number of the last frame written: Release takes it once
// everything in frames up to it is at home and durable there.
func (j *Journal) Position() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.number
}

// Release says that frames up to and including through are no longer needed,
// makes that durable, and frees their room.
func (j *Journal) Release(through uint64) error {
	j.mu.Lock()
	defer j.leave()
	for j.writing && j.err == nil {
		j.await(never)
	}
	if j.err != nil || through < j.tail {
		j.pass()
		return j.err
	}
	j.tail = min(through, j.number) + 1
	j.writeFrame()
	return j.err
}

// Fill is the part of the journal in use, from 0 to 1.
func (j *Journal) Fill() float64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return float64(j.used+j.reserve) / float64(j.capacity())
}

// Stats gives the counters.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Used, s.Capacity, s.Direct = j.used, j.capacity(), j.seg.direct
	s.Failed, s.Writes = j.err != nil && j.err != ErrClosed, j.writes.Read()
	return s
}

// Close refuses further work. Nobody may be waiting; who went on is told.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = ErrClosed
	}
	j.room.Broadcast()
	j.seg.close()
	j.keepPromises()
	return nil
}

// writeFrame writes what is queued, or as much of it as one frame takes, and
// with an empty queue a frame that only moves the tail. Called with mu held
// and writing false; mu is free during the write.
func (j *Journal) writeFrame() {
	batch, length := j.takeBatch()
	h := header{number: j.number + 1, tail: j.tail, opening: j.opening}
	at := j.seg.place(j.head, length)
	j.writing = true
	j.mu.Unlock()

	records := make([]*Record, len(batch))
	for i := range batch {
		records[i] = batch[i].record
	}
	n := encodeFrame(j.buf, h, records, &j.cfg)
	began := meter.Clock()
	_, err := j.seg.files[at.segment].WriteAt(j.buf[:n], int64(at.offset))
	j.writes.Observe(meter.Clock() - began)

	j.mu.Lock()
	j.writing = false
	if err != nil {
		j.err = fmt.Errorf("journal write: %w", err)
	} else {
		j.written(batch, h, at, n)
	}
	j.wakeWaiting()
	j.room.Broadcast()
	j.keepPromises()
}

// takeBatch removes from the queue what fits into one frame and tells the
// frame's length in bytes.
func (j *Journal) takeBatch() ([]queued, int) {
	n, descr, blocks := 0, 0, 0
	for n < len(j.queue) {
		r := j.queue[n].record
		d, b := descr+r.descriptor(), blocks+r.blocks()
		if n > 0 && descriptorBytes(d)+b*page > j.maxFrame() {
			break
		}
		n, descr, blocks = n+1, d, b
	}
	batch := j.queue[:n:n]
	j.queue = j.queue[n:]
	return batch, descriptorBytes(descr) + blocks*page
}

// written takes a durable frame into account. Called with mu held.
func (j *Journal) written(batch []queued, h header, at position, n int) {
	j.number = h.number
	j.head = position{at.segment, at.offset + n}
	j.used += n
	for _, q := range batch {
		j.reserve -= q.reserve
		j.durable = q.ticket
	}
	j.live = append(j.live, frameInfo{h.number, n, j.durable})
	for len(j.live) > 0 && j.live[0].number < h.tail {
		j.freed = j.live[0].last
		j.used -= j.live[0].length
		j.live = j.live[1:]
	}
	j.stats.Frames++
	j.stats.Records += uint64(len(batch))
	j.stats.Bytes += uint64(n)
}
