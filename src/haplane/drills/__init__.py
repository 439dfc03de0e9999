"""Break something on purpose, under load, and judge what clients saw."""
