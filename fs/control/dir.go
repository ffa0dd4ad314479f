package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/internal/replace"
)

const (
	socketSuffix = ".sock"
	recordSuffix = ".json"
	// maxRecord bounds a record's file, in bytes.
	maxRecord = 64 << 10
)

// Dir is the directory that holds the control sockets of one user's mounts.
type Dir struct{ path string }

// Record describes a mounted volume beside its socket, so that what a killed
// daemon left can be told and cleaned up.
type Record struct {
	V          int       `json:"v"`
	Volume     string    `json:"volume"`     // UUID
	Backing    string    `json:"backing"`    // absolute path
	Mountpoint string    `json:"mountpoint"` // absolute path
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
}

// Entry is one volume found in a Dir.
type Entry struct {
	Record
	Name string // of the socket and the record, without suffix
	Live bool   // a daemon answers
}

// UnsafeDirError says that a run directory could be written by others.
type UnsafeDirError struct {
	Path string
	Mode os.FileMode
	UID  uint32
}

func (e *UnsafeDirError) Error() string {
	return fmt.Sprintf("run directory %s is not safe: it belongs to user %d with mode %04o, and must be user %d's, with no right to write for others", e.Path, e.UID, e.Mode.Perm(), os.Geteuid())
}

// OpenDir opens a run directory; create makes it, and its parents, where it
// is missing. A directory in which others than its user can write, or which is
// somebody else's, is an *UnsafeDirError; a missing one wraps fs.ErrNotExist.
// Without create, root's will do, too: a user may call root's daemons.
func OpenDir(path string, create bool) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if create {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	trusted := int(st.Uid) == os.Geteuid() || st.Uid == 0 && !create
	if !fi.IsDir() || fi.Mode().Perm()&0o022 != 0 || !trusted {
		return nil, &UnsafeDirError{path, fi.Mode(), st.Uid}
	}
	return &Dir{path}, nil
}

// Path is the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// validName: no name can leave the directory or hide in it.
func validName(name string) error {
	if name == "" || len(name) > 200 || strings.ContainsAny(name, "/\x00") || name[0] == '.' {
		return fmt.Errorf("%q is no name for a control socket", name)
	}
	return nil
}

// withAddress calls f with an address of the socket that fits into
// sockaddr_un (108 bytes) however long the directory's path is.
func (d *Dir) withAddress(name string, f func(addr *net.UnixAddr) error) error {
	if err := validName(name); err != nil {
		return err
	}
	fd, err := unix.Open(d.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	defer unix.Close(fd)
	return f(&net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s%s", fd, name, socketSuffix)})
}

// InUseError says that a live daemon has the name already.
type InUseError struct{ Entry Entry }

func (e *InUseError) Error() string {
	return fmt.Sprintf("volume %s is mounted at %s already (process %d)", e.Entry.Volume, e.Entry.Mountpoint, e.Entry.PID)
}

// Socket is a listening control socket with its record.
type Socket struct {
	*net.UnixListener
	dir    *Dir
	name   string
	public bool // whom it answers is decided by who calls, not by who can
}

// Listen makes a volume's socket, and its record once it listens. What a dead
// daemon left under the name is replaced; a live one's is an *InUseError. The
// socket is its user's alone.
func (d *Dir) Listen(name string, record Record) (*Socket, error) {
	return d.listen(name, record, false)
}

// ListenPublic is Listen for a daemon that lets other users call it: everybody
// may connect, see the directory and read the record. It is the server that
// decides by SO_PEERCRED.
func (d *Dir) ListenPublic(name string, record Record) (*Socket, error) {
	if err := os.Chmod(d.path, 0o755); err != nil {
		return nil, err
	}
	return d.listen(name, record, true)
}

func (d *Dir) listen(name string, record Record, public bool) (*Socket, error) {
	if err := validName(name); err != nil {
		return nil, err
	}
	unlock, err := d.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if e, err := d.Entry(name); err == nil && e.Live {
		return nil, &InUseError{e}
	}
	d.Remove(name)
	s := &Socket{dir: d, name: name, public: public}
	err = d.withAddress(name, func(addr *net.UnixAddr) (err error) {
		s.UnixListener, err = net.ListenUnix("unix", addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("control socket in %s: %w", d.path, err)
	}
	s.SetUnlinkOnClose(false) // its address dies with the descriptor in it
	record.V = Version
	if err := s.publish(record); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Socket) publish(record Record) error {
	base := filepath.Join(s.dir.path, s.name)
	socketMode, recordMode := os.FileMode(0o600), os.FileMode(0o600)
	if s.public {
		socketMode, recordMode = 0o666, 0o644
	}
	// Who slips in before this is refused by the server.
	if err := os.Chmod(base+socketSuffix, socketMode); err != nil {
		return err
	}
	data, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return err
	}
	return replace.File(base+recordSuffix, append(data, '\n'), recordMode)
}

// Close stops listening and removes socket and record.
func (s *Socket) Close() error {
	s.dir.Remove(s.name)
	return s.UnixListener.Close()
}

// lock serialises those who make sockets in this directory.
func (d *Dir) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(d.path, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// Remove removes what is there under a name. A live daemon's entry is the
// daemon's own to remove, by closing its Socket.
func (d *Dir) Remove(name string) {
	if validName(name) != nil {
		return
	}
	// The record first: an entry without a socket is a dead one's.
	for _, suffix := range []string{recordSuffix, socketSuffix} {
		_ = os.Remove(filepath.Join(d.path, name+suffix)) // what cannot be removed shows when it is made anew
	}
}

// Client calls the daemon behind a name.
func (d *Dir) Client(name string) *Client {
	return &Client{dial: func(ctx context.Context) (conn *net.UnixConn, err error) {
		err = d.withAddress(name, func(addr *net.UnixAddr) error {
			var dialer net.Dialer
			c, err := dialer.DialContext(ctx, "unix", addr.Name)
			if err != nil {
				return err
			}
			conn = c.(*net.UnixConn)
			return nil
		})
		if err != nil && ctx.Err() == nil {
			err = &GoneError{err}
		}
		return conn, err
	}}
}

// Entries lists what the directory holds, in the order of the names. Records
// that cannot be read are left out.
func (d *Dir) Entries() ([]Entry, error) {
	files, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), recordSuffix)
		if !ok || validName(name) != nil {
			continue
		}
		if e, err := d.Entry(name); err == nil {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Entry reads one record and sees whether its daemon lives.
func (d *Dir) Entry(name string) (Entry, error) {
	if err := validName(name); err != nil {
		return Entry{}, err
	}
	data, err := os.ReadFile(filepath.Join(d.path, name+recordSuffix))
	if err != nil {
		return Entry{}, err
	}
	record, err := ParseRecord(data)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Record: record, Name: name, Live: d.live(name)}, nil
}

// live reports whether somebody listens: a dead daemon's socket refuses.
func (d *Dir) live(name string) bool {
	err := d.withAddress(name, func(addr *net.UnixAddr) error {
		conn, err := net.DialUnix("unix", nil, addr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return err == nil || errors.Is(err, syscall.EAGAIN) // EAGAIN: alive, its queue is full
}

// ParseRecord reads a record. Unknown fields are let be: a newer daemon may
// have written them.
func ParseRecord(data []byte) (Record, error) {
	var r Record
	if len(data) > maxRecord {
		return Record{}, &ProtocolError{"a record is too long"}
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&r); err != nil {
		return Record{}, &ProtocolError{"a record is no JSON object"}
	}
	if r.V != Version {
		return Record{}, &VersionError{r.V}
	}
	if r.PID <= 0 || !filepath.IsAbs(r.Backing) || !filepath.IsAbs(r.Mountpoint) {
		return Record{}, &ProtocolError{"a record lacks a process or an absolute path"}
	}
	return r, nil
}
