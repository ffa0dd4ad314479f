package store

import (
	"bytes"
	"os"
	"testing"
)

// TestStream: what was streamed reads back, whether the kernel knows how or not.
func TestStream(t *testing.T) {
	for _, refused := range []bool{false, true} {
		st, err := OpenDisk(t.TempDir())
		must0(t, err)
		st.noStreams.Store(refused)
		f, err := st.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
		must0(t, err)
		want := bytes.Repeat([]byte("akvfs"), 100_000)
		for off := 0; off < len(want); off += 123_456 {
			end := min(off+123_456, len(want))
			if n, err := f.(Streamer).Stream(want[off:end], int64(off)); n != end-off || err != nil {
				t.Fatalf("refused %v: %d of %d bytes, %v", refused, n, end-off, err)
			}
		}
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("refused %v: another content, %v", refused, err)
		}
		must0(t, f.Close())
		must0(t, st.Close())
	}
}
