"""From ids to batches: corpora encoded once, the plan of an epoch, tf.data, the shortlist."""
