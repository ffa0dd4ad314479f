package fsck

import (
	"fmt"
	"sync"

	"github.com/akvfs/akvfs/fs/volume"
)

// Kind says what is wrong.
type Kind string

// The kinds of findings.
const (
	Description Kind = "description" // volume.json
	// DescriptionCopy is volume.json.prev, which is needed only where volume.json is damaged.
	DescriptionCopy Kind = "description-copy"
	Keyring         Kind = "keyring"
	KeyringCopy     Kind = "keyring-copy" // keyring.json.prev, which is needed only where keyring.json is damaged
	Journal         Kind = "journal"
	LostWrite       Kind = "lost-write" // what a damaged journal had of a file and could not give, or may have had
	Leftover        Kind = "leftover"   // what an interrupted operation left; it harms nothing
	LongName        Kind = "long-name"
	Name            Kind = "name"
	Size            Kind = "size"
	Header          Kind = "header"
	HeaderSlot      Kind = "header-slot" // the other one holds
	TagPage         Kind = "tag-page"
	Block           Kind = "block"
	Tail            Kind = "tail" // something lies behind a file's last page
	LinkTarget      Kind = "link-target"
	Attribute       Kind = "extended-attribute"
)

// State is what came of a finding.
type State string

// The states of a finding.
const (
	Found    State = "found"    // no repair was asked for
	Repaired State = "repaired" // it is not found any more
	Left     State = "left"     // it could not be repaired
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind   Kind        `json:"kind"`
	State  State       `json:"state"`
	Path   volume.Path `json:"path"`           // in the backing directory
	Name   volume.Path `json:"name,omitempty"` // in the tree, where it is known
	Detail string      `json:"detail"`
	// Offset and Length are the bytes of a file's content that do not read.
	Offset int64 `json:"offset,omitempty"`
	Length int64 `json:"length,omitempty"`

	settled bool // its state is known, and nothing is to be looked at again
}

// String is the finding in a line.
func (f *Finding) String() string {
	s := fmt.Sprintf("%s: %s", f.Path, f.Detail)
	if f.Length > 0 {
		s += fmt.Sprintf(": %d bytes at %d do not read", f.Length, f.Offset)
	}
	if f.Name != "" && f.Name != f.Path {
		s += fmt.Sprintf(" (%s)", f.Name)
	}
	if f.State != Found {
		s += ": " + string(f.State)
	}
	return s
}

// Report is what a check has found.
type Report struct {
	Volume  string `json:"volume"` // UUID; "" if it cannot be told
	Proven  bool   `json:"proven"` // keys were there, and everything was proven with them
	Objects uint64 `json:"objects"`
	Bytes   uint64 `json:"bytes"` // read
	// Pending counts journal records that the next mount brings home, and
	// Replayed those that a repair has.
	Pending  int         `json:"pending"`
	Replayed int         `json:"replayed"`
	Findings []Finding   `json:"findings"`
	Omitted  int         `json:"omitted"` // findings for which there was no room
	Notes    []string    `json:"notes"`   // what is worth knowing, and nothing wrong
	Next     volume.Path `json:"next"`    // where a check that was interrupted goes on
}

// maxFindings bounds a report.
const maxFindings = 5000

// Clean reports whether nothing is wrong, or was.
func (r *Report) Clean() bool { return len(r.Findings)+r.Omitted == 0 }

// Count is how many findings are in a state.
func (r *Report) Count(s State) (n int) {
	for i := range r.Findings {
		if r.Findings[i].State == s {
			n++
		}
	}
	if s != Repaired {
		n += r.Omitted
	}
	return n
}

// Summary is the report in a line.
func (r *Report) Summary() string {
	how := "structure only, nothing proven (that needs the keys)"
	if r.Proven {
		how = "everything proven"
	}
	s := fmt.Sprintf("%d objects, %d bytes read, %s: ", r.Objects, r.Bytes, how)
	if r.Clean() {
		return s + "no damage"
	}
	return s + fmt.Sprintf("%d found, %d repaired, %d left", len(r.Findings)+r.Omitted, r.Count(Repaired), r.Count(Found)+r.Count(Left))
}

// report collects findings.
type report struct {
	tell func(Finding) // nil: nobody

	mu   sync.Mutex // guards the rest
	seen map[place]bool
	Report
}

// place is what one finding is about.
type place struct {
	kind   Kind
	path   volume.Path
	offset int64
}

func newReport(tell func(Finding)) *report {
	return &report{tell: tell, seen: map[place]bool{}, Report: Report{Findings: []Finding{}, Notes: []string{}}}
}

func (r *report) add(f Finding) {
	if f.State == "" {
		f.State = Found
	}
	if r.take(f) && r.tell != nil {
		r.tell(f)
	}
}

// take reports whether a finding is a new one.
func (r *report) take(f Finding) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := place{f.Kind, f.Path, f.Offset}
	if r.seen[at] || f.Kind == Name && r.seen[place{LongName, f.Path, 0}] {
		return false
	}
	r.seen[at] = true
	if len(r.Findings) == maxFindings {
		r.Omitted++
	} else {
		r.Findings = append(r.Findings, f)
	}
	return true
}

func (r *report) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// leave says of what was not repaired that it is left.
func (r *report) leave() {
	for i := range r.Findings {
		if f := &r.Findings[i]; f.State == Found {
			f.State = Left
		}
	}
}

// damage adds what a scrub has found.
func (r *report) damage(d volume.Damage) { r.add(asFinding(d)) }

// kinds are the findings that a scrub's words stand for.
var kinds = map[string]struct {
	kind   Kind
	detail string
}{
	"block":              {Block, "blocks do not verify"},
	"tag page":           {TagPage, "a tag page does not verify"},
	"header":             {Header, "its header is damaged"},
	"header slot":        {HeaderSlot, "one of the two slots of its header is damaged"},
	"unfinished header":  {Leftover, "its header was being written when the power was cut; the file is empty"},
	"size":               {Size, "its size is not the one that it had"},
	"tail":               {Tail, "something lies behind its last page"},
	"name":               {Name, "its name does not verify"},
	"link target":        {LinkTarget, "the link's target does not verify"},
	"extended attribute": {Attribute, "an extended attribute does not verify"},
	"attribute name":     {Attribute, "the name of an extended attribute does not verify"},
}

func asFinding(d volume.Damage) Finding {
	k := kinds[d.What]
	f := Finding{Kind: k.kind, Path: d.Path, Name: d.Name, Detail: k.detail, Offset: d.Offset, Length: d.Length}
	if d.What == "header" && d.Err != nil {
		f.Detail += ": " + d.Err.Error()
	}
	return f
}
