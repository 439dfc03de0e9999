"""Facts and live status, read from machines and parsed by pure functions."""
