// Package metrics offers what a mounted volume counts and knows to Prometheus,
// on a Unix socket or a loopback address.
//
// Exporter is one volume's registry. What is seldom and is told as it happens
// (checks, key operations, changes of alerts, lines of the audit log) is
// recorded in vectors; what is counted in the engine, or is a state, is asked
// for at each scrape through a function that gives a Snapshot. Serve answers
// scrapes on a listener, and ParseAddress reads where to listen.
//
// Invariants: every name begins with akvfs_ and every such metric has the
// volume's UUID as a label, so that metrics of several volumes can be mixed. A
// time is a timestamp, never an age: it is the reader's clock that ages it. A
// thing that is not known has no sample. No label is a secret, and none has an
// unbounded set of values but keys' identifiers, which an operator makes.
//
// An exporter has no lock of its own; client_golang's and the counters' do.
package metrics
