"""``python -m mlipbench.training JOB``."""

from mlipbench.training.main import main

if __name__ == "__main__":
    main()
