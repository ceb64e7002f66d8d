"""What a rehearsal needs in place of the hub: checkpoints, data sets and a judge made on the spot."""
