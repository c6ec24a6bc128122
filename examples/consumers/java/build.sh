#!/bin/sh
# Fetch the jars that Consumer.java needs, check their digests, and compile it.
# usage: build.sh FOLDER   then: java -cp "FOLDER:FOLDER/jars/*" Consumer
set -eu
mkdir -p "$1"
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
for tool in java javac mvn; do
    command -v "$tool" >/dev/null || {
        echo "$tool is not here: the Java consumer is not built"
        exit 0
    }
done

mvn --quiet --batch-mode -Dstyle.color=never --file="$here/pom.xml" dependency:copy-dependencies \
    -DoutputDirectory="$out/fetched" -DincludeScope=runtime
# No jar but those with a digest, and each of those.
[ "$(ls "$out/fetched" | wc -l)" -eq "$(wc -l <"$here/jars.sha256")" ] || {
    echo "jars.sha256 does not list the jars that were fetched" >&2
    exit 1
}
(cd "$out/fetched" && sha256sum --quiet --check "$here/jars.sha256")
rm -rf "$out/jars"
mv "$out/fetched" "$out/jars"
javac -Xlint:all -d "$out" -cp "$out/jars/*" "$here/Consumer.java"
