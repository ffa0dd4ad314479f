package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/fs/metrics"
)

func newClusterMount(a *app) *cobra.Command {
	cfg := daemon.NewConfig()
	cfg.Metrics = metrics.Unix
	var f mountFlags
	cmd := &cobra.Command{
		Use:   "mount NAME [MOUNTPOINT]",
		Short: "Mount a cluster at its data directory",
		Long: `Mount the cluster NAME at its data directory, or at MOUNTPOINT, with the
credentials of its project. All else is as with "akvfs mount", the options of -o
included; mount_options in the cluster's cluster.toml come before them.`,
		Example: `  akvfs cluster mount rs0
  akvfs cluster mount rs0 --foreground
  akvfs cluster mount rs0 /mnt --read-only -o check-interval=5m`,
		Args:              oneOrTwo("NAME", "MOUNTPOINT"),
		ValidArgsFunction: a.completeClusters,
		RunE: func(cmd *cobra.Command, given []string) error {
			h, mine, err := a.mine()
			if err == nil && !mine { // which the service refuses, and says who does it
				err = a.ask(cmd.Context(), host.MethodClusterMount, host.Of{Cluster: given[0]}, nil, nil)
			}
			if err != nil {
				return err
			}
			c, p, err := h.Ready(given[0])
			if err != nil {
				return err
			}
			mountpoint := c.Data
			if len(given) == 2 {
				mountpoint = given[1]
			}
			f.options = append(c.MountOptions, f.options...)
			if err := a.configure(cmd, &cfg, f, []string{c.Backing, mountpoint}); err != nil {
				return err
			}
			if err := h.Shut(c); err != nil {
				return err
			}
			h.Govern(&cfg, p)
			return a.mount(cmd.Context(), cfg, f)
		},
	}
	f.add(cmd, &cfg)
	return cmd
}

// oneOrTwo wants an argument, and takes another.
func oneOrTwo(first, second string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) > 1 {
			return args(first, second)(cmd, given)
		}
		return args(first)(cmd, given)
	}
}

func newClusterUnmount(a *app) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "unmount NAME",
		Short: "Unmount a cluster and wait until everything is committed",
		Long: `Unmount the cluster NAME, wherever it is mounted, as "akvfs unmount" does. Stop
the database first.`,
		Example:           "  akvfs cluster unmount rs0\n  akvfs cluster unmount rs0 --wait 2m",
		Args:              args("NAME"),
		ValidArgsFunction: a.completeClusters,
		RunE: func(cmd *cobra.Command, given []string) error {
			if wait < 0 {
				return &usageError{cmd.CommandPath(), errors.New("--wait must not be negative")}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			c, err := a.backingOf(ctx, given[0])
			if err != nil {
				return err
			}
			if err := a.unmount(ctx, c.Backing, wait); err != nil {
				return fmt.Errorf("cluster %s: %w", c.Name, err)
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Second, "how long to wait for those who use the mount")
	return cmd
}

// backingOf finds a cluster whose volume is to be asked for. Of one that cannot
// be described it is enough to know where that is.
func (a *app) backingOf(ctx context.Context, name string) (cluster.Cluster, error) {
	h, mine, err := a.mine()
	if err != nil {
		return cluster.Cluster{}, err
	}
	if mine {
		return h.Load(name)
	}
	info, err := a.showCluster(ctx, name)
	return info.Cluster, err
}
