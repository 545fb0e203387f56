#!/usr/bin/env python3
"""Holds the architecture: which file may include which header, and call which.

The table below *is* the list of layers. A file of src/ includes headers of strictly lower layers
and its own, and its object file calls nothing above it; host/, tool/ and fuse/ see what REACH names.
The core allocates nothing, includes nothing of the C library but CORE_SYSTEM, and has no
conditional compilation.
"""

import os
import re
import subprocess
import sys
import tempfile

# Lowest first. A name stands for NAME.h and NAME.c of src/. A line may see all lines above it.
LAYERS = [
    ("L0", ["error", "bytes", "crc32c"]),
    ("L1", ["flash"]),
    ("L2", ["format", "mend"]),
    ("L3 sectors", ["sector"]),
    ("L3 log", ["log", "ring"]),
    ("L3 chain", ["chain"]),
    ("L4 tables", ["memtable", "run"]),
    ("L4 cache", ["cache"]),
    ("L4 walks", ["walk", "source"]),
    ("L4 catalog", ["catalog"]),
    ("L4 stored", ["build", "manifest"]),
    ("L5 state", ["state"]),
    ("L5 records", ["record"]),
    ("L5 values", ["value"]),
    ("L5 appending", ["append"]),
    ("L5 lookup", ["lookup"]),
    ("L5 publish", ["publish"]),
    ("L5 ownership", ["own"]),
    ("L5 flush", ["flush", "reserve"]),
    ("L5 merge", ["merge"]),
    ("L5 retention", ["retain"]),
    ("L5 holders", ["holder"]),
    ("L5 gc", ["gc"]),
    ("L6 damage", ["damage"]),
    ("L6 replay", ["replay"]),
    ("L6 recovery", ["recover"]),
    ("L6 work", ["work"]),
    ("L6 compaction", ["compact"]),
    ("L6 snapshot", ["snapshot"]),
    ("L6 handles", ["txn", "cursor", "history"]),
    ("L7", ["ekv", "check"]),
]

# ekv.h declares the types that keys and handles have everywhere and the functions of the topmost
# layer. Who needs the types includes it, from this line on up; that none of its functions is called
# from below is seen in the object files.
PUBLIC = "src/ekv.h"
PUBLIC_FROM = "L3 sectors"

CORE_SYSTEM = {"stdint.h", "stddef.h", "stdbool.h", "string.h", "assert.h"}

# What the other directories see of src/, and of each other, beside themselves.
REACH = {
    "src/host": ["src/ekv.h", "src/flash.h", "src/error.h", "src/format.h", "src/bytes.h",
                 "src/crc32c.h", "src/crc32c.c"], # the last in host/crc32c.c, around the core's own
    "src/tool": ["src/ekv.h", "src/flash.h", "src/error.h", "src/format.h", "src/bytes.h",
                 "src/crc32c.h", "src/host/"],
    "fuse": ["src/ekv.h", "src/flash.h", "src/error.h", "src/host/"],
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:<([^>]+)>|"([^"]+)")', re.M)
ALLOCATION = re.compile(r"\b(malloc|calloc|realloc|free|alloca|strdup)\s*\(")
CONDITIONAL = re.compile(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif)\b[ \t]*(.*)", re.M)
# Comments, string and character literals; a quoted include is told apart by its '#'.
NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def without_noise(text):
    """The code alone, with every line where it was."""
    return NOISE.sub(lambda found: "\n" * found.group().count("\n") or " ", text)


def without_comments(text):
    return NOISE.sub(
        lambda found: found.group() if found.group()[0] in "\"'"
        else "\n" * found.group().count("\n") or " ", text)


def sources(root, directory):
    path = os.path.join(root, directory)
    names = sorted(os.listdir(path)) if os.path.isdir(path) else []
    return [directory + "/" + name for name in names if name.endswith((".c", ".h"))]


def layer_of(name):
    for level, (_, names) in enumerate(LAYERS):
        if name in names:
            return level
    return None


def label(level):
    return LAYERS[level][0]


def stem(path):
    return os.path.splitext(os.path.basename(path))[0]


def resolve(root, path, header):
    """The file that a quoted include means: beside the includer, else below src/."""
    for base in (os.path.dirname(path), "src"):
        candidate = os.path.normpath(os.path.join(base, header))
        if os.path.exists(os.path.join(root, candidate)):
            return candidate
    return None


def check_core_include(path, target):
    """What is wrong with a file of src/ that includes `target`, or None."""
    if os.path.dirname(target) != "src":
        return "the core includes %s" % target
    own, other = layer_of(stem(path)), layer_of(stem(target))
    if stem(path) == stem(target) or own is None or other is None:
        return None
    if target == PUBLIC and own >= [name for name, _ in LAYERS].index(PUBLIC_FROM):
        return None
    if other > own:
        return "%s includes %s of %s: upward" % (label(own), target, label(other))
    if other == own:
        return "%s includes %s of the same layer: sideways" % (label(own), target)
    return None


def check_file(root, path, problems):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        text = file.read()
    directory = os.path.dirname(path)
    core = directory == "src"

    code = without_comments(text)
    if core and layer_of(stem(path)) is None:
        problems.append("%s:1: in no layer: add it to LAYERS in tests/test_layers.py" % path)
    for found in INCLUDE.finditer(code):
        system, own = found.groups()
        line = code.count("\n", 0, found.start()) + 1
        where = "%s:%d: " % (path, line)
        if system:
            if core and system not in CORE_SYSTEM:
                problems.append(where + "the core includes <%s>" % system)
            continue
        target = resolve(root, path, own)
        if target is None:
            problems.append(where + 'no file for "%s"' % own)
        elif core:
            wrong = check_core_include(path, target)
            if wrong:
                problems.append(where + wrong)
        elif os.path.dirname(target) != directory and not any(
                target == reach or (reach.endswith("/") and target.startswith(reach))
                for reach in REACH[directory]):
            problems.append(where + "%s must not see %s" % (directory, target))

    if core:
        bare = without_noise(text)
        for found in ALLOCATION.finditer(bare):
            line = bare.count("\n", 0, found.start()) + 1
            problems.append("%s:%d: the core calls %s" % (path, line, found.group(1)))
        for found in CONDITIONAL.finditer(bare):
            guard = found.group(1) == "ifndef" and found.group(2).strip() == (
                "EKV_%s_H" % stem(path).upper() if stem(path) != "ekv" else "EKV_H")
            if not guard:
                line = bare.count("\n", 0, found.start()) + 1
                problems.append("%s:%d: #%s in the core" % (path, line, found.group(1)))


def check_tree(root):
    problems = []
    for directory in ["src"] + sorted(REACH):
        for path in sources(root, directory):
            check_file(root, path, problems)
    return problems


def check_objects(library):
    """Upward and sideways calls: symbols that an object of the library takes from another."""
    listing = subprocess.run(["nm", "-A", "-P", library], stdout=subprocess.PIPE, check=True,
                             universal_newlines=True).stdout
    home, uses = {}, []
    for line in listing.splitlines():
        # libekv.a[gc.c.o]: ekv_gc_step T 0 40
        found = re.match(r".*\[([^\]]*?)\.c\.o\]: (\S+) (\S)", line)
        if found and found.group(3) == "U":
            uses.append((found.group(1), found.group(2)))
        elif found and found.group(3).isupper():
            home[found.group(2)] = found.group(1)
    problems = []
    for user, symbol in uses:
        own, other = layer_of(user), layer_of(home.get(symbol, user))
        if own is None or other is None or home.get(symbol, user) == user:
            continue
        if other >= own:
            problems.append("%s.c (%s) calls %s of %s.c (%s)" % (
                user, label(own), symbol, home[symbol], label(other)))
    if not home:
        problems.append("nm finds no symbol in %s" % library)
    return problems


def self_test():
    """Every rule must be able to fail: plants one violation of each and expects to be told."""
    good = {
        "src/error.h": "#ifndef EKV_ERROR_H\n#define EKV_ERROR_H\n#endif\n",
        "src/flash.h": '#include "error.h"\n',
        "src/flash.c": '#include "flash.h"\n#include <string.h>\n/* free(x) "malloc(" */\n',
        "src/log.h": '#include "flash.h"\n',
        "src/gc.c": '#include "log.h"\nconst char *s = "free(";\n',
        "src/ekv.h": '#include "error.h"\n',
        "src/host/image.h": '#include "flash.h"\n',
        "src/tool/main.c": '#include "host/image.h"\n#include <stdlib.h>\nvoid f(void) { free(0); }\n',
        "fuse/main.c": '#include "ekv.h"\n#include "host/image.h"\n',
    }
    bad = [
        ("src/flash.c", '#include "log.h"\n', "upward"),
        ("src/flash.c", '#include "log.h"\n#include "flash.h"\n', "upward"),
        ("src/crc32c.c", '#include "error.h"\n', "sideways"),
        ("src/flash.c", '  #  include "ekv.h"\n', "upward"),
        ("src/gc.c", '#include "host/image.h"\n', "the core includes src/host/image.h"),
        ("src/gc.c", "#include <stdlib.h>\n", "the core includes <stdlib.h>"),
        ("src/gc.c", "void f(void)\n{\n    free (0);\n}\n", "src/gc.c:3: the core calls free"),
        ("src/gc.c", "#ifdef DEBUG\n#endif\n", "#ifdef in the core"),
        ("src/novel.c", "", "in no layer"),
        ("src/gc.c", '#include "absent.h"\n', 'no file for "absent.h"'),
        ("src/host/image.c", '#include "log.h"\n', "src/host must not see src/log.h"),
        ("fuse/main.c", '#include "../src/log.h"\n', "fuse must not see src/log.h"),
        ("src/tool/main.c", '#include "gc.h"\n', 'no file for "gc.h"'),
        ("src/tool/main.c", '#include "log.h"\n', "src/tool must not see src/log.h"),
    ]

    def problems_of(files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            return check_tree(root)

    def object_problems_of(files):
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                path = os.path.join(root, name)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                subprocess.run(["cc", "-c", path, "-o", path + ".o"], check=True)
            objects = [os.path.join(root, name + ".o") for name in files]
            subprocess.run(["ar", "cr", os.path.join(root, "lib.a")] + objects, check=True)
            return check_objects(os.path.join(root, "lib.a"))

    failures = ["self-test: a clean tree has problems: %s" % text for text in problems_of(good)]
    for path, text, expected in bad:
        found = problems_of({**good, path: text})
        if not any(expected in one for one in found):
            failures.append("self-test: %r planted in %s was not found (%r)" % (text, path, found))
    downward = {"flash.c": "int ekv_a(void) { return 0; }\n",
                "gc.c": "int ekv_a(void);\nint ekv_b(void) { return ekv_a(); }\n"}
    upward = {"gc.c": "int ekv_a(void) { return 0; }\n",
              "flash.c": "int ekv_a(void);\nint ekv_b(void) { return ekv_a(); }\n"}
    failures += ["self-test: a downward call is a problem: %s" % text
                 for text in object_problems_of(downward)]
    if not any("flash.c (L1) calls ekv_a of gc.c" in one for one in object_problems_of(upward)):
        failures.append("self-test: an upward call was not found")
    return failures


def main():
    root = os.environ.get("EKV_SOURCE_DIR") or os.path.join(os.path.dirname(__file__), "..")
    problems = self_test() + check_tree(root)
    if not sources(root, "src"):
        problems.append("%s/src holds no C file: is EKV_SOURCE_DIR right?" % root)
    for level, names in LAYERS:
        for name in names:
            if not any(os.path.exists(os.path.join(root, "src", name + end)) for end in (".h", ".c")):
                problems.append("%s of %s is in LAYERS but not in src/" % (name, level))
    if "EKV_BUILD_DIR" in os.environ:
        problems += check_objects(os.path.join(os.environ["EKV_BUILD_DIR"], "libekv.a"))
    for text in problems:
        print(text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
