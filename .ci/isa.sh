#!/usr/bin/env bash
# Statistics of Mesa's shader compilers for AMD and NVIDIA for every kernel (see benches/isa): registers, spills, subgroups in flight, multiply-adds.
# Prints a table for each card; fails if a kernel spills.
# usage: .ci/isa.sh [--record | ARGUMENT OF benches/isa...]      --record: rewrite benches/record/radv-*.csv and nak-*.csv instead
#        CARDS: some of navi31 navi21 hopper ada, all by default. ISA: the path of the program, if it is already built
# The compilers are those of Mesa's drivers RADV (25, from Debian's backports) and NVK (26, see .ci/mesa26.sh), unpacked into cache folders
# and not installed. They need no card.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${RADV:-$HOME/.cache/wgpt-radv}
libraries=$folder/usr/lib/$(uname -m)-linux-gnu

fetch_radv() {
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
}

amd() {
    [[ -e $folder/icd.json ]] || fetch_radv
    # Its other shared libraries are those of the system's mesa-vulkan-drivers.
    if LD_LIBRARY_PATH=$libraries ldd "$libraries/libvulkan_radeon.so" | grep -q "not found" || ! ldconfig -p | grep -q libvulkan.so.1; then
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends mesa-vulkan-drivers libvulkan1 >/dev/null
    fi
    RADV_FORCE_FAMILY=$card VK_DRIVER_FILES=$folder/icd.json VK_ICD_FILENAMES=$folder/icd.json LD_LIBRARY_PATH=$libraries \
        "$isa" "$@" 2> >(grep -v ac_compute_device_uuid >&2)
}

nvidia() {
    local mesa26=${MESA26:-$HOME/.cache/wgpt-mesa26} shim
    bash .ci/mesa26.sh nouveau true
    shim=$mesa26/nvshim.so
    if [[ benches/isa/nvshim.c -nt $shim ]]; then
        cc -O1 -Wall -shared -fPIC -isystem "$mesa26/usr/include" -isystem "$mesa26/usr/include/libdrm" -o "$shim" benches/isa/nvshim.c
    fi
    NVSHIM_CARD=$card NVSHIM_FILE=$mesa26/nvshim.node NVK_I_WANT_A_BROKEN_VULKAN_DRIVER=1 PRELOAD=$shim \
        bash .ci/mesa26.sh nouveau "$isa" "$@" 2> >(grep -v "NVK is not a conformant" >&2)
}

isa=${ISA:-target/checked/isa}
[[ -n ${ISA:-} ]] || cargo build --profile checked --quiet --package isa
failed=0
for card in ${CARDS:-navi31 navi21 hopper ada}; do
    case $card in
        navi*) run=amd file=radv-$card ;;
        *) run=nvidia file=nak-$card ;;
    esac
    # A failure on one card does not hide those on the others.
    if [[ ${1:-} == --record ]]; then
        $run --csv >"benches/record/$file.csv" || failed=1
    else
        $run "$@" || failed=1
    fi
done
exit $failed
