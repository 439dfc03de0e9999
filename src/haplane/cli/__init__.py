"""What a person talks to; no logic."""
