// Package integration holds the tests that run databases on real mounts of the
// real binary, over ext4 and over XFS on loop devices. They are behind the
// build tag integration, need root, and what scripts/setup installs:
//
//	make integration
//
// The environment may say
//
//	AKVFS_TEST_SYSTEM  bare or gocryptfs: run the same loads there, to prove
//	                   the loads themselves (akvfs)
//	AKVFS_TEST_DISKS   disks to run on, separated by commas (ext4,xfs)
//	AKVFS_TEST_OPTIONS further mount options, separated by commas
//	AKVFS_SOAK         how many times as long the loads run and how many more
//	                   rounds of kills there are (1)
//	AKVFS_SOAK_MINUTES how long TestSoak goes on (a third of one)
//	AKVFS_SOAK_SEED    what its random choices derive from (the time)
//	AKVFS_TEST_BINARY  the akvfs to run, such as one with the race detector
//	                   (bin/akvfs)
//	AKVFS_WORK_DIR     where disk images and logs go: a real disk (/var/tmp)
//
// Every load keeps a ledger outside the mount of what was acknowledged as
// durable, and its verifier compares all that can be read with it. A test
// waits a bounded time for anything, and takes down what it has set up.
package integration
