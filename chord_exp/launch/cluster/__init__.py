"""The Ray that a run uses: one of its own, or one that is there."""
