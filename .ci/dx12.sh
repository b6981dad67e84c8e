#!/usr/bin/env bash
# Runs the DX12 backend without Windows: a Windows build of wgpt under Wine, whose Direct3D 12 calls Vulkan on Mesa's lavapipe, with Microsoft's
# shader compiler FXC. Trains toy and compares the losses with those of Vulkan, then runs kernel tests.
# usage: .ci/dx12.sh [FILTER OF TESTS...]      WGPT: the path of a native wgpt, target/checked/wgpt by default
#
# Not part of .ci/run: the build takes 20 CPU minutes; Debian 12's Wine is too old, so Debian sid's is unpacked into a cache folder (2.5 GB) and
# not installed; and FXC comes from the npm package `webgpu`. Needs root, for a chroot and mounts in a namespace of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${WINE_ROOT:-$HOME/.cache/wgpt-wine}
shared=$folder/shared
target=x86_64-pc-windows-gnu
wgpt=${WGPT:-target/checked/wgpt}

# need PACKAGE...: installs those Debian packages that are missing.
need() {
    dpkg -s "$@" >/dev/null 2>&1 && return
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# Debian's Rust builds the standard library for Windows from source, where rustup has none. Building a test builds the program, too.
build() {
    need rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64
    local rust=(env -u RUSTUP_TOOLCHAIN -u CARGO_BUILD_TARGET PATH="/usr/bin:$PATH" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=target/dx12
        CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0)
    "${rust[@]}" cargo test --locked --release --test kernels --no-run --target $target \
        -Z build-std=std,panic_abort,panic_unwind,test,proc_macro --message-format=json-render-diagnostics >target/dx12/messages
}

fetch() {
    local mirror apt deb work
    # The mirror in this machine's apt configuration.
    mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/ 2>/dev/null | head -1 | tr -d ' ' || true)
    [[ -n $mirror ]] || { echo "dx12.sh: no mirror of Debian is named in /etc/apt" >&2; exit 1; }
    rm -rf "$folder"
    mkdir -p "$folder"/usr/{bin,sbin,lib,lib64} "$folder"/{lists/partial,archives/partial}
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$folder/$name"; done
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror%/} sid main" >"$folder/sources.list"
    # With an empty list of installed packages, apt downloads everything that Wine needs.
    apt=(apt-get -qq -oDir::Etc::sourcelist="$folder/sources.list" -oDir::Etc::sourceparts=- -oDir::State::Lists="$folder/lists"
        -oDir::State::status=/dev/null -oDir::Cache="$folder" -oAPT::Sandbox::User=root -oDebug::NoLocking=1)
    "${apt[@]}" update
    "${apt[@]}" install --yes --download-only --no-install-recommends wine wine64 libvkd3d1 mesa-vulkan-drivers libvulkan1 bash coreutils
    for deb in "$folder"/archives/*.deb; do
        # Of 32-bit Windows programs there are none here.
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$folder" --keep-directory-symlink --exclude='./usr/share/doc' --exclude='./usr/share/man' \
            --exclude='./usr/share/locale' --exclude='*/i386-windows/*'
    done
    rm -rf "$folder"/{lists,archives,sources.list,*.bin}
    ln -sf bash "$folder/usr/bin/sh"
    echo 'root:x:0:0:root:/root:/bin/bash' >"$folder/etc/passwd"
    work=$(mktemp -d)
    (cd "$work" && npm pack --silent webgpu@0.6.2 && tar -xzf webgpu-0.6.2.tgz package/dist/win32-x64/d3dcompiler_47.dll) >/dev/null
    mkdir "$folder/fxc"
    cp "$work/package/dist/win32-x64/d3dcompiler_47.dll" "$folder/fxc"
    rm -r "$work"
}

# inside COMMAND...: runs it in Wine's root; mounts and processes end with it.
inside() {
    # shellcheck disable=SC2016 # expanded inside
    unshare --mount --pid --fork --kill-child bash -c '
        for name in dev sys tmp; do mount --rbind /$name "$0/$name"; done
        mount -t proc proc "$0/proc"
        exec chroot "$0" "$@"' "$folder" env -i DISPLAY="$DISPLAY" HOME=/shared/home XDG_RUNTIME_DIR=/tmp USER=root LOGNAME=root \
        PATH=/usr/lib/x86_64-linux-gnu/wine:/usr/bin WINEPREFIX=/shared/prefix WINEDEBUG=-all WINEDLLOVERRIDES=d3dcompiler_47=n \
        VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json VK_LOADER_LAYERS_DISABLE='~implicit~' WGPU_BACKEND=dx12 "$@"
}

# A Windows of its own. Debian's Wine does not find its own zlib1.dll; without it nothing starts.
prefix() {
    mkdir -p "$shared/prefix/drive_c/windows/system32"
    cp "$folder/usr/x86_64-w64-mingw32ucrt/lib/zlib1.dll" "$shared/prefix/drive_c/windows/system32"
    inside bash -c "wine wineboot --init; wine reg add 'HKCU\Software\Wine\Direct3D' /v renderer /d vulkan /f; wineserver -w" >/dev/null 2>&1
}

mkdir -p target/dx12
build
[[ -e $folder/fxc ]] || fetch
need xvfb
rm -rf "$shared"
mkdir -p "$shared"/home
# Without a display Wine's Vulkan does not start. Xvfb picks a free one and writes its number.
screen=$(mktemp)
Xvfb -displayfd 3 -noreset -screen 0 640x480x24 3>"$screen" >/dev/null 2>&1 &
trap 'kill %1; rm -rf "$screen" "$shared"' EXIT
for _ in $(seq 50); do [[ -s $screen ]] && break || sleep 0.2; done
DISPLAY=:$(cat "$screen")
prefix

cp target/dx12/$target/release/wgpt.exe "$folder/fxc/d3dcompiler_47.dll" "$shared"
cp "$(sed -n 's/.*"name":"kernels".*"executable":"\([^"]*\)".*/\1/p' target/dx12/messages | tail -1)" "$shared/kernels.exe"
inside wine /shared/wgpt.exe devices
run=(train --preset toy --set train.log_every=10 --json)
inside wine /shared/wgpt.exe "${run[@]}" --backend dx12 --out 'Z:\shared\run' | tail -1
"$wgpt" "${run[@]}" --backend vulkan --out "$shared/native" | tail -1
python3 .ci/same.py losses "$shared"/{native,run}/metrics.jsonl
filters=("$@")
((${#filters[@]})) || filters=(layer_norm:: adamw:: loss:: embedding::odd_sizes attention_map::odd_sizes)
inside wine /shared/kernels.exe --test-threads=1 "${filters[@]}"
