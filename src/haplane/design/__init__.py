"""From a cluster to what each machine should hold: derive, render, budget. Pure."""
