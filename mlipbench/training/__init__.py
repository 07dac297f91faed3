"""Training of networks, as a process of its own: ``python -m mlipbench.training JOB``."""
