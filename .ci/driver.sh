#!/bin/sh
# Installs Mesa's software Vulkan driver if this machine has no Vulkan driver at all. Linux with apt only; does nothing on
# macOS and Windows, which have a GPU interface of their own. The program prints what to install if there is none.
set -eu
[ "$(uname -s)" = Linux ] || exit 0

# Whether any of the given files exists; a pattern without a match is passed on literally and does not exist.
any() { for file; do [ -e "$file" ] && return; done; return 1; }
loader() { any /usr/lib/*/libvulkan.so.1 /usr/lib/libvulkan.so.1 /usr/lib64/libvulkan.so.1; }
manifest() { [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] || any /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json; }

if loader && manifest; then exit 0; fi
echo "driver: this machine has no Vulkan driver; installing Mesa's software driver (mesa-vulkan-drivers), which runs on the CPU" >&2
if ! command -v apt-get >/dev/null 2>&1; then
    echo "driver: no apt-get here: install a Vulkan driver and loader with your package manager" >&2
    exit 1
fi
root=
[ "$(id -u)" = 0 ] || root=sudo
$root apt-get -qq update
DEBIAN_FRONTEND=noninteractive $root apt-get -qq install -y --no-install-recommends mesa-vulkan-drivers libvulkan1 >/dev/null
