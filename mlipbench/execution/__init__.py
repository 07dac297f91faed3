"""Running models: one client a worker, the policy for what a worker does wrong, and the engines that share out work."""
