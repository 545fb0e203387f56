#!/usr/bin/env python3
"""Holds the architecture: which file may include which header.

The table below *is* the list of layers. A file of src/ includes headers of strictly lower layers
and its own; host/, tool/ and fuse/ see what REACH names. The core allocates nothing, includes
nothing of the C library but CORE_SYSTEM, and has no conditional compilation.
"""

import os
import re
import sys
import tempfile

# One line a layer, lowest first. A name stands for NAME.h and NAME.c of src/.
LAYERS = [
    ["error", "bytes", "crc32c"],
    ["flash"],
    ["format"],
    ["sector", "log", "value"],
    ["memtable", "page", "run", "build", "manifest"],
    ["state", "merge", "flush", "gc", "compact"],
    ["replay", "recover", "txn", "snapshot", "lookup", "cursor"],
    ["ekv", "check"],
]

# Files that implement part of the public interface and so may include it, whatever their layer.
PUBLIC = ["ekv.h"]
IMPLEMENTS_PUBLIC = ["txn", "snapshot", "lookup", "cursor", "check", "state"]

CORE_SYSTEM = {"stdint.h", "stddef.h", "stdbool.h", "string.h", "assert.h"}

# What the other directories see of src/, and of each other, beside themselves.
REACH = {
    "src/host": ["src/ekv.h", "src/flash.h", "src/error.h"],
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
    for level, names in enumerate(LAYERS):
        if name in names:
            return level
    return None


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
    if os.path.basename(target) in PUBLIC and stem(path) in IMPLEMENTS_PUBLIC:
        return None
    if other > own:
        return "L%d includes %s of L%d: upward" % (own, target, other)
    if other == own:
        return "L%d includes %s of the same layer: sideways" % (own, target)
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
        ("src/sector.c", '#include "log.h"\n', "sideways"),
        ("src/log.c", '  #  include "ekv.h"\n', "upward"),
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

    failures = ["self-test: a clean tree has problems: %s" % text for text in problems_of(good)]
    for path, text, expected in bad:
        found = problems_of({**good, path: text})
        if not any(expected in one for one in found):
            failures.append("self-test: %r planted in %s was not found (%r)" % (text, path, found))
    return failures


def main():
    root = os.environ.get("EKV_SOURCE_DIR") or os.path.join(os.path.dirname(__file__), "..")
    problems = self_test() + check_tree(root)
    if not sources(root, "src"):
        problems.append("%s/src holds no C file: is EKV_SOURCE_DIR right?" % root)
    for text in problems:
        print(text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
