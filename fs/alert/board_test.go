package alert

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock is a time that a test sets.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

// A board of any history holds what was said last of each name, since when it
// was first said, and has told of each change once and of nothing else.
func TestBoard(t *testing.T) {
	names := rapid.SampledFrom([]Name{Locked, KeyExpiring, Integrity, "unheard-of"})
	rapid.Check(t, func(t *rapid.T) {
		at := &clock{time.Unix(1e9, 0)}
		var told []Event
		b := NewBoard("v", at.now, func(e Event) { told = append(told, e) })
		model := make(map[Name]Alert)
		var want []Event
		t.Repeat(map[string]func(*rapid.T){
			"clock": func(t *rapid.T) {
				at.Time = at.Add(time.Duration(rapid.Int64Range(-1e12, 1e12).Draw(t, "by")))
			},
			"set": func(t *rapid.T) {
				name, firing, detail := names.Draw(t, "name"), rapid.Bool().Draw(t, "firing"), rapid.String().Draw(t, "detail")
				b.Set(name, firing, detail)
				a, was := model[name]
				if firing && !was {
					a = Alert{Name: name, Severity: severityOf(name), Since: at.UTC()}
				}
				if firing || detail != "" {
					a.Detail = detail
				}
				e := Event{Time: at.UTC(), Type: "alert", Volume: "v", State: Firing, Alert: a}
				if firing {
					model[name] = a
				} else {
					delete(model, name)
					e.State = Resolved
				}
				if firing != was {
					want = append(want, e)
				}
			},
			"": func(t *rapid.T) {
				if fmt.Sprint(told) != fmt.Sprint(want) {
					t.Fatalf("told\n%v, want\n%v", told, want)
				}
				all := b.Firing()
				if len(all) != len(model) {
					t.Fatalf("%v fire, want %v", all, model)
				}
				for i, a := range all {
					if a != model[a.Name] || i > 0 && all[i-1].Name >= a.Name {
						t.Fatalf("%v fire, want %v", all, model)
					}
				}
			},
		})
	})
}

// A sink that sets alerts itself sees them after the event that it is at.
func TestBoardReentrant(t *testing.T) {
	var told []string
	var b *Board
	first := func(e Event) {
		if e.Name == Locked {
			b.Set(AuditFailed, e.State == Firing, "")
		}
	}
	second := func(e Event) { told = append(told, string(e.Name)+" "+string(e.State)) }
	b = NewBoard("v", time.Now, first, second)
	b.Set(Locked, true, "")
	b.Set(Locked, false, "")
	if got := fmt.Sprint(told); got != "[locked firing audit-failed firing locked resolved audit-failed resolved]" {
		t.Error(got)
	}
}

// With many callers, each name's events still take turns.
func TestBoardConcurrent(t *testing.T) {
	last := make(map[Name]State)
	b := NewBoard("v", time.Now, func(e Event) {
		if last[e.Name] == e.State {
			t.Errorf("%s %s twice", e.Name, e.State)
		}
		last[e.Name] = e.State
	})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 500 {
				b.Set(known[(i+j)%3].Name, (i*j)%2 == 0, "")
				b.Firing()
			}
		})
	}
	all.Wait()
	b.Set(Locked, true, "") // hands out what is left
	for _, a := range b.Firing() {
		if last[a.Name] != Firing {
			t.Errorf("%s fires, and was last told as %q", a.Name, last[a.Name])
		}
	}
}

func TestKnown(t *testing.T) {
	seen := make(map[Name]bool)
	for _, d := range Known() {
		if seen[d.Name] || d.Meaning == "" || severityOf(d.Name) != d.Severity {
			t.Errorf("%+v", d)
		}
		seen[d.Name] = true
	}
}

// The fields that hooks and readers of the log rely on.
func TestEventJSON(t *testing.T) {
	at := time.Date(2026, 11, 23, 17, 0, 0, 0, time.UTC)
	data, err := json.Marshal(Event{at, "alert", "v", Firing, Alert{Locked, Critical, at, "why"}})
	want := `{"time":"2026-11-23T17:00:00Z","type":"alert","volume":"v","state":"firing","name":"locked","severity":"critical","since":"2026-11-23T17:00:00Z","detail":"why"}`
	if err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
}
