"""``python -m mlipbench``."""

import sys

from mlipbench.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
