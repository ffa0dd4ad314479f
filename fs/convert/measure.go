package convert

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

const (
	probeDir   = stateDir + "/probe"
	probeBytes = 128 << 20
	probeUnits = 1000
)

// Measure says what Encrypt (or Decrypt) would do, and how long it would take
// at the rate at which a sample of the files is copied, synced and read back.
// The sample is made in a directory that is removed again, to encrypt under
// keys that are thrown away; nothing else is changed. What would be refused is
// in Plan.Problems. Errors are those of Encrypt otherwise.
func Measure(ctx context.Context, st store.FS, cfg Config, want Direction) (p Plan, err error) {
	c := newConversion(ctx, st, cfg)
	if _, err := c.resume(want); err != nil {
		return p, errors.Join(err, c.unlock())
	}
	defer func() { err = errors.Join(err, c.unlock()) }()
	root, err := st.Stat(".")
	if err != nil {
		return p, err
	}
	resumed := c.state != nil
	if resumed {
		if c.state.Direction != want || c.state.Phase != phaseFiles {
			return p, ErrUnfinished
		}
		err = c.withVolume(func(*volume.Volume) error {
			found, err := look(c.ctx, c.from)
			if err != nil {
				return err
			}
			return c.plan(&p, want, found)
		})
	} else {
		err = c.planNew(&p, want)
	}
	if err != nil || resumed {
		return p, err
	}
	return p, st.Chtimes(".", &root.Atime, &root.Mtime)
}

// ErrUnfinished says that a conversion must be finished before it can be told
// how long another takes.
var ErrUnfinished = errors.New("another conversion of the directory is not finished")

func (c *conversion) planNew(p *Plan, want Direction) error {
	is, err := c.isVolume()
	switch {
	case err != nil:
		return err
	case is && want == Encrypting:
		return ErrVolume
	case !is && want == Decrypting:
		return ErrNothing
	case want == Encrypting:
		c.from = plain{c.st}
		found, err := lookOutside(c.ctx, c.st)
		if err != nil {
			return err
		}
		return c.plan(p, want, found)
	}
	v, drop, err := c.cfg.Open(c.ctx, quiet{c.st})
	if err != nil {
		return err
	}
	defer drop()
	c.from = sealed{v}
	found, err := look(c.ctx, c.from)
	if err == nil {
		err = c.checkInside(found, v)
	}
	if err == nil {
		err = c.plan(p, want, found)
	}
	return errors.Join(err, v.Close())
}

// plan makes a plan of what was found on the old side, and copies a sample.
func (c *conversion) plan(p *Plan, want Direction, found *scan) (err error) {
	p.Files, p.Dirs, p.Bytes = int64(len(found.units)), int64(len(found.dirs)), found.bytes
	p.Problems = append([]Problem{}, found.problems...)
	if p.Free, err = freeSpace(c.st); err != nil {
		return err
	}
	if found.largest != nil {
		p.Largest, p.Need = found.largest.names[0], spaceFor(found.largest)+c.forVolume(want)
	}
	if p.Need > p.Free {
		p.Problems = append(p.Problems, Problem{p.Largest, (&SpaceError{p.Largest, p.Need, p.Free}).short()})
	}
	sample := choose(found, p.Free/4)
	if len(sample) == 0 {
		return nil
	}
	return c.probe(p, found, sample)
}

// choose takes files at even distances, small enough for what is free.
func choose(found *scan, free int64) (sample []*unit) {
	budget := min(free, int64(probeBytes))
	step := max(1, len(found.units)/probeUnits, int(found.bytes/probeBytes))
	for i := 0; i < len(found.units); i += step {
		if u := found.units[i]; u.regular() && u.bytes() <= budget {
			budget -= u.bytes()
			sample = append(sample, u)
		}
	}
	return sample
}

// probe copies the sample, and carries its rate over to the rest.
func (c *conversion) probe(p *Plan, found *scan, sample []*unit) (err error) {
	for _, dir := range []string{stateDir, probeDir} {
		if err := c.st.Mkdir(dir, 0o700); err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	defer func() {
		err = errors.Join(err, store.RemoveAll(c.st, probeDir))
		if c.state == nil {
			err = errors.Join(err, c.st.Rmdir(stateDir))
		}
	}()
	_, encrypted := c.from.(sealed)
	if encrypted {
		c.to = plain{store.NewSub(c.st, probeDir)}
		return c.time(p, found, sample)
	}
	keys, err := newThrowaway()
	if err != nil {
		return err
	}
	defer keys.destroy()
	st := store.NewSub(c.st, probeDir)
	if _, err := volume.Create(st, volume.Config{JournalSize: journal.MinSize},
		func(uuid.UUID, volume.MetadataFiles) (volume.Keys, error) { return keys, nil }); err != nil {
		return err
	}
	v, err := volume.Open(st, keys, volume.Options{})
	if err != nil {
		return err
	}
	c.to = sealed{v}
	return errors.Join(c.time(p, found, sample), v.Close())
}

func (c *conversion) time(p *Plan, found *scan, sample []*unit) error {
	began, bytes := time.Now(), int64(0)
	for i, u := range sample {
		bytes += u.bytes()
		if err := c.sample(u, uuid.NewString()); err != nil {
			return err
		}
		if i == len(sample)-1 || i%batchUnits == batchUnits-1 {
			if err := errors.Join(c.to.home(), c.to.home(), syncAll(c.st)); err != nil {
				return err
			}
		}
	}
	took := time.Since(began)
	if bytes > 0 {
		p.Rate = float64(bytes) / took.Seconds()
	}
	share := float64(len(found.units)) / float64(len(sample))
	if bytes > 0 {
		share = max(share, float64(found.bytes)/float64(bytes))
	}
	p.Seconds = took.Seconds() * share
	return nil
}

func (c *conversion) sample(u *unit, name string) error {
	from, err := c.from.open(u.names[0])
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := c.to.create(name)
	if err != nil {
		return err
	}
	_, err = c.copyContent(from, to, u.attr.Size)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	_, err = c.readBack(c.to, name, u.attr.Size)
	return err
}

// throwaway are keys that nobody keeps.
type throwaway struct{ master, secret *crypto.Key }

func newThrowaway() (*throwaway, error) {
	master, err := crypto.NewKey()
	if err != nil {
		return nil, err
	}
	secret, err := crypto.NewKey()
	if err != nil {
		master.Destroy()
		return nil, err
	}
	return &throwaway{master, secret}, nil
}

func (k *throwaway) destroy() { k.master.Destroy(); k.secret.Destroy() }

func (k *throwaway) WrapFileKey(file [16]byte, key *crypto.Key) (master [16]byte, wrapped []byte, err error) {
	wrapped, err = crypto.WrapKey(k.master, key, file[:])
	return master, wrapped, err
}

func (k *throwaway) UnwrapFileKey(file, _ [16]byte, wrapped []byte) (*crypto.Key, error) {
	return crypto.UnwrapKey(k.master, wrapped, file[:])
}

func (k *throwaway) VolumeKey(purpose string) (*crypto.Key, error) { return k.secret.Derive(purpose) }
