"""Where binaries and images come from: official download, Go modules, a directory."""
