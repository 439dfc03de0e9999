"""The open-loop prober and the history format."""
