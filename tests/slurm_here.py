"""A real Slurm on this machine, started without systemd: one node, two cores, two counted GPUs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("sbatch", "squeue", "slurmctld", "slurmd", "munged")
MAX_ARRAY_SIZE = 4

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={port}
SlurmdPort={next_port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
MaxArraySize={arrays}
MinJobAge=5
KillWait=3
SchedulerParameters=sched_interval=1,bf_interval=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:2
"""


def skip_without_slurm() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        reason = f"missing: {', '.join(missing)}" if missing else "needs root to start daemons"
        pytest.skip(f"no Slurm here ({reason}); apt-get install slurmctld slurmd munge")


class SlurmHere:
    """The daemons, in a folder of their own.

    Args:
        folder: theirs.
        hidden: a folder that is empty for the node, as if the machines did not share it.
    """

    def __init__(self, folder: Path, hidden: Path | None = None):
        self.hidden = hidden
        self.folder, self.node = folder, socket.gethostname().partition(".")[0]
        for name in ("state", "spool", "munge"):
            (folder / name).mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = _CONFIGURATION.format(
            host=self.node, folder=folder, port=port, next_port=port + 1, arrays=MAX_ARRAY_SIZE
        )
        self.configuration = folder / "slurm.conf"
        self.configuration.write_text(text)
        devices = [folder / f"gpu{number}" for number in range(2)]  # counted, not there
        for device in devices:
            device.touch()
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")
        key = folder / "munge" / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    def __enter__(self) -> Self:
        munge = self.folder / "munge"
        names = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        places = [f"--{option}={munge / name}" for option, name in names.items()]
        self._call("munged", "--force", f"--key-file={munge / 'munge.key'}", *places)
        self._call("slurmctld", "-f", str(self.configuration))
        self._call(*self._apart(), "slurmd", "-f", str(self.configuration))
        until = time.monotonic() + 60
        while "idle" not in self.call("sinfo", "--noheader", "--format=%T"):
            if time.monotonic() > until:  # for instance where a machine's name has no address
                log = (self.folder / "slurmctld.log").read_text()[-2000:]
                pytest.skip(f"Slurm is installed but does not start here: {log}")
            time.sleep(0.2)
        return self

    def __exit__(self, *error: object) -> None:
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            path = self.folder / name
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)

    def _apart(self) -> list[str]:
        """A command that starts another one with the hidden folder covered by an empty one."""
        if self.hidden is None:
            return []
        cover = 'mount -t tmpfs none "$0" && exec "$@"'
        return ["unshare", "--mount", "bash", "-c", cover, str(self.hidden)]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SLURM_CONF": str(self.configuration)}

    def call(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    def elements(self) -> list[str]:
        """Running elements of arrays, as JOB_INDEX."""
        return self.call("squeue", "--noheader", "--array", "--states=R", "--format=%i").split()

    def _call(self, *words: str) -> None:
        done = subprocess.run(
            words, env=self.environment, check=False, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"Slurm is installed but {words[0]} does not start here: {done.stderr}")
