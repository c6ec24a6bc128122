#!/bin/sh
# Install the Scala kernel: the compiler's jars from their Maven artifacts, the interpreter
# compiled with them, and a kernelspec `scala`.
# usage: install.sh PREFIX   the environment to install into; its bin/python runs the kernel
set -eu
prefix=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
home=$prefix/share/nbledger-scala
specs=$prefix/share/jupyter/kernels

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
command -v "$java" >/dev/null || {
    echo "Scala needs Java 11 or newer (on Debian and Ubuntu: apt install default-jre-headless)" >&2
    exit 1
}
release=$("$java" -XshowSettings:properties -version 2>&1 \
    | sed -n 's/^ *java.specification.version = //p')
[ "${release%%.*}" -ge 11 ] || { echo "Scala needs Java 11 or newer; this is $release" >&2; exit 1; }

# What it is made of; nothing is to be done when it is the same.
stamp=$(cat "$here/pom.xml" "$here/Interpreter.scala" "$0" | cksum)
stamp="$stamp $release"
if [ "$(cat "$home/stamp" 2>/dev/null)" = "$stamp" ] && [ -f "$specs/scala/kernel.json" ]; then
    echo "The Scala kernel is installed in $home"
    exit 0
fi
command -v mvn >/dev/null || {
    echo "Scala's compiler is fetched by Maven (on Debian and Ubuntu: apt install maven)" >&2
    exit 1
}

rm -rf "$home"
mkdir -p "$home"
mvn --quiet --batch-mode --file="$here/pom.xml" dependency:copy-dependencies \
    -DoutputDirectory="$home/jars" -DincludeScope=runtime
jars=$(printf '%s:' "$home"/jars/*.jar)
"$java" -cp "$jars" scala.tools.nsc.Main -usejavacp -d "$home/interpreter.jar" \
    "$here/Interpreter.scala"
printf '%s%s\n' "$jars" "$home/interpreter.jar" >"$home/classpath"

# An archive of loaded classes makes starts faster; Java 13 or newer can write one.
if [ "${release%%.*}" -ge 13 ]; then
    "$java" -XX:ArchiveClassesAtExit="$home/classes.jsa" -Xlog:disable \
        -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$(cat "$home/classpath")" \
        nbledger.interpreter.Interpreter >/dev/null 2>&1 \
        || rm -f "$home/classes.jsa"
fi

mkdir -p "$specs/scala"
cat >"$specs/scala/kernel.json" <<JSON
{
  "argv": ["$prefix/bin/python", "-m", "nbledger_workers.languages.scala_kernel", "-f", "{connection_file}"],
  "display_name": "Scala",
  "language": "scala",
  "interrupt_mode": "signal",
  "env": {"SCALA_KERNEL_HOME": "$home"}
}
JSON
echo "$stamp" >"$home/stamp"
echo "Installed the Scala kernel in $home"
