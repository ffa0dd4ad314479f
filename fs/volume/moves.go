package volume

// A walk of the tree cannot see what is moved from where it has not been yet
// to where it was. So whatever gets a name while a walk is under way is noted,
// and visited afterwards, by its newest name.

// followMoves begins or ends the noting of names.
func (v *Volume) followMoves(on bool) {
	v.tree.Lock()
	defer v.tree.Unlock()
	v.moves = nil
	if on {
		v.moves = map[string]struct{}{}
	}
}

// named notes names in the backing directory that objects have been given.
// Called with the tree lock held.
func (v *Volume) named(backing ...string) {
	if v.moves == nil {
		return
	}
	for _, name := range backing {
		v.moves[name] = struct{}{}
	}
}

// takeMoves gives what was noted, and begins anew.
func (v *Volume) takeMoves() []string {
	v.tree.Lock()
	defer v.tree.Unlock()
	var names []string
	for name := range v.moves {
		names = append(names, name)
	}
	clear(v.moves)
	return names
}
