package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Proofs remember, in a file of their own, which files of one snapshot
// VerifyBlocks has proven, for one that goes on after an interruption. What
// they hold tells nothing of names. Safe for concurrent use.
type Proofs struct {
	salt []byte // the manifest's MAC

	mu   sync.Mutex // guards the rest
	f    *os.File
	done map[string]bool
}

// proofBytes is a line's length in the file, without its end.
const proofBytes = 2 * sha256.Size

// OpenProofs opens, or makes, the file for a snapshot in a directory. If it is
// not to go on with what is there, that is forgotten.
func OpenProofs(dir string, m *Manifest, goOn bool) (*Proofs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &Proofs{salt: m.MAC, done: map[string]bool{}}
	flags := os.O_RDWR | os.O_CREATE | os.O_APPEND
	if !goOn {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(filepath.Join(dir, p.line("")+".proven"), flags, 0o600)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err == nil {
		// The last line may be torn: the next begins behind it.
		err = f.Truncate(int64(bytes.LastIndexByte(data, '\n') + 1))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	for line := range strings.Lines(string(data)) {
		if len(line) == proofBytes+1 {
			p.done[line[:proofBytes]] = true
		}
	}
	p.f = f
	return p, nil
}

// line stands for a file.
func (p *Proofs) line(name string) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d:%s%s", len(p.salt), p.salt, name)
	return hex.EncodeToString(sum.Sum(nil))
}

// Files is how many files are proven.
func (p *Proofs) Files() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.done)
}

// Has says that a file is proven. A nil Proofs has none.
func (p *Proofs) Has(name string) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done[p.line(name)]
}

// add notes that a file is proven.
func (p *Proofs) add(name string) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.line(name)
	p.done[line] = true
	_, err := p.f.WriteString(line + "\n")
	return err
}

// Close closes the file, and removes it if nobody is to go on with it.
func (p *Proofs) Close(keep bool) error {
	err := p.f.Close()
	if !keep {
		err = errors.Join(err, os.Remove(p.f.Name()))
	}
	return err
}
