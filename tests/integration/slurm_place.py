"""A SLURM of this machine alone: one controller, one node, no accounting."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={controller}
SlurmdPort={node}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
InactiveLimit=0
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=closed Nodes={host} State=DOWN AllowAccounts=nobody
"""


def missing() -> list[str]:
    """Return what this machine lacks for a SLURM of its own."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    found = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return [*found, *([] if os.geteuid() == 0 else ["root"])]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Slurm:
    """Starts the daemons and ends them.

    Args:
        folder: Where all their files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(
            host=host, folder=self.folder, controller=free_port(), node=free_port(), cpus=os.cpu_count()
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text("")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={files['socket']}",
            f"--pid-file={files['pid']}", f"--log-file={files['log']}", f"--seed-file={files['seed']}",
        )  # fmt: skip
        self.wait(files["socket"].exists)
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", host)
        self.wait(lambda: "idle" in self.command("sinfo", "--noheader", "--partition=main", "--format=%T"))

    def command(self, *arguments: str) -> str:
        """Return what one of SLURM's commands prints; nothing where it fails."""
        done = subprocess.run(arguments, env={**os.environ, **self.env}, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    def jobs(self) -> list[str]:
        """Return the numbers of the jobs that run."""
        return self.command("squeue", "--noheader", "--states=RUNNING", "--format=%A").split()

    def wait(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            assert not ended, (ended, self.logs())
            assert time.monotonic() < limit, self.logs()
            time.sleep(0.1)

    def logs(self) -> str:
        """Return the last lines of all logs."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        self.command("scancel", "--user=root")
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _daemon(self, *arguments: str) -> None:
        out = (self.folder / f"{arguments[0]}.out.log").open("ab")
        process = subprocess.Popen(
            arguments, env={**os.environ, **self.env}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        out.close()
        self._daemons.append(process)
