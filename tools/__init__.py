"""Work on snapshots beside serving: evaluation, tuning, plots."""
