"""Histories and designs turned into text."""
