package fusefs

import "sync"

// forgotten lets go of files that the kernel knows no longer, one after the
// other in a goroutine that lives while there are any: a FORGET must not wait,
// because the reader that has it may be the only one, and to close a file waits
// for as long as the volume is frozen, or for the backing store to free it.
type forgotten struct {
	mu    sync.Mutex // guards queue and busy
	queue []*openFile
	busy  bool // the goroutine is there
	work  sync.WaitGroup
}

// add returns at once.
func (g *forgotten) add(f *openFile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, f)
	if !g.busy {
		g.busy = true
		g.work.Go(g.run)
	}
}

func (g *forgotten) run() {
	for f := g.next(); f != nil; f = g.next() {
		f.letGo()
	}
}

// next is nil, and the goroutine ends, if there are no more.
func (g *forgotten) next() *openFile {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		g.queue, g.busy = nil, false
		return nil
	}
	f := g.queue[0]
	g.queue = g.queue[1:]
	return f
}

// wait returns when all have been let go. Nothing may be added meanwhile.
func (g *forgotten) wait() { g.work.Wait() }
