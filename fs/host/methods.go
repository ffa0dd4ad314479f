package host

import (
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr/project"
)

// The methods. Names are words of the command line, with dots for spaces.
const (
	MethodProjectList      = "project.list"
	MethodProjectShow      = "project.show"
	MethodProjectConfigure = "project.configure"
	MethodProjectUpdate    = "project.update"
	MethodProjectRotate    = "project.rotate-credential"
	MethodProjectDisable   = "project.disable"

	MethodClusterList    = "cluster.list"
	MethodClusterShow    = "cluster.show"
	MethodClusterEnable  = "cluster.enable"
	MethodClusterDisable = "cluster.disable"
	MethodClusterMount   = "cluster.mount"

	MethodSnapshotList    = "snapshot.list"
	MethodSnapshotShow    = "snapshot.show"
	MethodSnapshotVerify  = "snapshot.verify"
	MethodSnapshotDelete  = "snapshot.delete"
	MethodSnapshotPrune   = "snapshot.prune"
	MethodSnapshotRestore = "snapshot.restore"
)

func (s *Service) methods() map[string]control.Method {
	return map[string]control.Method{
		MethodProjectList:      method(s, project.Viewer, everything, listProjects),
		MethodProjectShow:      method(s, project.Viewer, aProject, showProject),
		MethodProjectConfigure: method(s, project.Owner, aProject, configureProject),
		MethodProjectUpdate:    method(s, project.Owner, aProject, changeProject),
		MethodProjectRotate:    method(s, project.Owner, aProject, changeProject),
		MethodProjectDisable:   method(s, project.Owner, aProject, disableProject),

		MethodClusterList:    method(s, project.Viewer, everything, listClusters),
		MethodClusterShow:    method(s, project.Viewer, aCluster, showCluster),
		MethodClusterEnable:  method(s, project.Owner, newCluster, enableCluster),
		MethodClusterDisable: method(s, project.Owner, aCluster, disableCluster),
		MethodClusterMount:   method(s, project.Owner, aCluster, mountCluster),

		MethodSnapshotList:    method(s, project.Viewer, aVolume, listSnapshots),
		MethodSnapshotShow:    method(s, project.Viewer, aVolume, showSnapshot),
		MethodSnapshotVerify:  method(s, project.Viewer, aVolume, verifySnapshot),
		MethodSnapshotDelete:  method(s, project.Owner, aVolume, deleteSnapshot),
		MethodSnapshotPrune:   method(s, project.Owner, aVolume, pruneSnapshots),
		MethodSnapshotRestore: method(s, project.Owner, aVolume, restoreSnapshot),
	}
}
