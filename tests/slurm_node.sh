#!/usr/bin/env bash
# A real Slurm on this machine for as long as its standard input stays open, started by tests/launch_slurm_test.py as
#   unshare --mount --pid --fork --kill-child --mount-proc tests/slurm_node.sh PORT PORT
# What it installs, writes and starts exists in these namespaces only, and is gone with them. Says "ready", or exits with
# 77 where the packages cannot be had.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

resolv=$(cat /etc/resolv.conf) hosts=$(cat /etc/hosts)  # mounts or links into /run, which do not show below
mount -t tmpfs tmpfs /run
for part in etc usr var; do
  mkdir -p "/run/overlay/$part" "/run/overlay/$part-work"
  mount -t overlay overlay -o "lowerdir=/$part,upperdir=/run/overlay/$part,workdir=/run/overlay/$part-work" "/$part"
done
rm -f /etc/resolv.conf
echo "$resolv" > /etc/resolv.conf
echo "$hosts" > /etc/hosts

printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d  # the packages are not to start the daemons
chmod +x /usr/sbin/policy-rc.d
packages() { apt-get install -qq --no-install-recommends slurmctld slurmd slurm-client munge; }
{ packages || { apt-get update -qq && packages; }; } >&2 || exit 77

mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm /run/munge
chown munge:munge /run/munge
cat > /etc/slurm/slurm.conf <<CONF
ClusterName=one
SlurmctldHost=localhost
SlurmctldPort=$1
SlurmdPort=$2
SlurmUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
NodeName=localhost CPUs=$(nproc) State=UNKNOWN
PartitionName=debug Nodes=localhost Default=YES MaxTime=INFINITE State=UP
CONF
su -s /bin/sh munge -c munged
slurmctld -c
slurmd -N localhost
for _ in $(seq 60); do
  [ "$(sinfo --noheader --format=%T)" != idle ] || break
  sleep 0.5
done
sinfo >&2
echo ready
cat > /dev/null
