"""A package's own command in a process that does not outlive the training: ``child.py PID MODULE [ARGUMENT...]``.

``PID`` is the process to end with; ``MODULE`` is run as ``python -m MODULE`` runs it.
"""

from __future__ import annotations

import runpy
import sys

from mlipbench.worker.main import die_with_parent


def main() -> None:
    """Run the module of the command line, whose arguments become those of the process."""
    _, parent, module, *arguments = sys.argv
    die_with_parent(int(parent))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
