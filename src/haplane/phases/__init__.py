"""Changing machines: plan, apply, lock, reset."""
