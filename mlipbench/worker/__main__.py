"""``python -m mlipbench.worker --in FD --out FD``."""

from mlipbench.worker.main import main

if __name__ == "__main__":
    main()
