"""Cards of SevenNet for mlipbench, which finds them by the entry point and imports nothing of this package."""
