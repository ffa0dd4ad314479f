package crypto

import (
	"crypto/rand"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"
)

// TestOverwriteFree reads the memory of a process that has left secrets in
// buffers of all sizes, freed them between others that stay, and had a pool.
func TestOverwriteFree(t *testing.T) {
	p := startChild(t, "overwrite free", 0)
	secret := make([]byte, 16)
	rand.Read(secret)
	s := &secrets{pieces: map[uint64]string{}}
	s.add("secret", secret)
	p.send(secret)
	p.expect("freed")
	if _, other := findSecrets(t, p.pid(), s); other["secret"] < 1000 {
		t.Errorf("the search finds nothing: %v", other)
	}
	p.send([]byte{1})
	p.expect("overwritten")
	// A register may have been stored somewhere.
	if _, other := findSecrets(t, p.pid(), s); other["secret"] > 4 {
		t.Errorf("left in memory: %v", other)
	}
}

func childOverwriteFree(c *child) {
	secret := make([]byte, 16)
	_, err := io.ReadFull(os.Stdin, secret)
	c.must(err)
	var pool sync.Pool
	var stay [][]byte
	done := make(chan struct{})
	go func() { // on a stack of its own
		defer close(done)
		for _, size := range []int{16, 17, 40, 100, 250, 1000, 2000, 4096, 9000, 20000, 32768, 100_000} {
			for i := range 1<<20/size + 3 {
				b := make([]byte, size)
				if i%3 == 0 {
					stay = append(stay, b)
					continue
				}
				for at := 0; at+16 <= size; at += 16 {
					copy(b[at:], secret)
				}
				pool.Put(&b)
			}
		}
		clear(secret)
		Secretly(func() {}) // registers
	}()
	<-done
	c.say("freed")
	c.wait()
	OverwriteFree()
	c.must(Scrub())
	c.say("overwritten")
	c.wait()
	runtime.KeepAlive(stay)
	runtime.KeepAlive(&pool)
}
