"""haplane: highly available Kubernetes control planes, proven by breaking them on purpose."""

__version__ = "0.1.0"
