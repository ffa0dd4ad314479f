package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/control"
)

const testID = "0f0e0d0c-0b0a-4908-8706-050403020100"

// fakeMount puts a mounted volume into a run directory that answers with
// these methods. A nil table makes it a dead one.
func fakeMount(t *testing.T, runDir, name string, r control.Record, methods map[string]control.Method) {
	t.Helper()
	dir, err := control.OpenDir(runDir, true)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := dir.Listen(name, r)
	if err != nil {
		t.Fatal(err)
	}
	if methods == nil {
		socket.UnixListener.Close()
		return
	}
	s := &control.Server{Methods: methods, Code: Code}
	go s.Serve(socket.UnixListener)
	t.Cleanup(func() {
		socket.Close()
		s.Close(time.Second)
	})
}

func answer(v any, err error) map[string]control.Method {
	f := func(context.Context, *control.Call) (any, error) { return v, err }
	return map[string]control.Method{MethodStatus: f, MethodUnmount: f}
}

func TestFind(t *testing.T) {
	top := tempDir(t)
	run := filepath.Join(top, "run")
	backing, mountpoint, other := mkdir(t, top, "b"), mkdir(t, top, "m"), mkdir(t, top, "o")
	link := filepath.Join(top, "link")
	if err := os.Symlink("m", link); err != nil {
		t.Fatal(err)
	}
	if _, e, path, err := find(run, backing); err != nil || e.Name != "" || path != backing {
		t.Fatalf("without a run directory: %+v, %q, %v", e, path, err)
	}
	r := control.Record{Volume: testID, Backing: backing, Mountpoint: mountpoint, PID: 1}
	fakeMount(t, run, "a-dead", control.Record{Volume: testID, Backing: backing, Mountpoint: other, PID: 1}, nil)
	fakeMount(t, run, "live", r, answer(Status{}, nil))
	fakeMount(t, run, "z-dead", control.Record{Volume: testID, Backing: backing, Mountpoint: other, PID: 1}, nil)
	for name, want := range map[string]string{
		backing: "live", mountpoint: "live", link: "live", mountpoint + "/.": "live",
		testID: "live", strings.ToUpper(testID): "live", top: "", uuid.NewString(): "error", filepath.Join(top, "none"): "error",
	} {
		_, e, _, err := find(run, name)
		if want == "error" {
			if err == nil {
				t.Errorf("%s: found %+v", name, e)
			}
		} else if err != nil || e.Name != want {
			t.Errorf("%s: %q, %v; want %q", name, e.Name, err, want)
		}
	}
	if _, e, _, err := find(run, other); err != nil || e.Live || e.Name == "" {
		t.Errorf("the mount point of a dead one: %+v, %v", e, err)
	}
}

func TestStatuses(t *testing.T) {
	top := tempDir(t)
	run := filepath.Join(top, "run")
	if all, err := Statuses(t.Context(), run); err != nil || all == nil || len(all) != 0 {
		t.Fatalf("without a run directory: %v, %v", all, err)
	}
	at := time.Unix(1e9, 0).UTC()
	record := func(name string) control.Record {
		return control.Record{Volume: name, Backing: mkdir(t, top, name), Mountpoint: mkdir(t, top, name+"-m"), PID: 42, Started: at}
	}
	live := record("live")
	fakeMount(t, run, "1", live, answer(Status{Backing: live.Backing, Mountpoint: live.Mountpoint, State: StateMounted, Cluster: "rs0"}, nil))
	broken := record("broken")
	fakeMount(t, run, "2", broken, answer(nil, errors.New("out of order")))
	dead := record("dead")
	fakeMount(t, run, "3", dead, nil)

	all, err := Statuses(t.Context(), run)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	if s := all[0]; s.Cluster != "rs0" || s.Note != "" {
		t.Errorf("live: %+v", s)
	}
	if s := all[1]; s.State != StateMounted || s.PID != 42 || s.Mountpoint != broken.Mountpoint || !strings.Contains(s.Note, "out of order") {
		t.Errorf("broken: %+v", s)
	}
	if s := all[2]; s.State != StateUnmounted || s.Mountpoint != "" || s.VolumeID != "dead" || s.Backing != dead.Backing || !strings.Contains(s.Note, "killed") {
		t.Errorf("dead: %+v", s)
	}
}

// A daemon that hangs is told of in words, and keeps nobody waiting for ever.
func TestStatusOfSilent(t *testing.T) {
	top := tempDir(t)
	run := filepath.Join(top, "run")
	r := control.Record{Volume: testID, Backing: mkdir(t, top, "b"), Mountpoint: mkdir(t, top, "m"), PID: 42}
	fakeMount(t, run, "v", r, map[string]control.Method{MethodStatus: func(ctx context.Context, _ *control.Call) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s, err := StatusOf(ctx, run, r.Mountpoint)
	if err != nil || s.State != StateMounted || s.PID != 42 || !strings.Contains(s.Note, "has not answered within 5s") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestUnmountAsks(t *testing.T) {
	top := tempDir(t)
	run := filepath.Join(top, "run")
	r := control.Record{Volume: testID, Backing: mkdir(t, top, "b"), Mountpoint: mkdir(t, top, "m"), PID: 42}
	var asked UnmountParams
	fakeMount(t, run, "v", r, map[string]control.Method{MethodUnmount: func(_ context.Context, c *control.Call) (any, error) {
		if err := c.Params(&asked); err != nil {
			return nil, err
		}
		return nil, &BusyError{Mountpoint: r.Mountpoint}
	}})
	_, err := Unmount(t.Context(), run, r.Mountpoint, 3*time.Second)
	var wire *control.Error
	if !errors.As(err, &wire) || wire.Code != CodeBusy || asked.Wait != "3s" {
		t.Errorf("%v, asked to wait %q", err, asked.Wait)
	}
	var not *NotMountedError
	if _, err := Unmount(t.Context(), run, top, 0); !errors.As(err, &not) {
		t.Errorf("what is not mounted: %v", err)
	}
	tmp := mkdir(t, top, "tmpfs")
	tmpfs(t, tmp)
	if _, err := Unmount(t.Context(), run, tmp, 0); !errors.As(err, &not) {
		t.Errorf("another file system: %v", err)
	}
}

// The fields that scripts rely on are there, whatever the state.
func TestStatusJSON(t *testing.T) {
	data, err := json.Marshal(Status{MasterKeys: []MasterKeyStatus{{}}, AKIs: []AKIStatus{{}}})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	has := func(m any, names ...string) {
		for _, name := range names {
			if _, ok := m.(map[string]any)[name]; !ok {
				t.Errorf("%q is missing from %s", name, data)
			}
		}
	}
	has(any(got), "backing", "mountpoint", "state", "cluster", "volume_id", "format", "master_keys", "akis")
	has(got["master_keys"].([]any)[0], "id", "active", "created")
	has(got["akis"].([]any)[0], "key_id", "provider", "state", "checked", "created")
	var back Status
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back.AKIs, []AKIStatus{{}}) {
		t.Errorf("came back as %+v, %v", back, err)
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 90 * time.Second: "1m30s", 15 * time.Minute: "15m", 24 * time.Hour: "24h", 90 * time.Minute: "1h30m",
	} {
		if got := short(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// TestUnheard: an end that somebody else brought about is told from a daemon
// that heard the call and died.
func TestUnheard(t *testing.T) {
	for err, want := range map[error]bool{
		&control.Error{Code: control.CodeEnding}:                              true,
		&control.Error{Code: CodeBusy}:                                        false,
		&control.GoneError{Err: fmt.Errorf("read: %w", syscall.ECONNRESET)}:   true,
		&control.GoneError{Err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}: true,
		&control.GoneError{Err: io.ErrUnexpectedEOF}:                          false,
		nil: false,
	} {
		if got := unheard(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
