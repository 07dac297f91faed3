"""The child process that converts one foreign file: ``python -m mlipbench.datasets.convert JOB``.

The job is a JSON file. Problems go to ``error.json`` in the output folder; standard output is not used.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any, Final

ERROR: Final = "error.json"
MAPPED: Final = (
    ".lmdb",
    ".aselmdb",
    ".npy",
)  # of `mlipbench.datasets.readers.Format`, which is too heavy to import


def main(job_path: str) -> int:
    """Convert the file a job names; return 0, or 1 after writing what is wrong to ``error.json``."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    output = Path(job["output"])
    output.mkdir(parents=True)
    limit = job["memory"] + _mapped(Path(job["file"]))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    problem = _convert(job, output)
    if problem is None:
        return 0
    (output / ERROR).write_text(json.dumps(problem), encoding="utf-8")
    return 1


def _mapped(path: Path) -> int:
    """Return the address space that a file takes which is mapped as a whole: that is no memory."""
    return path.stat().st_size if path.name.endswith(MAPPED) and path.is_file() else 0


def _convert(job: dict[str, Any], output: Path) -> dict[str, Any] | None:
    """Return what is wrong, or None."""
    try:
        # inside, because the memory limit holds for imports as well
        from mlipbench.datasets.children import JobKind
        from mlipbench.datasets.factor_files import write_factors
        from mlipbench.datasets.readers import read
        from mlipbench.datasets.records import Reading
        from mlipbench.datasets.writer import ColumnarWriter
        from mlipbench.errors import MlipbenchError
    except ImportError as error:
        return {"kind": "package", "problem": str(error)}
    try:
        if job["kind"] == JobKind.FACTORS:
            write_factors(Path(job["file"]), output, job["reading"])
        else:
            with ColumnarWriter(output) as writer:
                for chunk in read(Path(job["file"]), Reading.from_json(job["reading"]), job["label"]):
                    writer.append(chunk.structures, chunk.labels, chunk.clusters)
    except MlipbenchError as error:
        kind = type(error).__name__
        described = {"problem": error.problem, "where": error.where, "remedy": error.remedy}
        return {"kind": kind, "file": str(error.file or job["file"])} | described
    except MemoryError:
        return {"kind": "memory"}
    except ModuleNotFoundError as error:
        return {"kind": "package", "problem": str(error)}
    except OSError as error:
        return {"kind": "os", "errno": error.errno, "problem": error.strerror or str(error)}
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
