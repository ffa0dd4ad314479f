package akv

import "testing"

// tokenRequests counts what the directory was asked for tokens.
func (c *cloud) tokenRequests() (n int) {
	for _, r := range c.Requests() {
		if r.Request == "token" {
			n++
		}
	}
	return n
}

// TestRenew: a token serves later calls until it is renewed.
func TestRenew(t *testing.T) {
	c := newCloud(t)
	p := c.open(t)
	w := mustWrap(t, p)
	mustUnwrap(t, p, w)
	before := c.tokenRequests()
	if before == 0 {
		t.Fatal("the count finds nothing")
	}
	mustUnwrap(t, p, w)
	if now := c.tokenRequests(); now != before {
		t.Errorf("%d more tokens without need", now-before)
	}
	p.Renew()
	mustUnwrap(t, p, w)
	if now := c.tokenRequests(); now != before+1 {
		t.Errorf("%d more tokens after Renew", now-before)
	}
}
