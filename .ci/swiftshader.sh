#!/usr/bin/env bash
# Runs a command on SwiftShader, a second, independent software Vulkan driver, extracted from Debian's chromium-common package.
set -euo pipefail
folder=${SWIFTSHADER:-$HOME/.cache/wgpt-swiftshader}
if [[ ! -e $folder/icd.json ]]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    apt-get -qq update
    (cd "$folder" && apt-get -qq download chromium-common && dpkg -x chromium-common_*.deb . && rm chromium-common_*.deb)
    library=$(find "$folder" -name libvk_swiftshader.so | head -1)
    [[ -n $library ]] || { echo "swiftshader: chromium-common holds no libvk_swiftshader.so" >&2; exit 1; }
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' "$library" >"$folder/icd.json"
fi
export VK_DRIVER_FILES=$folder/icd.json VK_ICD_FILENAMES=$folder/icd.json
exec "$@"
