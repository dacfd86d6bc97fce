"""Questions to stored runs and to arrays of a run. Pages, commands, reports and notebooks import the modules by name."""
