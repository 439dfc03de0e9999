"""The open-loop prober, observers on the machines, and the history format."""
