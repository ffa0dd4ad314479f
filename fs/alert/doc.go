// Package alert keeps account of conditions that operators must hear of: once
// when one begins, once when it ends, however often it is reported meanwhile.
//
// Board holds what is firing and hands an Event to its sinks at each change.
// Hook is a sink that runs the operator's command for each. Known is the table
// of all alerts, from which documentation, rules and metrics are checked.
//
// Invariants:
//   - Sinks see events one at a time, in the order in which the conditions
//     changed, and for each name firing and resolved in turn.
//   - A sink may call Set; what that changes is emitted after the event at hand.
//   - A Hook never blocks who notifies it. Where its queue is full it drops an
//     event which a later one of the same name has overtaken, counts that and
//     says so: the last state of every alert gets through.
//
// A board begins empty: a condition that outlives the daemon fires again.
//
// Locks: Board.mu and Hook.mu guard their fields; nothing is called with
// either held.
package alert
