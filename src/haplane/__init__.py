"""haplane: highly available Kubernetes control planes, proven by breaking them on purpose."""
