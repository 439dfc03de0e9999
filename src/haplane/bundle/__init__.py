"""Where binaries and images come from: official download, Go modules, a directory.

`obtain` returns a bundle whose every byte was verified: from the cache, or made by the first source that works.
"""

from haplane.bundle.directory import export
from haplane.bundle.host import host_architecture
from haplane.bundle.obtaining import check_sources, find, obtain
from haplane.bundle.store import Bundle, verify

__all__ = ["Bundle", "check_sources", "export", "find", "host_architecture", "obtain", "verify"]
