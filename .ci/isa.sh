#!/usr/bin/env bash
# Statistics of AMD's shader compiler for every kernel (see benches/isa): registers, spills, waves, multiply-adds. Fails if a kernel spills.
# usage: .ci/isa.sh [--record | ARGUMENT OF benches/isa...]      --record: rewrite benches/record/radv-*.csv
# The compiler is Mesa's RADV from Debian's backports, unpacked into a cache folder and not installed; it needs no AMD card.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${RADV:-$HOME/.cache/wgpt-radv}
libraries=$folder/usr/lib/$(uname -m)-linux-gnu

if [[ ! -e $folder/icd.json ]]; then
    rm -rf "$folder"
    mkdir -p "$folder"/{lists/partial,archives/partial}
    # The mirror in this machine's apt configuration.
    mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/ 2>/dev/null | head -1 | tr -d ' ' || true)
    [[ -n $mirror ]] || { echo "isa.sh: no mirror of Debian is named in /etc/apt: add one, or set RADV to a folder with icd.json" >&2; exit 1; }
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$key] ${mirror%/} bookworm-backports main" >"$folder/sources.list"
    apt=(apt-get -qq -oDir::Etc::sourcelist="$folder/sources.list" -oDir::Etc::sourceparts=- -oDir::State::Lists="$folder/lists"
        -oDir::Cache="$folder" -oAPT::Sandbox::User=root)
    "${apt[@]}" update
    (cd "$folder" && "${apt[@]}" download mesa-vulkan-drivers libdrm2 libdrm-amdgpu1 && for deb in *.deb; do dpkg -x "$deb" .; done)
    rm -rf "$folder"/{*.deb,lists,archives,sources.list}
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' \
        "$libraries/libvulkan_radeon.so" >"$folder/icd.json"
fi

# Its other shared libraries are those of the system's mesa-vulkan-drivers.
if LD_LIBRARY_PATH=$libraries ldd "$libraries/libvulkan_radeon.so" | grep -q "not found" || ! ldconfig -p | grep -q libvulkan.so.1; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends mesa-vulkan-drivers libvulkan1 >/dev/null
fi

# ISA: the path of the program, if it is already built.
[[ -n ${ISA:-} ]] || cargo build --profile checked --quiet --package isa
isa() {
    RADV_FORCE_FAMILY=$card VK_DRIVER_FILES=$folder/icd.json VK_ICD_FILENAMES=$folder/icd.json LD_LIBRARY_PATH=$libraries \
        "${ISA:-target/checked/isa}" "$@" 2> >(grep -v ac_compute_device_uuid >&2)
}
for card in navi31 navi21; do
    if [[ ${1:-} == --record ]]; then
        isa --csv >"benches/record/radv-$card.csv"
    else
        isa "$@"
    fi
done
