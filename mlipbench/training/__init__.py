"""Training of our own networks, as a process of its own: ``python -m mlipbench.training JOB``."""
