package project

import (
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Role is what somebody may do with a project and its clusters. A higher one
// may do what a lower one may.
type Role int

// The roles.
const (
	Nobody Role = iota
	Viewer      // look
	Owner       // change
)

func (r Role) String() string {
	switch r {
	case Viewer:
		return "Project Viewer"
	case Owner:
		return "Project Owner"
	}
	return "no role"
}

// Roles are grants to Unix users ("alice", "1001") and groups ("@dba", "@1001").
type Roles struct {
	Owners  []string `toml:"owners,omitempty" json:"owners,omitempty"`
	Viewers []string `toml:"viewers,omitempty" json:"viewers,omitempty"`
}

// grantee is the form of users' and groups' names, useradd(8)'s and those of
// domains.
var grantee = regexp.MustCompile(`^@?[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,254}\$?$`)

func (r Roles) check(p *problems) {
	for field, all := range map[string][]string{"roles.owners": r.Owners, "roles.viewers": r.Viewers} {
		for _, g := range all {
			if !grantee.MatchString(g) {
				p.add(field, "holds %q, which is neither a user nor a @group", g)
			}
		}
	}
}

// Unknown lists the grantees of which this host knows no user or group.
func (r Roles) Unknown() []string {
	var unknown []string
	for _, g := range append(slices.Clone(r.Owners), r.Viewers...) {
		if _, ok := idOf(g); !ok {
			unknown = append(unknown, g)
		}
	}
	return unknown
}

// Of is the role of a user with groups. Names are looked up at each call.
func (r Roles) Of(uid uint32, groups []uint32) Role {
	holds := func(all []string) bool {
		return slices.ContainsFunc(all, func(g string) bool {
			id, ok := idOf(g)
			if !ok {
				return false
			}
			if strings.HasPrefix(g, "@") {
				return slices.Contains(groups, id)
			}
			return id == uid
		})
	}
	switch {
	case uid == 0, holds(r.Owners):
		return Owner
	case holds(r.Viewers):
		return Viewer
	}
	return Nobody
}

// idOf is the number of a grantee. A name that is a number stands for itself.
func idOf(grantee string) (uint32, bool) {
	name, isGroup := strings.CutPrefix(grantee, "@")
	text := name
	if _, err := strconv.ParseUint(name, 10, 32); err != nil {
		text = ""
		if isGroup {
			if g, err := user.LookupGroup(name); err == nil {
				text = g.Gid
			}
		} else if u, err := user.Lookup(name); err == nil {
			text = u.Uid
		}
	}
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err == nil
}
