#!/bin/sh
# Make a base image for workers where no image registry is reachable: Debian's own Python, by debootstrap.
#
#   docker/build_base.sh [IMAGE] && dynasaur-mcp image build --base IMAGE
#
# IMAGE is dynasaur-base:SUITE by default. Needs root, debootstrap and the docker command. SUITE (bookworm) and MIRROR (the one
# this machine's apt uses, else debootstrap's own choice) can be set in the environment; MIRROR may be file:///… for no network.
set -eu

suite=${SUITE:-bookworm}
image=${1:-dynasaur-base:$suite}
root=$(mktemp -d "${TMPDIR:-/tmp}/dynasaur-base.XXXXXX")
trap 'rm -rf "$root"' EXIT INT TERM

# The address that apt takes this suite from: "http://… suite/main amd64 Packages" among its index targets.
mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null | awk -v suite="$suite" '$2 == suite { print $1; exit }')}

# python3-minimal lacks parts of the standard library; --no-check-valid-until has no place here: debootstrap checks signatures.
debootstrap --variant=minbase --include=python3,ca-certificates "$suite" "$root/root" ${mirror:+"$mirror"} >&2
rm -rf "$root"/root/var/cache/apt/* "$root"/root/var/lib/apt/lists/* "$root"/root/usr/share/doc/* "$root"/root/usr/share/man/*
tar -C "$root/root" --exclude './dev/*' --exclude './proc/*' --exclude './sys/*' -c . | docker import - "$image" >&2
echo "$image"
