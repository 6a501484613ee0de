"""Work on snapshots beside serving: evaluation, plots."""
