package store

import "slices"

// span is the numbers from, from+1, … up to but not including to.
type span struct{ from, to int64 }

// ranges is a set of numbers as spans in rising order that do not touch.
type ranges struct {
	spans []span
	count int64
}

// reach finds the spans that overlap or touch [from, to): spans[i:j].
func (r *ranges) reach(from, to int64) (i, j int) {
	i, _ = slices.BinarySearchFunc(r.spans, from, func(s span, n int64) int { return int(min(max(s.to-n, -1), 1)) })
	j = i
	for j < len(r.spans) && r.spans[j].from <= to {
		j++
	}
	return i, j
}

// add puts [from, to) into the set.
func (r *ranges) add(from, to int64) {
	if from >= to {
		return
	}
	i, j := r.reach(from, to)
	joined := span{from, to}
	for _, s := range r.spans[i:j] {
		joined = span{min(joined.from, s.from), max(joined.to, s.to)}
		r.count -= s.to - s.from
	}
	r.count += joined.to - joined.from
	r.spans = slices.Replace(r.spans, i, j, joined)
}

// remove takes [from, to) out of the set.
func (r *ranges) remove(from, to int64) {
	if from >= to {
		return
	}
	i, j := r.reach(from, to)
	var left []span
	for _, s := range r.spans[i:j] {
		r.count -= s.to - s.from
		for _, part := range []span{{s.from, min(s.to, from)}, {max(s.from, to), s.to}} {
			if part.from < part.to {
				left = append(left, part)
				r.count += part.to - part.from
			}
		}
	}
	r.spans = slices.Replace(r.spans, i, j, left...)
}

// within counts the numbers of the set in [from, to).
func (r *ranges) within(from, to int64) int64 {
	var n int64
	i, j := r.reach(from, to)
	for _, s := range r.spans[i:j] {
		n += max(0, min(s.to, to)-max(s.from, from))
	}
	return n
}

func (r *ranges) has(n int64) bool { return r.within(n, n+1) == 1 }

func (r *ranges) clone() ranges { return ranges{slices.Clone(r.spans), r.count} }
