#!/usr/bin/env bash
# Simulates a workstation with GPUs of two vendors by software Vulkan drivers: two lavapipe (Mesa) and
# one SwiftShader (Google, in the package chromium). Prints the value for VK_ICD_FILENAMES, or
# nothing, with the reason on stderr. Usage: software_adapters.sh FOLDER
set -eu
folder=$1
mkdir -p "$folder"
icds=""

add() { # name, library
  printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.0"}}\n' "$2" > "$folder/$1.json"
  icds="${icds:+$icds:}$folder/$1.json"
}

lavapipe=$(find /usr/lib -name 'libvulkan_lvp.so' 2>/dev/null | head -n 1)
swiftshader=$(find /usr/lib/chromium -name 'libvk_swiftshader.so' 2>/dev/null | head -n 1)

if [ -n "$lavapipe" ]; then
  add lavapipe0 "$lavapipe"
  # The loader opens a library only once; a copy under another name is a second driver.
  cp -u "$lavapipe" "$folder/libvulkan_lvp_copy.so"
  add lavapipe1 "$folder/libvulkan_lvp_copy.so"
else
  echo "no lavapipe: install mesa-vulkan-drivers" >&2
fi
if [ -n "$swiftshader" ]; then
  add swiftshader "$swiftshader"
else
  echo "no SwiftShader: install chromium" >&2
fi
printf '%s\n' "$icds"
