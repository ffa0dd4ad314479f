package host

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr/project"
)

// kinds are the parameters of all methods.
var kinds = []func() params{
	func() params { return &Of{} }, func() params { return &ChangeParams{} }, func() params { return &EnableParams{} },
	func() params { return &DisableParams{} }, func() params { return &SnapshotParams{} }, func() params { return &VerifyParams{} },
	func() params { return &PruneParams{} }, func() params { return &RestoreParams{} },
}

// FuzzParams: whatever comes, parameters mean the same when they are written
// again, and what they are about can be told on one line.
func FuzzParams(f *testing.F) {
	for i := range kinds {
		f.Add(uint8(i), []byte(`{"project":"p","cluster":"c","volume":"/v"}`))
	}
	f.Add(uint8(1), []byte(`{"project":"p","before":{"version":1},"after":{"roles":{"owners":["a"]}},"secret":"aGk=","timeout":"1s"}`))
	f.Add(uint8(2), []byte(`{"cluster":"c\nd","data":"/x","backing":"","names":"plain","journal_size":1048576,"timeout":"-1s","plan":true}`))
	f.Add(uint8(6), []byte(`{"volume":"\u0000","keep":-1,"older_than":"1h"}`))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		p := kinds[int(kind)%len(kinds)]()
		if control.DecodeParams(data, p) != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q := kinds[int(kind)%len(kinds)]()
		if err := control.DecodeParams(again, q); err != nil || p.of() != q.of() {
			t.Errorf("%s became %s: %v", data, again, err)
		}
		for _, r := range p.of().String() {
			if r < ' ' {
				t.Errorf("%q", p.of().String())
			}
		}
		if c, ok := p.(*ChangeParams); ok {
			MayNotChange(c.Before, c.After, c.Secret != nil)
		}
		if v, ok := p.(*VerifyParams); ok {
			if d, err := wait(v.Timeout); err == nil && (d <= 0 || d > maxWait) {
				t.Errorf("%q is %v", v.Timeout, d)
			}
		}
	})
}

// A secret that is sent comes
// out as it was.
func TestSecretInParams(t *testing.T) {
	want := ChangeParams{Of: Of{Project: "p"}, After: project.Config{Version: 1}, Secret: []byte{0, 255, '"', '\n'}, Timeout: "1s"}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got ChangeParams
	if err := control.DecodeParams(data, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}
