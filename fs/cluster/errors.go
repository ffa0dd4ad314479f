package cluster

import (
	"fmt"
	"strings"
)

// StateError says that a cluster is half enabled or half disabled.
type StateError struct {
	Name  string
	State State
}

func (e *StateError) Error() string {
	return fmt.Sprintf("cluster %s is not ready: %s it was interrupted", e.Name, e.State)
}

// OtherError says that a cluster is on record with something else than is asked for.
type OtherError struct{ Name, What, Is, Asked string }

func (e *OtherError) Error() string {
	return fmt.Sprintf("cluster %s has the %s %s, not %s", e.Name, e.What, e.Is, e.Asked)
}

// EnabledError says that a cluster is enabled already.
type EnabledError struct{ Name string }

func (e *EnabledError) Error() string { return fmt.Sprintf("cluster %s is enabled already", e.Name) }

// CollisionError says that a directory belongs to another cluster.
type CollisionError struct{ Path, Cluster string }

func (e *CollisionError) Error() string {
	return fmt.Sprintf("%s has a directory in common with cluster %s", e.Path, e.Cluster)
}

// ForeignKeyError says that a volume which is there opens with other keys than
// the project's.
type ForeignKeyError struct {
	Backing, Project, KeyID string
	Has                     []string
}

func (e *ForeignKeyError) Error() string {
	return fmt.Sprintf("the volume in %s is under %s, not under the key of project %s, %s", e.Backing, strings.Join(e.Has, " and "), e.Project, e.KeyID)
}

// ProjectInUseError says that a project still has clusters.
type ProjectInUseError struct {
	Project   string
	Clusters  []string
	Snapshots []string // directories of those that need the project's key
}

func (e *ProjectInUseError) Error() string {
	text := fmt.Sprintf("project %s is in use by cluster %s", e.Project, strings.Join(e.Clusters, ", "))
	if len(e.Snapshots) > 0 {
		text += fmt.Sprintf(", and its key by the snapshots %s", strings.Join(e.Snapshots, ", "))
	}
	return text
}
