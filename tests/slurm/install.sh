#!/bin/sh
# Puts Debian's SLURM and munge under build/slurm/root, for tests/test_slurm.py. Nothing of the system changes: the packages
# and what they lack here are downloaded with apt-get and unpacked, not installed, so root is not needed either.
# Run from the checkout's root; instant when done before; exits 1 with the reason in its last line where it cannot be had.
set -eu
packages="slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
folder=$PWD/build/slurm

[ -e "$folder/ready" ] && exit 0
for program in apt-get dpkg-deb; do
    command -v "$program" >/dev/null || { echo "no $program: SLURM is unpacked from Debian's packages" >&2; exit 1; }
done

rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial" "$folder/debs" "$folder/root"
cd "$folder/debs"
log=$folder/apt/log

apt() {
    apt-get -q -o "Dir::State::Lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User= "$@" >>"$log" 2>&1 && return
    tail -n 5 "$log" >&2
    echo "Debian's SLURM packages could not be downloaded (apt-get $1 failed, see $log)" >&2
    exit 1
}

apt update
apt install --simulate --no-install-recommends $packages
missing=$(awk '$1 == "Inst" { print $2 }' "$log")
apt download $(printf '%s\n' $packages $missing | sort -u)
for deb in *.deb; do
    dpkg-deb --extract "$deb" "$folder/root"
done
# As Debian's installation does. SLURM's daemons know what they are by the name that they are called by.
for program in slurmctld slurmd slurmstepd; do
    ln -s "$program-wlm" "$folder/root/usr/sbin/$program"
done
rm -rf "$folder/apt" "$folder/debs"
touch "$folder/ready"
