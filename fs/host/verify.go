package host

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/fs/store"
)

// Verification is how to verify a snapshot.
type Verification struct {
	Access
	NoKey    bool // leave out what needs keys
	Resume   bool // go on where the last one was interrupted
	Progress func(snapshot.Progress)
}

// Verify holds a snapshot against its manifest and, with its keys, proves that
// and every block. With an error the report is what was found before, or nil.
func Verify(ctx context.Context, s *snapshot.Snapshot, v Verification) (*snapshot.Report, error) {
	st, err := store.OpenDisk(s.Dir)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	r, err := snapshot.Verify(ctx, st, v.Progress)
	if err != nil || v.NoKey {
		return r, err
	}
	plain, err := v.Open(ctx, s.Dir)
	if err != nil {
		return r, err
	}
	proofs, err := snapshot.OpenProofs(filepath.Join(v.StateDir, "verify"), s.Manifest, v.Resume)
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	err = snapshot.VerifyBlocks(ctx, st, plain.Keys(), plain, r, proofs, v.Progress)
	return r, errors.Join(err, proofs.Close(err != nil), plain.Close())
}
