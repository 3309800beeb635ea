#!/bin/bash
# Runs one small sweep on this machine, then by each engine that is installed (GNU parallel; HyperQueue as the Python package
# `hyperqueue`; Slurm, whose daemons are started here, without systemd and munge), and compares the joined CSV byte for byte.
#
#   experiments/tools/engines.sh BINARY [FOLDER] [ENGINE...]
#
# ENGINE is parallel, hyperqueue or slurm; without any, those that are installed. PYTHON names the interpreter that has
# hyperqueue. Slurm needs the packages slurmctld, slurmd and slurm-client, and root. Nothing listens beyond loopback but HyperQueue's server.
set -euo pipefail

binary=$(realpath "$1")
work=$(realpath -m "${2:-$(mktemp -d)}")
shift $(($# < 2 ? $# : 2))
python=${PYTHON:-python3}
engines=("$@")
if [ ${#engines[@]} -eq 0 ]; then
    if command -v parallel >/dev/null; then engines+=(parallel); fi
    if "$python" -c 'import hyperqueue' 2>/dev/null; then engines+=(hyperqueue); fi
    if command -v slurmctld >/dev/null && [ "$(id -u)" -eq 0 ]; then engines+=(slurm); fi
fi
mkdir -p "$work"
cd "$work"

plan() { "$binary" sweep plan smoke --out "$@"; }

compare() {
    "$binary" sweep status "$1/smoke"
    "$binary" sweep collect "$1/smoke" >/dev/null 2>&1
    for file in episodes.csv eval.csv train.csv summary.csv; do cmp "local/smoke/$file" "$1/smoke/$file"; done
    echo "$1: the same bytes as here, in $(($(date +%s) - began)) s"
}

run_parallel() {
    plan parallel >/dev/null
    "$binary" sweep emit parallel parallel/smoke --concurrent 2 >parallel.sh
    bash parallel.sh
    # Once more, each task's number from PARALLEL_SEQ, three tasks for all cells: nothing is left to do.
    seq 3 | parallel "$binary" sweep cell --manifest parallel/smoke/manifest.jsonl --stride 3 '#' {} |
        { ! grep -v '^already done'; }
}

run_hyperqueue() {
    plan hyperqueue >/dev/null
    "$binary" sweep emit hyperqueue hyperqueue/smoke | bash -n
    # The Python package has server and worker, but not the command `hq`: the tasks are submitted through it.
    "$python" - "$binary" <<'PYTHON'
import pathlib, sys
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

cell = [sys.argv[1], "sweep", "cell", "--manifest", str(pathlib.Path("hyperqueue/smoke/manifest.jsonl").resolve())]
with LocalCluster(server_dir=str(pathlib.Path("hq").resolve())) as cluster:
    cluster.start_worker(WorkerConfig(cores=2))
    client = cluster.client()
    job = Job(max_fails=0)
    for _ in range(8):
        # HyperQueue says the number in HQ_TASK_ID.
        job.program(cell, stdout=None, stderr="hq-%{TASK_ID}.err", cwd=".")
    client.wait_for_jobs([client.submit(job)])
PYTHON
}

run_slurm() {
    local host state=$work/slurm-daemons
    host=$(hostname -s)
    mkdir -p "$state/state" "$state/spool"
    cat >"$state/slurm.conf" <<CONF
ClusterName=steadfast
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
JobCompType=jobcomp/none
CommunicationParameters=NoInAddrAny
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$state/state
SlurmdSpoolDir=$state/spool
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
ReturnToService=2
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF=$state/slurm.conf
    slurmctld -D >"$state/slurmctld.log" 2>&1 &
    daemons=($!)
    slurmd -D -N "$host" >"$state/slurmd.log" 2>&1 &
    daemons+=($!)
    trap 'kill "${daemons[@]}" 2>/dev/null; wait "${daemons[@]}" 2>/dev/null || true' EXIT
    for _ in $(seq 60); do
        sinfo --noheader --format=%t 2>/dev/null | grep -q idle && break
        sleep 0.5
    done
    plan slurm >/dev/null
    local job
    job=$("$binary" sweep submit slurm slurm/smoke --time 10:00 --grace 60 --concurrent 2)
    echo "submitted job $job"
    ended "$job"
    # Longer cells, which Slurm tells that time is up: they checkpoint, go back to the queue, and go on.
    plan requeued --steps 400k --seeds 1 >/dev/null
    job=$("$binary" sweep submit slurm requeued/smoke --time 10:00 --grace 60)
    until grep -qs . requeued/smoke/ppo/*/seed-0.part-*/train.csv; do sleep 0.1; done
    # It may complain about tasks that are just ending. What is requeued waits for two minutes.
    scancel --signal=USR1 --batch "$job" 2>/dev/null || true
    ended "$job"
    "$binary" sweep run smoke --steps 400k --seeds 1 --out undisturbed --quiet >/dev/null 2>&1
    "$binary" sweep collect requeued/smoke >/dev/null 2>&1
    for file in episodes.csv eval.csv train.csv; do cmp "undisturbed/smoke/$file" "requeued/smoke/$file"; done
    echo "slurm: $(cat requeued/smoke/slurm-*.log | grep -c 'interrupted; try again') cells were stopped and requeued: the same bytes"
    kill "${daemons[@]}" && wait "${daemons[@]}" 2>/dev/null || true
    trap - EXIT
}

ended() {
    for _ in $(seq 600); do
        [ -z "$(squeue --noheader --job "$1" 2>/dev/null)" ] && return
        sleep 0.5
    done
    echo "job $1 does not end" >&2
    return 1
}

began=$(date +%s)
"$binary" sweep run smoke --out local --quiet >/dev/null 2>&1
echo "here: $(($(date +%s) - began)) s"
for engine in "${engines[@]}"; do
    began=$(date +%s)
    "run_$engine"
    compare "$engine"
done
