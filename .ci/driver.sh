#!/bin/sh
# Installs Mesa's software Vulkan driver if this machine has no Vulkan driver at all. Linux with apt only; elsewhere it does nothing:
# macOS and Windows bring a GPU interface of their own, and the program says what to install where there is none.
set -eu
[ "$(uname -s)" = Linux ] || exit 0

loader() { ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || ls /usr/lib/*/libvulkan.so.1 /usr/lib/libvulkan.so.1 >/dev/null 2>&1; }
manifest() { ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json >/dev/null 2>&1 || [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; }

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
