#!/usr/bin/env python3
"""`ekv shell` as a script runs it and as somebody at a terminal meets it.

Each test is a function whose name is the sentence that it holds.
"""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import termios
import time

EKV = os.path.join(os.environ["EKV_BUILD_DIR"], "ekv")
failures = []


def ekv(*words, stdin=b"", status=0):
    """What the command prints, and what it says on stderr."""
    done = subprocess.run([EKV, "-C", "image", *words], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=120)
    if done.returncode != status:
        raise AssertionError("%r exits with %d, not %d: %r" % (
            words, done.returncode, status, done.stderr[:300]))
    return done.stdout, done.stderr.decode(errors="replace")


def shell(script, *options, status=0):
    return ekv("shell", *options, stdin=script.encode(), status=status)


def same(got, wanted):
    if got != wanted:
        raise AssertionError("it is %r, not %r" % (got, wanted))


def holds(text, pattern):
    if not re.search(pattern, text):
        raise AssertionError("%r lacks %r" % (text, pattern))


# --- Scripts -------------------------------------------------------------------------------------

def a_script_does_what_its_lines_say():
    out, err = shell("""
        # a comment, and empty lines
        put greeting 'hello, world'

        put a/b "two words"
        get greeting
        get a/b
        rm a/b
        ls
        put a 1
        put b 2
        ls
        ls g
        .quit
        put never reached
        """)
    same(out, b"hello, world\ntwo words\ngreeting\na\nb\ngreeting\ngreeting\n")
    same(err, "")
    same(ekv("get", "greeting")[0], b"hello, world")
    same(ekv("ls")[0], b"a\nb\ngreeting\n")


def words_are_quoted_as_in_sh():
    shell(r"""
        put 'it is' "say \"hi\"\n\x00\xff\t\\"
        put back\ slash\'d x
        put 'no \n here' "joi"'ned'" "up
        put "" empty
        put $'a' #hash
        """)
    keys = {}
    for line in ekv("dump", "--jsonl")[0].splitlines():
        record = json.loads(line)
        keys[record["key"]] = record.get("value", record.get("value_base64"))
    same(keys, {"it is": "c2F5ICJoaSIKAP8JXA==", "back slash'd": "x", r"no \n here": "joined up",
                "": "empty", "$a": "#hash"})


def a_transaction_is_seen_inside_and_committed_whole():
    out, _ = shell("""
        put a old
        put gone soon
        begin
        put a new
        put b 1
        rm gone
        get a
        ls
        abort
        get a
        ls
        begin
        put a newer
        commit
        get a
        """)
    same(out, b"new\na\nb\nold\na\ngone\nnewer\n")


def a_transaction_may_be_large():
    lines = ["begin"] + ["put key%05d value%d" % (i, i) for i in range(3000)] + ["commit"]
    shell("\n".join(lines))
    same(ekv("ls")[0].count(b"\n"), 3000)
    ekv("check")


def the_first_failure_ends_a_script_and_gives_the_transaction_up():
    _, err = shell("begin\nput a 1\nfrobnicate\nput b 2\ncommit\n", status=2)
    holds(err, r"line 3: there is no command 'frobnicate'")
    holds(err, r"not committed is given up")
    same(ekv("ls")[0], b"")
    _, err = shell("put a 1\nfrobnicate\nput b 2\n", "--keep-going", status=2)
    same(ekv("ls")[0], b"a\nb\n")
    _, err = shell("begin\nput c 1\n", status=2)
    holds(err, r"given up")
    same(ekv("ls")[0], b"a\nb\n")


def a_missing_key_is_told_and_goes_on():
    out, err = shell("get absent\nput a 1\nrm absent\nget a\nls nothing\n", status=1)
    same(out, b"1\n")
    same(err.count("\n"), 3)
    holds(err, r"line 1: there is no key 'absent'")
    holds(err, r"line 3: there is no key 'absent'")
    holds(err, r"line 5: no key begins with 'nothing'")


def wrong_lines_are_told_with_their_number():
    for line, pattern in [("put a", "it is: put KEY VALUE"), ("get", "it is: get KEY"),
                          ("put 'a b", "quote ' has no end"), ('put a "b', "quote \" has no end"),
                          (r'put a "\q"', "backslash goes before"), (r'put a "\x4"', "backslash"),
                          ('put a "b\\', "no end|backslash"),
                          ("commit", "no transaction is open"), ("abort", "no transaction is open"),
                          ("begin\nbegin", "a transaction is open"), ("put a b c", "it is: put"),
                          ("rm " + "x " * 70, "more than 64 words"), ("put a\0 b", "NUL byte")]:
        _, err = shell("\n" + line, status=2)
        holds(err.splitlines()[0], r"line [23]: .*" + pattern if "\n" in line else r"line 2: .*" + pattern)
    same(ekv("ls")[0], b"")


def large_and_odd_values_come_out_as_they_are():
    value = bytes(range(256)) * 1000 + b"end"
    ekv("put", "large", "-", stdin=value)
    out, _ = shell("get large\nget large\n")
    same(out, (value + b"\n") * 2)


def an_image_in_use_is_only_looked_at():
    ekv("put", "key", "value")
    holder = None
    while True: # until it has the image; what looks whether it has may itself keep it out
        if not holder or holder.poll() is not None:
            holder = subprocess.Popen([EKV, "-C", "image", "shell"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            try:
                holder.stdin.write(b"get key\n")
                holder.stdin.flush()
            except BrokenPipeError:
                pass
        time.sleep(0.1)
        done = subprocess.run([EKV, "-C", "image", "rm", "-f", "absent"], stderr=subprocess.PIPE)
        if done.returncode == 2:
            break
    _, err = ekv("shell", stdin=b"get key\n", status=2)
    holds(err, "is in use by ekv")
    out, err = ekv("shell", "--read-only", stdin=b"get key\nput key other\n", status=2)
    same(out, b"value\n")
    holds(err, "can only be read")
    _, err = ekv("shell", "-r", stdin=b"begin\n", status=2)
    holds(err, "can only be read")
    out, _ = holder.communicate(b"put key new\n")
    same((holder.returncode, out), (0, b"value\n"))
    same(ekv("get", "key")[0], b"new")


def a_full_store_is_told_and_stays_usable():
    script = "".join("put key%d %s\n" % (i, "v" * 900) for i in range(3000))
    _, err = shell(script, status=2)
    holds(err, r"line \d+: 'key\d+': the store is full")
    same(shell("rm key0 key1 key2\nput small x\nget small\n")[0], b"x\n")
    ekv("check")


def a_script_comes_from_a_file_too():
    with open("script", "w") as file:
        file.write("put a 1\nget a\n")
    same(ekv("shell", "script")[0], b"1\n")
    _, err = ekv("shell", "missing", status=2)
    holds(err, "missing cannot be read")
    out, _ = ekv("shell", "--help")
    assert len(out.splitlines()) <= 24
    same(shell("help\n")[0].count(b"\n"), 11)
    holds(shell("stat\n")[0].decode(), r"keys 1\n.*")


# --- A terminal ----------------------------------------------------------------------------------

class Terminal:
    """The shell on a pseudo-terminal."""

    def __init__(self, *options):
        self.process, self.file = pty.fork()
        if self.process == 0:
            os.environ["TERM"] = "dumb"
            os.execv(EKV, [EKV, "-C", "image", "shell", *options])
        self.seen = ""

    def expect(self, pattern):
        """Reads until the pattern comes; what came up to it is taken."""
        deadline = time.time() + 60
        while not re.search(pattern, self.seen):
            if not select.select([self.file], [], [], max(0, deadline - time.time()))[0]:
                raise AssertionError("no %r in %r" % (pattern, self.seen))
            try:
                data = os.read(self.file, 4096)
            except OSError:
                data = b""
            if not data:
                raise AssertionError("it ended without %r: %r" % (pattern, self.seen))
            self.seen += data.decode(errors="replace")
        found = re.search(pattern, self.seen)
        text = self.seen[:found.end()]
        self.seen = self.seen[found.end():]
        return text

    def send(self, text):
        """Types once keys are read singly: libedit writes its prompt while the kernel still edits
        lines, and an end of file (^D) that comes in between is lost."""
        deadline = time.time() + 60
        while termios.tcgetattr(self.file)[3] & termios.ICANON:
            assert time.time() < deadline, "the prompt takes no keys"
            time.sleep(0.001)
        os.write(self.file, text.encode())

    def end(self):
        while True:
            try:
                if not os.read(self.file, 4096):
                    break
            except OSError:
                break
        _, status = os.waitpid(self.process, 0)
        os.close(self.file)
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1


def a_prompt_answers_and_goes_on_behind_mistakes():
    terminal = Terminal()
    terminal.expect(r"ekv> ")
    terminal.send("put some/key 'a value'\n")
    terminal.expect(r"\n.*ekv> ")
    terminal.send("frobnicate\n")
    terminal.expect(r"there is no command 'frobnicate'")
    terminal.expect(r"ekv> ")
    terminal.send("get some/key\n")
    terminal.expect(r"a value\r?\n")
    terminal.expect(r"ekv> ")
    terminal.send('put odd "\\x01\\xff"\n')
    terminal.expect(r"\n.*ekv> ")
    terminal.send("get odd\n")
    terminal.expect(r"\\x01\\xff\r?\n") # escaped, since a terminal must not get it raw
    terminal.expect(r"ekv> ")
    terminal.send("begin\n")
    terminal.expect(r"ekv\*> ")
    terminal.send("put uncommitted 1\n")
    terminal.expect(r"ekv\*> ")
    terminal.send("\x04")
    terminal.expect(r"given up")
    same(terminal.end(), 0)
    same(ekv("ls")[0], b"odd\nsome/\n")


def tab_completes_commands_and_keys():
    ekv("put", "network/address", "10.0.0.1")
    ekv("put", "other", "x")
    terminal = Terminal()
    terminal.expect(r"ekv> ")
    terminal.send("sta\t\n")
    terminal.expect(r"keys 2")
    terminal.expect(r"ekv> ")
    terminal.send("get netw\t\n")
    terminal.expect(r"10\.0\.0\.1")
    terminal.expect(r"ekv> ")
    terminal.send("quit\n")
    same(terminal.end(), 0)


def main():
    tests = [value for name, value in globals().items()
             if callable(value) and getattr(value, "__module__", "") == "__main__"
             and name not in ("ekv", "shell", "same", "holds", "main", "Terminal")]
    for test in tests:
        if len(sys.argv) > 1 and test.__name__ not in sys.argv[1:]:
            continue
        directory = tempfile.mkdtemp()
        os.chdir(directory)
        try:
            ekv("format", "--size", "1M")
            test()
            print("ok      " + test.__name__)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failures.append(test.__name__)
            print("FAILED  %s: %s" % (test.__name__, error))
        finally:
            os.chdir("/")
            shutil.rmtree(directory)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
