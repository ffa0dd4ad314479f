package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

func testConfig(t testing.TB) Config {
	t.Helper()
	key, err := crypto.KeyFromBytes(bytes.Repeat([]byte{9}, crypto.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := crypto.NewBlockCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	nonces, err := crypto.NewNonceSource()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cipher.Destroy)
	return Config{Volume: [16]byte{1, 2, 3}, Cipher: cipher, Nonces: nonces}
}

func newJournalOn(t testing.TB, st store.FS, cfg Config, size int64) {
	t.Helper()
	if err := Create(st, "journal", size); err != nil {
		t.Fatal(err)
	}
	if err := Initialize(st, "journal", cfg, 0); err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, st store.FS, cfg Config) (*Journal, []Record) {
	t.Helper()
	j, records, err := Open(st, "journal", cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Start(); err != nil {
		t.Fatal(err)
	}
	return j, records
}

// sample makes a record with so many blocks of data, recognisable by n.
func sample(n uint64, blocks int) *Record {
	r := &Record{File: format.FileID{byte(n), byte(n >> 8)}, Path: fmt.Sprintf("dir/file-%d", n), Cut: NoCut, Size: int64(n)}
	for i := range blocks {
		b := Block{Index: i % format.GroupBlocks, Entry: format.Entry{1, byte(n)}, Data: bytes.Repeat([]byte{byte(n + uint64(i))}, format.BlockSize)}
		if i%format.GroupBlocks == 0 {
			r.Groups = append(r.Groups, Group{Number: int64(i / format.GroupBlocks)})
		}
		g := &r.Groups[len(r.Groups)-1]
		g.Blocks = append(g.Blocks, b)
	}
	return r
}

// commit reserves, submits and waits, making room by itself.
func commit(t testing.TB, j *Journal, r *Record) {
	t.Helper()
	room := Room(r.blocks())
	for {
		ok, err := j.TryReserve(room)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			break
		}
		if err := j.Release(j.Position()); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Wait(j.Submit(r, room)); err != nil {
		t.Fatal(err)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		var data []byte
		for _, g := range r.Groups {
			for _, b := range g.Blocks {
				data = append(data, b.Data...)
			}
		}
		descr := r.append(nil)
		if len(descr) != r.descriptor() {
			t.Fatalf("descriptor of %d bytes, foretold %d", len(descr), r.descriptor())
		}
		got, err := decodeRecords(descr, data)
		if err != nil || len(got) != 1 || !reflect.DeepEqual(&got[0], r) {
			t.Fatalf("got %+v, %v", got, err)
		}
	})
}

func drawRecord(t *rapid.T) *Record {
	r := &Record{
		Path: rapid.StringN(0, 40, 200).Draw(t, "path"), Size: rapid.Int64Range(0, format.MaxSize).Draw(t, "size"),
		Cut: rapid.SampledFrom([]int64{NoCut, 0, 5, 1 << 40}).Draw(t, "cut"),
	}
	for range rapid.IntRange(0, 3).Draw(t, "groups") {
		g := Group{Number: rapid.Int64Range(0, 1<<40).Draw(t, "group")}
		for range rapid.IntRange(0, 4).Draw(t, "blocks") {
			b := Block{Index: rapid.IntRange(0, format.GroupBlocks-1).Draw(t, "index")}
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 1:
				b.Entry, b.Data = format.Entry{1}, make([]byte, format.BlockSize)
			case 2:
				b.Entry, b.AtHome = format.Entry{2}, true
			}
			g.Blocks = append(g.Blocks, b)
		}
		r.Groups = append(r.Groups, g)
	}
	return r
}

// TestRingRoundAndRound writes many times the journal's size, with records of
// all sizes, reopens now and then, and wants exactly what was not released.
func TestRingRoundAndRound(t *testing.T) {
	cfg := testConfig(t)
	st := store.NewMem(store.Options{})
	newJournalOn(t, st, cfg, MinSize)
	j, _ := start(t, st, cfg)
	r := rand.New(rand.NewPCG(1, 2))
	var live []uint64
	for n := uint64(1); n < 600; n++ {
		rec := sample(n, r.IntN(j.MaxBlocks()+1))
		if ok, err := j.TryReserve(Room(rec.blocks())); err != nil {
			t.Fatal(err)
		} else if ok {
			j.Unreserve(Room(rec.blocks()))
		} else {
			live = nil
		}
		commit(t, j, rec)
		live = append(live, n)
		if n%37 == 0 {
			j.Close()
			var records []Record
			j, records = start(t, st, cfg)
			check(t, live, records)
			live = nil
		}
	}
}

func check(t *testing.T, live []uint64, records []Record) {
	t.Helper()
	if len(live) != len(records) {
		t.Fatalf("%d records came back, want %d", len(records), len(live))
	}
	for i, n := range live {
		want := sample(n, records[i].blocks())
		if !reflect.DeepEqual(&records[i], want) {
			t.Fatalf("record %d came back as another", n)
		}
	}
}

// TestGroupCommit: what waits at one time shares frames.
func TestGroupCommit(t *testing.T) {
	cfg := testConfig(t)
	st := store.NewMem(store.Options{})
	newJournalOn(t, st, cfg, 8<<20)
	j, _ := start(t, st, cfg)
	var tickets []Ticket
	for n := uint64(1); n <= 20; n++ {
		if ok, err := j.TryReserve(Room(1)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		tickets = append(tickets, j.Submit(sample(n, 1), Room(1)))
	}
	before := j.Stats().Frames
	var wait sync.WaitGroup
	for _, ticket := range tickets {
		wait.Go(func() {
			if err := j.Wait(ticket); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if frames := j.Stats().Frames - before; frames != 1 {
		t.Fatalf("20 small records took %d frames", frames)
	}
	if j.Durable() != tickets[19] || j.Stats().Records != 20 {
		t.Fatalf("durable up to %d of %d", j.Durable(), tickets[19])
	}
}

// TestRoom: a full journal reserves nothing, says why when it is told, and
// goes on once frames are released.
func TestRoom(t *testing.T) {
	cfg := testConfig(t)
	st := store.NewMem(store.Options{})
	newJournalOn(t, st, cfg, MinSize)
	j, _ := start(t, st, cfg)
	for n := uint64(1); ; n++ {
		room := Room(4)
		ok, err := j.TryReserve(room)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if n*4*page > MinSize {
			t.Fatal("it takes more than it has room for")
		}
		if err := j.Wait(j.Submit(sample(n, 4), room)); err != nil {
			t.Fatal(err)
		}
	}
	stuck := errors.New("the disk is gone")
	j.NoRoom(stuck)
	if err := j.WaitRoom(Room(4)); !errors.Is(err, stuck) {
		t.Fatalf("waiting for room that cannot be: %v", err)
	}
	j.NoRoom(nil)
	done := make(chan error)
	go func() { done <- j.WaitRoom(Room(4)) }()
	if err := j.Release(j.Position()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if j.Freed() != j.Last() || j.Stats().Used != page {
		t.Fatalf("freed %d of %d, %d bytes used", j.Freed(), j.Last(), j.Stats().Used)
	}
}

// TestWriteFailure: a failed write fails whoever waits, and all after them.
func TestWriteFailure(t *testing.T) {
	cfg := testConfig(t)
	st := store.NewMem(store.Options{})
	newJournalOn(t, st, cfg, MinSize)
	j, _ := start(t, st, cfg)
	broken := errors.New("broken")
	st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpWrite {
			return broken
		}
		return nil
	})
	if ok, err := j.TryReserve(Room(0)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := j.Wait(j.Submit(sample(1, 0), Room(0))); !errors.Is(err, broken) {
		t.Fatalf("a lost record: %v", err)
	}
	st.SetHook(nil)
	if _, err := j.TryReserve(Room(0)); !errors.Is(err, broken) {
		t.Fatalf("after a lost record: %v", err)
	}
}

// TestWithoutDirectIO: a store that refuses O_DIRECT is written all the same.
func TestWithoutDirectIO(t *testing.T) {
	cfg := testConfig(t)
	st := store.NewMem(store.Options{NoDirect: true})
	newJournalOn(t, st, cfg, MinSize)
	j, _ := start(t, st, cfg)
	if j.Stats().Direct {
		t.Fatal("the store refuses direct I/O")
	}
	commit(t, j, sample(1, 2))
	j.Close()
	_, records := start(t, st.Crash(7), cfg)
	check(t, []uint64{1}, records)
}

// TestForeignJournal: frames of another volume, or under another key, are none.
func TestForeignJournal(t *testing.T) {
	cfg := testConfig(t)
	st := store.NewMem(store.Options{})
	newJournalOn(t, st, cfg, MinSize)
	cfg.Volume[0]++
	var corrupt *CorruptError
	if _, _, err := Open(st, "journal", cfg, false); !errors.As(err, &corrupt) {
		t.Fatalf("a foreign journal: %v", err)
	}
}

// TestFrameOfAnotherOpening: of two openings that went on from the same state,
// neither takes a frame of the other, though its number and place are right.
func TestFrameOfAnotherOpening(t *testing.T) {
	cfg := testConfig(t)
	base := store.NewMem(store.Options{})
	newJournalOn(t, base, cfg, MinSize)
	if err := base.SyncAll(); err != nil {
		t.Fatal(err)
	}
	mine, other := base.Crash(0), base.Crash(0)
	var at int64
	for i, st := range []*store.Mem{mine, other} {
		j, _ := start(t, st, cfg)
		at = int64(j.head.offset)
		commit(t, j, sample(uint64(10*i+1), 1))
		commit(t, j, sample(uint64(10*i+2), 1))
	}
	frame := make([]byte, 2*page)
	from, err := other.OpenFile(segmentName("journal", 0), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	into, err := mine.OpenFile(segmentName("journal", 0), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := from.ReadAt(frame, at); err != nil {
		t.Fatal(err)
	}
	if _, err := into.WriteAt(frame, at); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, _, err := Open(mine, "journal", cfg, true); !errors.As(err, &corrupt) {
		t.Fatalf("a frame of another opening: %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	cfg := testConfig(f)
	buf := make([]byte, 1<<20)
	n := encodeFrame(buf, header{number: 3, tail: 2}, []*Record{sample(1, 3), sample(2, 0)}, &cfg)
	f.Add(buf[:n])
	f.Add(make([]byte, page))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b, len(b))
		if err != nil {
			return
		}
		if h.length() > len(b) {
			t.Fatal("a frame longer than what holds it")
		}
		_, _ = openFrame(b, h, &cfg)
	})
}

func FuzzRecords(f *testing.F) {
	r := sample(5, 2)
	data := make([]byte, 2*format.BlockSize)
	f.Add(r.append(nil), data)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, descr, data []byte) {
		records, err := decodeRecords(descr, data)
		if err != nil {
			return
		}
		var again []byte
		for i := range records {
			again = records[i].append(again)
		}
		if !bytes.Equal(again, descr) {
			t.Fatal("records were accepted that encode otherwise")
		}
	})
}

// BenchmarkCommit is one small append: a record with one block.
func BenchmarkCommit(b *testing.B) {
	st, err := store.OpenDisk(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	cfg := testConfig(b)
	newJournalOn(b, st, cfg, 64<<20)
	j, _ := start(b, st, cfg)
	r := sample(1, 1)
	for b.Loop() {
		commit(b, j, r)
	}
}
