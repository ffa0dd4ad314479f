package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr/confdir"
	"github.com/akvfs/akvfs/keymgr/file"
	"github.com/akvfs/akvfs/keymgr/project"
)

// nobody is the database's user.
const nobody = 65534

// scene is a host with the project "trial" under an embedded key store.
type scene struct {
	Host
	t             *testing.T
	dir           string
	data, backing string
	key           string // identifier of the embedded key store
}

// keyStore is the content of a key store that all tests have a copy of: making
// a key takes longer than most of them.
var keyStore = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "akvfs-cluster")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "key.json")
	if _, err := file.Create(path, file.Options{Bits: 2048}); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func newScene(t *testing.T) *scene {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "akvfs-cluster")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	s := &scene{t: t, dir: dir, data: filepath.Join(dir, "data"), backing: filepath.Join(dir, "enc")}
	t.Cleanup(s.clean)
	s.Host = Host{
		ConfigDir: filepath.Join(dir, "etc"), StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"),
		KeyTimeout: time.Minute,
	}
	data, err := keyStore()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "key.json"), data, 0o600))
	s.key = file.KeyID(filepath.Join(dir, "key.json"))
	s.configure("trial", s.key)
	s.mkdata()
	return s
}

func (s *scene) configure(name, key string) {
	s.t.Helper()
	c := project.Config{Version: project.Version, KeyID: key}
	_, err := s.Projects().Apply(s.t.Context(), name, project.Change{Config: c, Timeout: time.Minute})
	must(s.t, err)
}

// clean unmounts whatever is left and opens what is shut.
func (s *scene) clean() {
	for _, path := range []string{s.data, s.backing} {
		_ = unix.Unmount(path, unix.MNT_DETACH)
		_ = setImmutable(path, false)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mkdata makes an empty dbPath as mongod's package does.
func (s *scene) mkdata() {
	s.t.Helper()
	must(s.t, os.Mkdir(s.data, 0o750))
	must(s.t, os.Chown(s.data, nobody, nobody))
}

// fill puts a database's files in place.
func (s *scene) fill() {
	s.t.Helper()
	must(s.t, os.Mkdir(filepath.Join(s.data, "journal"), 0o700))
	for name, size := range map[string]int{"a.wt": 100_000, "journal/log": 5000, "mongod.lock": 0, "WiredTiger": 40} {
		must(s.t, os.WriteFile(filepath.Join(s.data, name), []byte(strings.Repeat("plain", size/5)), 0o600))
	}
	must(s.t, os.Link(filepath.Join(s.data, "a.wt"), filepath.Join(s.data, "b.wt")))
	must(s.t, os.Symlink("a.wt", filepath.Join(s.data, "link")))
	must(s.t, unix.Setxattr(filepath.Join(s.data, "a.wt"), "user.note", []byte("x"), 0))
	must(s.t, filepath.WalkDir(s.data, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	}))
}

// tree is everything of a directory but times of change.
func (s *scene) tree(root string) string {
	s.t.Helper()
	var b strings.Builder
	must(s.t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if e.IsDir() {
			st.Nlink = 0 // a backing directory has .akvfs besides
		}
		fmt.Fprintf(&b, "%s %o %d:%d %d", strings.TrimPrefix(path, root), st.Mode, st.Uid, st.Gid, st.Nlink)
		if e.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %d %x", st.Mtim.Nano(), len(data), sha256.Sum256(data))
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

func (s *scene) enabling(separate bool) Enabling {
	o := Enabling{Name: "rs0", Project: "trial", Data: s.data, JournalSize: 1 << 20}
	if separate {
		o.Backing = s.backing
	}
	return o
}

func (s *scene) enable(separate bool) Result {
	s.t.Helper()
	r, err := s.Enable(s.t.Context(), s.enabling(separate))
	must(s.t, err)
	return r
}

func (s *scene) disable() Result {
	s.t.Helper()
	r, err := s.Disable(s.t.Context(), "rs0", nil)
	must(s.t, err)
	return r
}

// mounted mounts the cluster around a function.
func (s *scene) mounted(do func()) {
	s.t.Helper()
	c, p, err := s.Ready("rs0")
	must(s.t, err)
	must(s.t, s.Shut(c))
	cfg := daemon.NewConfig()
	cfg.Backing, cfg.Mountpoint, cfg.RunDir, cfg.StateDir, cfg.AllowOther = c.Backing, c.Data, s.RunDir, s.StateDir, true
	s.Govern(&cfg, p)
	d, err := daemon.Start(s.t.Context(), cfg)
	must(s.t, err)
	do()
	must(s.t, d.Unmount(context.WithoutCancel(s.t.Context()), time.Minute))
	<-d.Done()
}

// writes reports whether the database's user can make a file in a directory.
func (s *scene) writes(dir string) bool {
	s.t.Helper()
	cmd := exec.Command("touch", filepath.Join(dir, "mongod.log"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "Permission denied") && !strings.Contains(string(out), "not permitted") {
		s.t.Fatalf("touch: %v\n%s", err, out)
	}
	if err == nil {
		must(s.t, os.Remove(filepath.Join(dir, "mongod.log")))
	}
	return err == nil
}

// shutNow wants that the database's user can write nowhere.
func (s *scene) shutNow(separate bool) {
	s.t.Helper()
	if s.writes(s.data) || separate && s.writes(s.backing) {
		s.t.Error("the database's user can write while nothing is mounted")
	}
	if separate && os.WriteFile(filepath.Join(s.data, "root"), nil, 0o600) == nil {
		s.t.Error("root can write into the bare mount point")
	}
}

// TestLife: new and existing data, in place and beside, there and back.
func TestLife(t *testing.T) {
	for _, separate := range []bool{false, true} {
		for _, full := range []bool{false, true} {
			t.Run(fmt.Sprintf("separate %v, full %v", separate, full), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				if full {
					s.fill()
				}
				want := s.tree(s.data)
				plan, err := s.PlanEnable(t.Context(), s.enabling(separate))
				if err != nil || full && plan.Files == 0 || len(plan.Problems) > 0 {
					t.Errorf("%+v, %v", plan, err)
				}
				if got := s.tree(s.data); got != want {
					t.Fatalf("the plan has changed\n%s\nto\n%s", want, got)
				}
				if r := s.enable(separate); r.Cluster.State != StateEnabled || full != (r.Conversion.Files > 0) {
					t.Errorf("%+v", r)
				}
				s.shutNow(separate)
				for range 2 {
					s.mounted(func() {
						if got := s.tree(s.data); got != want {
							t.Errorf("through the mount it is\n%s\nnot\n%s", got, want)
						}
						if !s.writes(s.data) {
							t.Error("the database's user cannot write through the mount")
						}
					})
					s.shutNow(separate)
				}
				_, err = s.Enable(t.Context(), s.enabling(separate))
				if _, ok := errors.AsType[*EnabledError](err); !ok {
					t.Errorf("twice: %v", err)
				}
				if plan, err := s.PlanDisable(t.Context(), "rs0"); err != nil || full && plan.Files == 0 {
					t.Errorf("%+v, %v", plan, err)
				}
				if r := s.disable(); r.Left != "" {
					t.Errorf("%+v", r)
				}
				if got := s.tree(s.data); got != want {
					t.Errorf("afterwards it is\n%s\nnot\n%s", got, want)
				}
				if !s.writes(s.data) {
					t.Error("the database's user cannot write when all is plain again")
				}
				_, err = s.Load("rs0")
				if _, ok := errors.AsType[*confdir.NoEntryError](err); !ok {
					t.Errorf("a record is left: %v", err)
				}
				if _, err := os.Lstat(s.backing); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the backing directory is left: %v", err)
				}
			})
		}
	}
}

// TestInterruptedEnable: wherever it stopped, it goes on, and goes back.
func TestInterruptedEnable(t *testing.T) {
	steps := map[string]func(s *scene, c Cluster){
		"on record": func(*scene, Cluster) {},
		"half encrypted": func(s *scene, _ Cluster) {
			ctx, cancel := context.WithCancel(s.t.Context())
			defer cancel()
			p, err := s.Projects().Load("trial")
			must(s.t, err)
			w := &work{Host: s.Host, o: s.enabling(true), c: Cluster{"rs0", Config{Project: "trial", Data: s.data, Backing: s.backing}}, project: p}
			w.o.Observe = func(p convert.Progress) {
				if p.Files > 0 {
					cancel()
				}
			}
			if _, err := w.inPlace(s.data).Encrypt(ctx); err == nil {
				s.t.Log("it was not interrupted")
			}
		},
		"encrypted": func(s *scene, c Cluster) { s.encryptData() },
		"moved": func(s *scene, c Cluster) {
			s.encryptData()
			must(s.t, rename(s.data, s.backing))
		},
		"open": func(s *scene, c Cluster) {
			s.encryptData()
			must(s.t, rename(s.data, s.backing))
			must(s.t, os.Mkdir(s.data, 0o755))
		},
	}
	for name, step := range steps {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, back %v", name, back), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				s.fill()
				want := s.tree(s.data)
				c := Cluster{"rs0", Config{Project: "trial", Data: s.data, Backing: s.backing, State: StateEnabling}}
				must(t, s.save(c))
				step(s, c)
				if _, _, err := s.Ready("rs0"); err == nil {
					t.Error("it can be mounted")
				}
				if back {
					s.disable()
				} else {
					s.enable(true)
					s.shutNow(true)
					s.mounted(func() {
						if got := s.tree(s.data); got != want {
							t.Errorf("through the mount it is\n%s\nnot\n%s", got, want)
						}
					})
					s.disable()
				}
				if got := s.tree(s.data); got != want {
					t.Errorf("afterwards it is\n%s\nnot\n%s", got, want)
				}
			})
		}
	}
}

func (s *scene) encryptData() {
	s.t.Helper()
	p, err := s.Projects().Load("trial")
	must(s.t, err)
	w := &work{Host: s.Host, o: s.enabling(true), c: Cluster{"rs0", Config{Project: "trial"}}, project: p}
	_, err = w.inPlace(s.data).Encrypt(s.t.Context())
	must(s.t, err)
}

// TestInterruptedDisable: wherever it stopped, it goes on, and goes back.
func TestInterruptedDisable(t *testing.T) {
	decrypt := func(s *scene) {
		p, err := s.Projects().Load("trial")
		must(s.t, err)
		w := &work{Host: s.Host, c: Cluster{"rs0", Config{Project: "trial"}}, project: p}
		_, err = w.inPlace(s.backing).Decrypt(s.t.Context())
		must(s.t, err)
	}
	steps := map[string]func(s *scene){
		"on record": func(*scene) {},
		"decrypted": decrypt,
		"unshut": func(s *scene) {
			decrypt(s)
			must(s.t, unshut(s.data))
		},
		"removed": func(s *scene) {
			decrypt(s)
			must(s.t, unshut(s.data))
			must(s.t, os.Remove(s.data))
		},
		"moved": func(s *scene) {
			decrypt(s)
			must(s.t, unshut(s.data))
			must(s.t, rename(s.backing, s.data))
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.fill()
			want := s.tree(s.data)
			s.enable(true)
			c, err := s.Load("rs0")
			must(t, err)
			c.State = StateDisabling
			must(t, s.save(c))
			step(s)
			s.disable()
			if got := s.tree(s.data); got != want {
				t.Errorf("afterwards it is\n%s\nnot\n%s", got, want)
			}
			s.enable(false) // nothing is in the way of another beginning
		})
	}
}

// refused wants an error of a type from Enable, and that nothing has changed.
func refused[T error](s *scene, o Enabling) T {
	s.t.Helper()
	before := s.tree(s.dir)
	_, err := s.Enable(s.t.Context(), o)
	target, ok := errors.AsType[T](err)
	if !ok {
		s.t.Fatalf("%T %v", err, err)
	}
	strip := func(tree string) string {
		var kept []string
		for line := range strings.SplitSeq(tree, "\n") {
			if !strings.Contains(line, ".lock") && !strings.Contains(line, "/state") && !strings.HasPrefix(line, "/etc") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "\n")
	}
	if after := s.tree(s.dir); strip(after) != strip(before) {
		s.t.Errorf("it has changed from\n%s\nto\n%s", before, after)
	}
	if names, err := s.clusters().Names(recordFile); err != nil || len(names) > 0 && o.Name == "rs0" {
		s.t.Errorf("records: %v, %v", names, err)
	}
	return target
}

func TestRefused(t *testing.T) {
	s := newScene(t)
	s.fill()
	with := func(change func(o *Enabling)) Enabling {
		o := s.enabling(false)
		change(&o)
		return o
	}
	if e := refused[*confdir.NoEntryError](s, with(func(o *Enabling) { o.Project = "none" })); e.Noun != "project" {
		t.Error(e)
	}
	for _, name := range []string{"", "a/b", "a b", "..", "ключ", "-x", "a\nb"} {
		refused[*confdir.NameError](s, with(func(o *Enabling) { o.Name = name }))
	}
	problem := func(p daemon.Problem, o Enabling) {
		t.Helper()
		if e := refused[*daemon.PathError](s, o); e.Problem != p {
			t.Errorf("%v, want %s", e, p)
		}
	}
	must(t, os.Symlink(s.data, filepath.Join(s.dir, "symlink")))
	problem(daemon.ProblemSymlink, with(func(o *Enabling) { o.Data = filepath.Join(s.dir, "symlink") }))
	problem(daemon.ProblemMissing, with(func(o *Enabling) { o.Data = filepath.Join(s.dir, "none") }))
	problem(daemon.ProblemMissing, with(func(o *Enabling) { o.Data = filepath.Join(s.dir, "none", "below") }))
	problem(daemon.ProblemNotDirectory, with(func(o *Enabling) { o.Data = filepath.Join(s.dir, "key.json") }))
	problem(daemon.ProblemInsideMount, with(func(o *Enabling) { o.Backing = filepath.Join(s.data, "enc") }))
	problem(daemon.ProblemInsideBacking, with(func(o *Enabling) { o.Backing = s.dir }))
	other := filepath.Join(s.dir, "other")
	must(t, os.Mkdir(other, 0o700))
	must(t, os.WriteFile(filepath.Join(other, "file"), nil, 0o600))
	problem(daemon.ProblemNotEmpty, with(func(o *Enabling) { o.Backing = other }))
	disk := filepath.Join(s.dir, "disk")
	must(t, os.Mkdir(disk, 0o700))
	must(t, unix.Mount("tmpfs", disk, "tmpfs", 0, "size=8m"))
	defer unix.Unmount(disk, unix.MNT_DETACH)
	problem(daemon.ProblemOtherDisk, with(func(o *Enabling) { o.Backing = filepath.Join(disk, "enc") }))
	problem(daemon.ProblemOtherDisk, with(func(o *Enabling) { o.Backing = disk }))
	must(t, os.WriteFile(filepath.Join(disk, "file"), nil, 0o600))
	problem(daemon.ProblemMounted, with(func(o *Enabling) { o.Data, o.Backing = disk, filepath.Join(s.dir, "enc") }))

	lock, err := os.OpenFile(filepath.Join(s.data, "mongod.lock"), os.O_RDWR, 0)
	must(t, err)
	held := unix.Flock_t{Type: unix.F_WRLCK}
	must(t, unix.FcntlFlock(lock.Fd(), unix.F_SETLK, &held))
	sleeper := exec.Command("sleep", "1000")
	sleeper.ExtraFiles = []*os.File{lock}
	must(t, sleeper.Start())
	refused[*daemon.BusyError](s, s.enabling(false))
	must(t, sleeper.Process.Kill())
	_ = sleeper.Wait()
	must(t, lock.Close())
}

// Pipes stay what they are; a socket is a pipe's like. Both go there and back.
func TestSpecialFiles(t *testing.T) {
	s := newScene(t)
	s.fill()
	must(t, unix.Mkfifo(filepath.Join(s.data, "pipe"), 0o600))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(s.data, "mongodb.sock")}))
	must(t, unix.Close(fd))
	want := s.tree(s.data)
	s.enable(false)
	s.mounted(func() {
		if got := s.tree(s.data); got != want {
			t.Errorf("through the mount it is\n%s\nnot\n%s", got, want)
		}
	})
	s.disable()
	if got := s.tree(s.data); got != want {
		t.Errorf("afterwards it is\n%s\nnot\n%s", got, want)
	}
}

// A backing directory on another file system: new data goes there, and where
// it cannot come back by a rename it is left, and said to be.
func TestOtherDisk(t *testing.T) {
	s := newScene(t)
	must(t, os.Mkdir(s.backing, 0o700))
	must(t, unix.Mount("tmpfs", s.backing, "tmpfs", 0, "size=16m,mode=700"))
	s.enable(true)
	s.shutNow(true)
	want := ""
	s.mounted(func() {
		must(t, os.WriteFile(filepath.Join(s.data, "file"), []byte("content"), 0o600))
		want = s.tree(s.data)
	})
	if r := s.disable(); r.Left != s.backing {
		t.Errorf("%+v", r)
	}
	if got := s.tree(s.backing); got != want {
		t.Errorf("left is\n%s\nnot\n%s", got, want)
	}
	if s.writes(s.data) {
		t.Error("an empty dbPath is open: a database would begin anew there")
	}
}

// TestOthers: two clusters have no directory in common, and one name is one
// cluster.
func TestOthers(t *testing.T) {
	s := newScene(t)
	s.enable(true)
	for _, o := range []Enabling{
		{Name: "rs1", Project: "trial", Data: s.data},
		{Name: "rs1", Project: "trial", Data: s.backing},
		{Name: "rs1", Project: "trial", Data: filepath.Join(s.dir, "new"), Backing: s.backing},
		{Name: "rs1", Project: "trial", Data: s.dir},
	} {
		if e := refused[*CollisionError](s, o); e.Cluster != "rs0" {
			t.Error(e)
		}
	}
	other := filepath.Join(s.dir, "other")
	must(t, os.Mkdir(other, 0o700))
	for _, o := range []Enabling{
		{Name: "rs0", Project: "trial", Data: other},
		{Name: "rs0", Project: "trial", Data: s.data},
		{Name: "rs0", Project: "trial", Data: s.data, Backing: other},
	} {
		_, err := s.Enable(t.Context(), o)
		if _, ok := errors.AsType[*OtherError](err); !ok {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// A volume that is there is taken, if it is under the project's key.
func TestAdopt(t *testing.T) {
	s := newScene(t)
	foreign, err := file.Create(filepath.Join(s.dir, "foreign.json"), file.Options{Bits: 2048})
	must(t, err)
	s.configure("other", foreign.KeyID())
	_, err = daemon.Create(t.Context(), daemon.CreateConfig{Backing: s.data, KeyID: s.key, JournalSize: 1 << 20, Openers: s.Openers("trial")})
	must(t, err)
	o := s.enabling(false)
	o.Project = "other"
	if e := refused[*ForeignKeyError](s, o); len(e.Has) != 1 || e.Has[0] != s.key {
		t.Errorf("%+v", e)
	}
	s.enable(false)
	s.shutNow(false)
	s.mounted(func() {
		if !s.writes(s.data) {
			t.Error("the database's user cannot write through the mount")
		}
	})
}

// What opens a directory while nothing is mounted is undone by the next mount.
func TestShutAgain(t *testing.T) {
	s := newScene(t)
	s.enable(true)
	must(t, unshut(s.data))
	for _, path := range []string{s.data, s.backing} {
		must(t, os.Chown(path, nobody, nobody))
		must(t, os.Chmod(path, 0o750))
	}
	if !s.writes(s.data) {
		t.Fatal("it is not open")
	}
	s.mounted(func() {})
	s.shutNow(true)
}

// TestProjectInUse: a project with a cluster stays, and says what needs it.
func TestProjectInUse(t *testing.T) {
	s := newScene(t)
	s.fill()
	s.enable(false)
	client := daemon.KeyClient{RunDir: s.RunDir, Openers: s.Openers("trial")}
	var made daemon.SnapshotCreated
	must(t, client.Call(t.Context(), s.data, daemon.MethodSnapshotCreate, daemon.SnapshotParams{Name: "one"}, &made, nil))
	_, err := s.DisableProject(t.Context(), "trial")
	e, ok := errors.AsType[*ProjectInUseError](err)
	if !ok || strings.Join(e.Clusters, ",") != "rs0" || strings.Join(e.Snapshots, ",") != made.Dir {
		t.Fatalf("%v", err)
	}
	s.disable()
	snapshots, err := s.DisableProject(t.Context(), "trial")
	if err != nil || strings.Join(snapshots, ",") != made.Dir {
		t.Errorf("%v, %v", snapshots, err)
	}
	if names, err := s.Projects().Names(); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	_, err = s.DisableProject(t.Context(), "trial")
	if _, ok := errors.AsType[*confdir.NoEntryError](err); !ok {
		t.Errorf("%v", err)
	}
}

// What cannot be put on record is not done.
func TestNotOnRecord(t *testing.T) {
	s := newScene(t)
	s.fill()
	s.StateDir = filepath.Join(s.dir, "key.json") // is no directory
	want := s.tree(s.data)
	if _, err := s.Enable(t.Context(), s.enabling(false)); err == nil {
		t.Error("enabled")
	}
	if got := s.tree(s.data); got != want {
		t.Errorf("it has changed from\n%s\nto\n%s", want, got)
	}
	if _, err := s.DisableProject(t.Context(), "trial"); err == nil {
		t.Error("disabled")
	}
}

// While one command changes a cluster, another does not; nor is its project
// removed meanwhile.
func TestAtOnce(t *testing.T) {
	s := newScene(t)
	s.fill()
	o := s.enabling(false)
	tried := false
	o.Observe = func(convert.Progress) {
		if tried {
			return
		}
		tried = true
		_, err := s.Enable(t.Context(), s.enabling(false))
		_, isBusy := errors.AsType[*confdir.BusyError](err)
		_, err2 := s.Disable(t.Context(), "rs0", nil)
		_, isBusy2 := errors.AsType[*confdir.BusyError](err2)
		_, err3 := s.DisableProject(t.Context(), "trial")
		_, isBusy3 := errors.AsType[*confdir.BusyError](err3)
		if !isBusy || !isBusy2 || !isBusy3 {
			t.Errorf("%v; %v; %v", err, err2, err3)
		}
	}
	_, err := s.Enable(t.Context(), o)
	if err != nil || !tried {
		t.Errorf("%v, %v", err, tried)
	}
}

func TestOwner(t *testing.T) {
	s := newScene(t)
	s.enable(true)
	must(t, os.Symlink(s.backing, filepath.Join(s.dir, "symlink")))
	for path, want := range map[string]bool{
		s.data: true, s.backing: true, s.data + "/": true, s.backing + ".snapshots/one": true,
		s.dir: false, s.data + "x": false, "/": false, "": false, filepath.Join(s.data, "below"): false,
	} {
		if c, ok := s.Owner(path); ok != want || ok && c.Name != "rs0" {
			t.Errorf("%q: %v, %v", path, c.Name, ok)
		}
	}
	// One that was edited into nonsense is nobody's, and hides no other.
	must(t, os.MkdirAll(filepath.Join(s.ConfigDir, "clusters", "bad"), 0o700))
	must(t, os.WriteFile(filepath.Join(s.ConfigDir, "clusters", "bad", recordFile), []byte("nonsense"), 0o600))
	if _, ok := s.Owner(s.data); !ok {
		t.Error("it is hidden")
	}
	if all, bad, err := s.List(); err != nil || len(all) != 1 || len(bad) != 1 {
		t.Errorf("%v, %v, %v", all, bad, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("version = 1\nproject = \"p\"\ndata = \"/d\"\nbacking = \"/b\"\nstate = \"enabled\"\nmount_options = [\"ro\"]\n"))
	f.Add([]byte("version = 1\nproject = \"p\"\ndata = \"/d/../x\"\n"))
	f.Add([]byte("version = 1\nbacking = 7\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			if _, ok := errors.AsType[*RecordError](err); !ok || strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Fatalf("%T %q", err, err)
			}
			return
		}
		out, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(out)
		if err != nil || fmt.Sprint(back) != fmt.Sprint(c) {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}
