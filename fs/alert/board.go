package alert

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Alert is a condition that holds.
type Alert struct {
	Name     Name      `json:"name"`
	Severity Severity  `json:"severity"`
	Since    time.Time `json:"since"` // UTC
	Detail   string    `json:"detail"`
}

// State is where a change has led.
type State string

// The states of an Event.
const (
	Firing   State = "firing"
	Resolved State = "resolved"
)

// Event is a change of one alert's state. As JSON it is a line of the audit
// log and what a hook reads.
type Event struct {
	Time   time.Time `json:"time"` // UTC
	Type   string    `json:"type"` // "alert"
	Volume string    `json:"volume"`
	State  State     `json:"state"`
	Alert
}

// Board is what is firing. Its methods are safe for concurrent use.
type Board struct {
	volume string
	now    func() time.Time
	sinks  []func(Event)

	mu       sync.Mutex
	firing   map[Name]Alert
	pending  []Event
	emitting bool // somebody is handing out what is pending
}

// NewBoard makes an empty board of a volume. Sinks are called in their order.
func NewBoard(volume string, now func() time.Time, sinks ...func(Event)) *Board {
	return &Board{volume: volume, now: now, sinks: sinks, firing: make(map[Name]Alert)}
}

// Set says whether a condition holds, and what of it. Only a change is handed
// to the sinks; a new detail of what is firing already shows in Firing. When
// Set returns, another caller may still be handing out the event.
func (b *Board) Set(name Name, firing bool, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.change(name, firing, detail) || b.emitting {
		return
	}
	b.emitting = true
	for len(b.pending) > 0 {
		e := b.pending[0]
		b.pending = b.pending[1:]
		b.emit(e)
	}
	b.emitting = false
}

// emit hands out one event with mu let go.
func (b *Board) emit(e Event) {
	b.mu.Unlock()
	defer b.mu.Lock()
	for _, sink := range b.sinks {
		sink(e)
	}
}

// change takes a report into account and tells whether it changed a state.
// Called with mu held.
func (b *Board) change(name Name, firing bool, detail string) bool {
	a, was := b.firing[name]
	if !firing && !was {
		return false
	}
	now := b.now().UTC()
	state := Resolved
	if firing {
		state = Firing
		if !was {
			a = Alert{Name: name, Severity: severityOf(name), Since: now}
		}
		a.Detail = detail
		b.firing[name] = a
	} else {
		delete(b.firing, name)
		if detail != "" {
			a.Detail = detail
		}
	}
	if firing != was {
		b.pending = append(b.pending, Event{Time: now, Type: "alert", Volume: b.volume, State: state, Alert: a})
	}
	return firing != was
}

// Firing lists what is firing, in the order of the names.
func (b *Board) Firing() []Alert {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Alert, 0, len(b.firing))
	for _, a := range b.firing {
		all = append(all, a)
	}
	slices.SortFunc(all, func(x, y Alert) int { return cmp.Compare(x.Name, y.Name) })
	return all
}
