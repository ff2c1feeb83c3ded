#!/bin/sh
# Removes what nothing that runs reads from an environment:  sh slim.sh ENVIRONMENT
#
# C++ headers (430 MB of TensorFlow's), the packages' own tests and their data, and the symbol tables that only debuggers
# read (250 MB of TensorFlow's). Bytecode stays: importing the libraries takes 44 s of processor time without it and 16 s with it.
set -eu
packages=$(echo "$1"/lib/python3*/site-packages)

rm -rf "$packages/tensorflow/include" "$packages/pyarrow/include" "$packages/pyarrow/src" "$packages/numpy/_core/include"
find "$packages" -name "*.a" -delete
# Named one by one: keras and TFDV, say, import folders of that name.
for package in h5py IPython matplotlib numpy pandas psutil pyarrow scipy sklearn google/genai; do
    find "$packages/$package" -depth -type d -name tests -exec rm -rf {} \;
done
rm -rf "$packages/tfx/components/testdata"
# Not what auditwheel has patched (NAME.libs): strip would move its segments.
find "$packages" -name "*.so*" -size +4M ! -path "*.libs/*" -exec strip --strip-unneeded {} +
