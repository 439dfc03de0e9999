"""cluster.yaml as data, units, and errors. Pure."""
