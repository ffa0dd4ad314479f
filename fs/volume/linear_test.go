package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/akvfs/akvfs/fs/store"
)

// fileCall is one call on a file that several goroutines use.
type fileCall struct {
	kind   string // "read", "write", "truncate"
	off, n int
	fill   byte // what a write writes
}

// fileBehaviour is what one file does if each call takes effect at one moment
// between its beginning and its end. A state is the file's content.
var fileBehaviour = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		m, c := fileModel{[]byte(state.(string))}, input.(fileCall)
		switch c.kind {
		case "read":
			want := m.data[min(c.off, len(m.data)):min(c.off+c.n, len(m.data))]
			return bytes.Equal(want, []byte(output.(string))), state
		case "write":
			m.write(bytes.Repeat([]byte{c.fill}, c.n), c.off)
		case "truncate":
			m.resize(c.n)
		}
		return true, string(m.data)
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v: %d bytes", input, len(fmt.Sprint(output)))
	},
}

// TestLinearizable: reads, writes and truncates of one file by several
// goroutines, with commits and checkpoints between them, have an order in which
// each sees all before it.
func TestLinearizable(t *testing.T) {
	keys := newTestKeys(t, 61)
	for seed := range uint64(40) {
		st := store.NewMem(store.Options{})
		create(t, st, keys, NamesPlain, 1<<20)
		v := open(t, st, keys)
		put(t, v, "f", "")
		h, err := v.OpenFile("f", os.O_RDWR, 0, Owner{})
		must(t, err)
		history := runCalls(t, v, h, seed)
		switch porcupine.CheckOperationsTimeout(fileBehaviour, history, time.Minute) {
		case porcupine.Illegal:
			t.Fatalf("seed %d: no order explains what was read", seed)
		case porcupine.Unknown:
			t.Fatalf("seed %d: no order was found in a minute", seed)
		}
		must(t, h.Close())
		must(t, v.Close())
	}
}

// runCalls has goroutines call, and tells when each call began and ended.
func runCalls(t *testing.T, v *Volume, h *Handle, seed uint64) (history []porcupine.Operation) {
	const workers, calls = 4, 10
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range workers {
		rng := rand.New(rand.NewPCG(seed, uint64(w)))
		wg.Go(func() {
			for i := range calls {
				c := drawCall(rng, byte(1+w*calls+i))
				at := time.Since(begin)
				out, err := c.do(h)
				end := time.Since(begin)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: w, Input: c, Call: int64(at), Output: out, Return: int64(end)})
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			if err := errors.Join(h.Sync(true), v.Checkpoint()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	return history
}

func drawCall(rng *rand.Rand, fill byte) fileCall {
	c := fileCall{off: rng.IntN(12_000), n: 1 + rng.IntN(9000), fill: fill}
	switch k := rng.IntN(10); {
	case k < 4:
		c.kind = "read"
	case k < 8:
		c.kind = "write"
	default:
		c.kind = "truncate"
	}
	return c
}

func (c fileCall) do(h *Handle) (string, error) {
	switch c.kind {
	case "read":
		p := make([]byte, c.n)
		n, err := h.ReadAt(p, int64(c.off))
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return string(p[:n]), err
	case "write":
		_, err := h.WriteAt(bytes.Repeat([]byte{c.fill}, c.n), int64(c.off))
		return "", err
	}
	return "", h.Truncate(int64(c.n))
}
