#!/usr/bin/env bash
# Runs a program on a Vulkan driver of Mesa 26, unpacked from Debian's trixie-backports into a cache folder and not installed:
#   lvp       lavapipe, which executes cooperative matrices of 8 x 8
#   nouveau   NVK, the driver of NVIDIA's cards, which benches/isa needs (see .ci/isa.sh)
# usage: .ci/mesa26.sh lvp|nouveau PROGRAM [ARGUMENT...]      PRELOAD: a shared library for the program to load first
#
# These drivers need a newer C library than Debian 12's. It is unpacked with them, and its dynamic loader starts the program, which must be
# dynamically linked for x86-64. Programs that it starts in turn have the system's C library and drivers again.
set -euo pipefail
folder=${MESA26:-$HOME/.cache/wgpt-mesa26}
libraries=$folder/usr/lib/x86_64-linux-gnu

fetch() {
    local mirror apt suite deb
    # The mirror in this machine's apt configuration.
    mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/ 2>/dev/null | head -1 | tr -d ' ' || true)
    [[ -n $mirror ]] || { echo "mesa26.sh: no mirror of Debian is named in /etc/apt: add one, or set MESA26 to an unpacked folder" >&2; exit 1; }
    rm -rf "$folder"
    mkdir -p "$folder"/usr/{bin,sbin,lib,lib64} "$folder"/{lists/partial,archives/partial}
    # Debian's packages expect /lib and its like to be links into /usr.
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$folder/$name"; done
    for suite in trixie trixie-backports; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror%/} $suite main"
    done >"$folder/sources.list"
    # With an empty list of installed packages, apt downloads every library that the drivers need.
    apt=(apt-get -qq -oDir::Etc::sourcelist="$folder/sources.list" -oDir::Etc::sourceparts=- -oDir::State::Lists="$folder/lists"
        -oDir::State::status=/dev/null -oDir::Cache="$folder" -oAPT::Sandbox::User=root -oDebug::NoLocking=1)
    "${apt[@]}" update
    "${apt[@]}" install --yes --download-only --no-install-recommends --target-release trixie-backports \
        mesa-vulkan-drivers libvulkan1 libdrm-dev
    for deb in "$folder"/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$folder" --keep-directory-symlink --exclude='./usr/share/*'
    done
    rm -rf "$folder"/{lists,archives,sources.list,*.bin}
    for name in lvp nouveau; do
        printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.4.0"}}\n' \
            "$libraries/libvulkan_$name.so" >"$folder/$name.json"
    done
}

[[ -e $folder/nouveau.json ]] || fetch
driver=$folder/${1:?"the driver, lvp or nouveau"}.json
[[ -e $driver ]] || { sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2; }
program=$(type -P "${2:?"the program"}") || { echo "mesa26.sh: there is no program $2" >&2; exit 2; }
shift 2
export VK_DRIVER_FILES=$driver VK_ICD_FILENAMES=$driver
exec "$libraries/ld-linux-x86-64.so.2" ${PRELOAD:+--preload "$PRELOAD"} --library-path "$libraries" "$program" "$@"
