"""How much memory an experiment needs on a GPU, by arithmetic; docs/memory.md has the sources."""
