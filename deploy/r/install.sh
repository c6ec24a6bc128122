#!/bin/sh
# Install R with IRkernel from Debian's packages, and a kernelspec `ir`.
# usage: install.sh PREFIX   the environment to register the kernel in
set -eu
prefix=$(cd "$1" && pwd)
specs=$prefix/share/jupyter/kernels

has_kernel() { command -v Rscript >/dev/null && Rscript -e 'loadNamespace("IRkernel")' >/dev/null 2>&1; }

has_kernel || "$(dirname "$0")/../debian/install.sh" r-base-core r-cran-irkernel r-cran-jsonlite

# It asks the program `jupyter` to do it, which must be the one of the environment.
PATH=$prefix/bin:$PATH Rscript -e "IRkernel::installspec(prefix = '$prefix')" >/dev/null
[ -f "$specs/ir/kernel.json" ]
echo "Installed the R kernel in $specs/ir"
