#!/bin/sh
# Starts a Slurm of three nodes on this machine, in the given folder: two A100 and a T4, by their features.
set -eu
folder=$1
host=$(hostname -s)
mkdir -p "$folder/state" "$folder/run"
chmod 755 "$folder" "$folder/run"
dd if=/dev/urandom bs=1024 count=1 of="$folder/munge.key" 2>/dev/null
chmod 400 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/run/munge.sock" --pid-file="$folder/run/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/run/seed"
cat >"$folder/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.sock
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
SlurmctldPort=17301
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17311 CPUs=2 Features=A100
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17312 CPUs=2 Features=A100
NodeName=n3 NodeHostname=$host NodeAddr=127.0.0.1 Port=17313 CPUs=2 Features=T4
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
slurmctld
for node in n1 n2 n3; do
    mkdir -p "$folder/spool-$node"
    slurmd -N "$node"
done
