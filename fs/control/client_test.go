package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// scripted serves the name "v" with a function that talks to each client.
func scripted(t *testing.T, talk func(conn *net.UnixConn, request string)) *Client {
	t.Helper()
	dir, err := OpenDir(filepath.Join(t.TempDir(), "run"), true)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := dir.Listen("v", testRecord())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := socket.AcceptUnix()
			if err != nil {
				return
			}
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err == nil {
				talk(conn, line)
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { socket.Close() })
	return dir.Client("v")
}

func send(lines ...string) func(*net.UnixConn, string) {
	return func(conn *net.UnixConn, _ string) { fmt.Fprint(conn, strings.Join(lines, "\n")) }
}

// Whatever a daemon answers, or fails to, the client ends with an error that
// says which.
func TestCallAgainstOddServers(t *testing.T) {
	isGone := func(err error) bool { _, ok := errors.AsType[*GoneError](err); return ok }
	isProtocol := func(err error) bool { _, ok := errors.AsType[*ProtocolError](err); return ok }
	isVersion := func(err error) bool { _, ok := errors.AsType[*VersionError](err); return ok }
	isWire := func(err error) bool { _, ok := errors.AsType[*Error](err); return ok }
	for _, c := range []struct {
		name string
		talk func(*net.UnixConn, string)
		is   func(error) bool
	}{
		{"nothing", send(""), isGone},
		{"half a line", send(`{"v":1,"res`), isGone},
		{"a line without its end", send(`{"v":1,"result":1}`), isGone},
		{"events, then nothing", send(`{"v":1,"event":1}`, `{"v":1,"event":2}`, ""), isGone},
		{"nonsense", send("hello", ""), isProtocol},
		{"two parts", send(`{"v":1,"result":1,"event":1}`, ""), isProtocol},
		{"a newer protocol", send(`{"v":2,"outcome":1}`, ""), isVersion},
		{"an error", send(`{"v":1,"error":{"code":"busy","message":"in use"}}`, ""), isWire},
		{"too long", func(conn *net.UnixConn, _ string) {
			conn.Write([]byte(strings.Repeat("x", MaxResponse+2)))
		}, isProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := scripted(t, c.talk).Call(t.Context(), "m", nil, nil, nil)
			if !c.is(err) || err.Error() == "" {
				t.Errorf("%T: %v", err, err)
			}
		})
	}
}

func TestCallSendsTheRequest(t *testing.T) {
	for _, c := range []struct {
		params any
		want   string
	}{
		{nil, `{"v":1,"method":"m"}` + "\n"},
		{map[string]string{"a": "b\n"}, `{"v":1,"method":"m","params":{"a":"b\n"}}` + "\n"},
	} {
		got := make(chan string, 1)
		client := scripted(t, func(conn *net.UnixConn, request string) {
			got <- request
			fmt.Fprintln(conn, `{"v":1,"result":null}`)
		})
		if err := client.Call(t.Context(), "m", c.params, nil, nil); err != nil {
			t.Error(err)
		}
		if line := <-got; line != c.want {
			t.Errorf("sent %q, want %q", line, c.want)
		}
	}
}

func TestCallOddArguments(t *testing.T) {
	client := scripted(t, send(`{"v":1,"result":{"text":1}}`, ""))
	if err := client.Call(t.Context(), "m", func() {}, nil, nil); err == nil {
		t.Error("a function was sent")
	}
	var result struct{ Text string }
	if err := client.Call(t.Context(), "m", nil, &result, nil); err == nil {
		t.Errorf("a number was read as %q", result.Text)
	}
}

// A deadline ends a call at each of its stages.
func TestCallDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	client := scripted(t, func(*net.UnixConn, string) { <-release })
	if err := client.Call(ctx, "m", nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while waiting: %v", err)
	}
	if err := client.Call(ctx, "m", nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before dialling: %v", err)
	}
}

// Any sequence of events arrives whole and in order, whatever the sizes.
func TestEventsInOrder(t *testing.T) {
	var events []string
	s := &Server{Methods: map[string]Method{"play": func(_ context.Context, c *Call) (any, error) {
		for _, e := range events {
			if err := c.Event(e); err != nil {
				return nil, err
			}
		}
		return len(events), nil
	}}}
	dir, _ := testServer(t, s)
	rapid.Check(t, func(t *rapid.T) {
		events = rapid.SliceOfN(rapid.StringN(0, 5000, 20000), 0, 20).Draw(t, "events")
		var got []string
		var n int
		err := dir.Client("v").Call(context.Background(), "play", nil, &n, func(raw json.RawMessage) {
			var e string
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Error(err)
			}
			got = append(got, e)
		})
		if err != nil || n != len(events) || !slices.Equal(got, events) {
			t.Fatalf("%d events of %d, %v", len(got), len(events), err)
		}
	})
}

// dirModel is what a run directory ought to hold after any sequence of daemons
// coming, going and being killed.
type dirModel struct {
	t       *rapid.T
	dir     *Dir
	sockets map[string]*Socket
	dead    map[string]bool
}

func (m *dirModel) listen(name string) {
	record := testRecord()
	record.Volume = name
	s, err := m.dir.Listen(name, record)
	if m.sockets[name] != nil {
		if _, ok := errors.AsType[*InUseError](err); !ok {
			m.t.Fatalf("%s is live, but Listen says %v", name, err)
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.sockets[name] = s
	delete(m.dead, name)
}

func (m *dirModel) end(name string, killed bool) {
	s := m.sockets[name]
	if s == nil {
		return
	}
	delete(m.sockets, name)
	var err error
	if killed {
		m.dead[name] = true
		err = s.UnixListener.Close()
	} else {
		err = s.Close()
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *dirModel) check() {
	entries, err := m.dir.Entries()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Live != (m.sockets[e.Name] != nil) || !e.Live && !m.dead[e.Name] || e.Volume != e.Name {
			m.t.Fatalf("%+v; live %v, dead %v", e, m.sockets, m.dead)
		}
	}
	if len(entries) != len(m.sockets)+len(m.dead) {
		m.t.Fatalf("%d entries; live %v, dead %v", len(entries), m.sockets, m.dead)
	}
}

func TestDirModel(t *testing.T) {
	top := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir, err := OpenDir(filepath.Join(top, fmt.Sprint(runs)), true)
		if err != nil {
			t.Fatal(err)
		}
		m := &dirModel{t, dir, map[string]*Socket{}, map[string]bool{}}
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		t.Repeat(map[string]func(*rapid.T){
			"listen": func(t *rapid.T) { m.listen(name.Draw(t, "name")) },
			"close":  func(t *rapid.T) { m.end(name.Draw(t, "name"), false) },
			"kill":   func(t *rapid.T) { m.end(name.Draw(t, "name"), true) },
			"clean up": func(t *rapid.T) {
				if n := name.Draw(t, "name"); m.dead[n] {
					dir.Remove(n)
					delete(m.dead, n)
				}
			},
			"": func(*rapid.T) { m.check() },
		})
		for name := range m.sockets {
			m.end(name, false)
		}
	})
}

// Two daemons that come at the same moment do not both get a name.
func TestListenRace(t *testing.T) {
	dir, err := OpenDir(filepath.Join(t.TempDir(), "run"), true)
	if err != nil {
		t.Fatal(err)
	}
	const n = 8
	type outcome struct {
		s   *Socket
		err error
	}
	results := make(chan outcome, n)
	for range n {
		go func() {
			s, err := dir.Listen("v", testRecord())
			results <- outcome{s, err}
		}()
	}
	var won *Socket
	for range n {
		r := <-results
		if r.err != nil {
			if _, ok := errors.AsType[*InUseError](r.err); !ok {
				t.Error(r.err)
			}
			continue
		}
		if won != nil {
			t.Error("two have the name")
		}
		won = r.s
	}
	if won == nil {
		t.Fatal("nobody has the name")
	}
	if e, err := dir.Entry("v"); err != nil || !e.Live || e.PID != os.Getpid() {
		t.Errorf("%+v, %v", e, err)
	}
	if err := won.Close(); err != nil {
		t.Error(err)
	}
}

func TestErrorTexts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&ProtocolError{"a reason"}, "control protocol: a reason"},
		{&VersionError{7}, "control protocol: the peer speaks version 7, this program 1"},
		{&GoneError{errors.New("reset")}, "the daemon ended before it answered: reset"},
		{&Error{"busy", "the mount is busy"}, "the mount is busy"},
		{&InUseError{Entry{Record: Record{Volume: "id", Mountpoint: "/m", PID: 7}}}, "volume id is mounted at /m already (process 7)"},
		{&UnsafeDirError{"/run/x", 0o755, 5}, fmt.Sprintf("run directory /run/x is not safe: it belongs to user 5 with mode 0755, and must be user %d's, with no right to write for others", os.Geteuid())},
	} {
		if c.err.Error() != c.want {
			t.Errorf("%q, want %q", c.err.Error(), c.want)
		}
	}
}
