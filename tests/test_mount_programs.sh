#!/bin/bash
# Programs that people use, on a mount and in a transaction of it: git, sqlite3 with each kind of
# journal, vim, nano, sed -i, install, mktemp, find, flock, dd, sort -o, truncate, cp --sparse.
. "$(dirname "$0")/mount_lib.sh"
for program in git sqlite3 nano flock; do
    command -v $program >/dev/null || { echo "skipped: there is no $program"; exit 77; }
done
export HOME=$work GIT_CONFIG_NOSYSTEM=1 TERM=xterm
git config --global user.name nobody
git config --global user.email nobody@example.org
editor=$(command -v vim.tiny || command -v vim) || { echo "skipped: there is no vim"; exit 77; }

# A repository of its own: the machine's may be large, or none.
mkdir "$work/origin"
cd "$work/origin" || exit
git init -q -b main
for i in $(seq 20); do
    head -c $((i * 211)) /dev/urandom >"file$i"
    mkdir -p "dir$((i % 5))"
    seq $((i * 20)) >"dir$((i % 5))/text$i"
    ln -s "../file$i" "dir$((i % 5))/link$i"
    chmod 755 "file$((i / 2 + 1))"
    git add -A && git commit -q -m "commit $i"
done

use_git()
{
    local clone=$1
    git clone -q --no-hardlinks "$work/origin" "$clone" || fail "git clone"
    git -C "$clone" fsck --strict >"$work/fsck" 2>&1 || fail "git fsck: $(cat "$work/fsck")"
    expect_same "git status after a clone" "$(git -C "$clone" status --short)" ""
    echo more >>"$clone/file3"
    expect_same "git status after a change" "$(git -C "$clone" status --short)" " M file3"
    git -C "$clone" commit -qam change || fail "git commit"
    git -C "$clone" checkout -qb other HEAD~5 || fail "git checkout"
    git -C "$clone" mv dir1 dir9 && git -C "$clone" commit -qm moved || fail "git mv"
    git -C "$clone" merge -q -m merged main || fail "git merge"
    git -C "$clone" stash -q 2>/dev/null
    git -C "$clone" gc -q || fail "git gc"
    git -C "$clone" fsck --strict >"$work/fsck" 2>&1 || fail "git fsck after gc: $(cat "$work/fsck")"
    expect_same "git status at the end" "$(git -C "$clone" status --short)" ""
}

statements='create table t(a integer primary key, b); begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 1500)
insert into t select i, randomblob(60) from n; commit;
update t set b = 1 where a % 7 = 0; delete from t where a % 5 = 0; vacuum;'

use_sqlite()
{
    local directory=$1 mode
    for mode in delete truncate persist wal; do
        sqlite3 "$directory/$mode.db" "pragma journal_mode=$mode; $statements" >"$work/said" 2>&1 ||
            fail "sqlite3, $mode: $(cat "$work/said")"
        expect_same "sqlite3, $mode" "$(cat "$work/said")" "$mode"
        expect_same "rows, $mode" \
            "$(sqlite3 "$directory/$mode.db" 'select count(*) from t; pragma integrity_check')" \
            $'1200\nok'
        # What is rolled back was not done; with another connection beside it.
        sqlite3 "$directory/$mode.db" 'begin; delete from t; rollback; select count(*) from t' \
            >"$work/said" || fail "sqlite3, $mode, rollback"
        expect_same "after a rollback, $mode" "$(cat "$work/said")" 1200
    done
}

# use_nano FILE: adds a line at its begin, as from a keyboard.
use_nano()
{
    timeout 60 python3 - "$1" <<'END' || fail nano
import os, pty, select, sys, time
child, terminal = pty.fork()
if child == 0:
    os.execvp("nano", ["nano", "--ignorercfiles", sys.argv[1]])
def quiet(): # until it has nothing to draw
    while select.select([terminal], [], [], 0.3)[0]:
        if not os.read(terminal, 65536):
            return
quiet()
for keys in b"by nano\r", b"\x0f", b"\r", b"\x18":
    os.write(terminal, keys)
    try: quiet()
    except OSError: pass # it has ended
assert os.waitpid(child, 0)[1] == 0
END
}

use_editors()
{
    local directory=$1
    printf 'one\ntwo\n' >"$directory/text"
    chmod 640 "$directory/text"
    "$editor" -u NONE -N -es -c '%s/two/three/' -c wq "$directory/text" </dev/null || fail vim
    expect_same "what vim wrote" "$(tail -n 1 "$directory/text")" three
    "$editor" -u NONE -N -es -c 'set backup writebackup backupdir=.' -c '%s/one/1/' -c wq \
        "$directory/text" </dev/null || fail "vim with a backup"
    use_nano "$directory/text"
    expect_same "what nano wrote" "$(head -n 1 "$directory/text")" "by nano"
    sed -i.old 's/three/3/' "$directory/text" || fail "sed -i"
    expect_same "the text in the end" "$(cat "$directory/text")" $'by nano\n1\n3'
    expect_same "what sed kept" "$(tail -n 1 "$directory/text.old")" three
    expect_same "its permissions" "$(stat -c %a "$directory/text")" 640
    expect_same "swap files" "$(cd "$directory" && echo .*.sw? .nano*)" ".*.sw? .nano*"
}

use_tools()
{
    local directory=$1 temporary
    cd "$directory" || exit
    install -D -m 751 /bin/sh sub/directory/installed || fail install
    expect_same "installed" "$(stat -c %a sub/directory/installed)" 751
    cmp /bin/sh sub/directory/installed || fail "what was installed differs"
    temporary=$(mktemp -p . -d) && rmdir "$temporary" || fail "mktemp -d"
    temporary=$(mktemp -p .) && rm "$temporary" || fail mktemp
    touch -d '2001-01-01' older
    touch -d '2001-01-02' newer
    expect_same "find -newer" "$(find . -maxdepth 1 -newer older ! -newer newer)" ./newer
    touch -r older newer
    [ newer -nt older ] && fail "touch -r"
    printf 'c\na\nb\n' >lines
    sort -o lines lines || fail "sort -o"
    expect_same "sort -o" "$(tr -d '\n' <lines)" abc
    seq 1000 >numbers
    printf XXXX | dd of=numbers bs=1 seek=100 conv=notrunc 2>/dev/null || fail dd
    expect_same "dd conv=notrunc" "$(wc -c <numbers) $(head -c 104 numbers | tail -c 4)" \
        "$(seq 1000 | wc -c) XXXX"
    truncate -s 1M holes && printf end >>holes && cp --sparse=always holes "$work/holes" || fail truncate
    cmp holes "$work/holes" || fail "holes differ"
    cp --reflink=auto holes holes2 && cmp holes holes2 || fail "cp inside"
    split -b 100K holes part. && cat part.* | cmp - holes || fail split
    mkdir m && ln -s ../lines m/l && cp -r m m2 && [ "$(cat m2/l)" = "$(cat lines)" ] || fail "cp -r"
    diff -u lines numbers >patch.diff
    patch -s lines <patch.diff && cmp lines numbers || fail patch
    printf 'out: in\n\tcp in out\n' >Makefile
    if command -v make >/dev/null; then
        echo 1 >in
        make -s && [ "$(make)" = "make: 'out' is up to date." ] || fail make
    fi
    # Locks: of whole files, and of bytes.
    ( flock -n 9 || exit 1; ! flock -n numbers true || exit 2 ) 9<numbers || fail flock
    flock -n numbers true || fail "flock after it was released"
    python3 - <<'END' || fail "locks of bytes"
import errno, fcntl, os
one = os.open("numbers", os.O_RDWR)
fcntl.lockf(one, fcntl.LOCK_EX, 10, 100)
if os.fork() == 0:
    two = os.open("numbers", os.O_RDWR)
    fcntl.lockf(two, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
    try: fcntl.lockf(two, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 105)
    except OSError as error: os._exit(error.errno != errno.EAGAIN)
    os._exit(2)
assert os.wait()[1] == 0
END
    cd /
}

mount_image --create=32M
cd /
mkdir "$mnt/live"
use_git "$mnt/live/git"
use_sqlite "$mnt/live"
use_editors "$mnt/live"
use_tools "$mnt/live"
# The same in a transaction, of which nothing is seen before its end.
stage=$mnt/.ekv/tx/all
mkdir "$stage" && mkdir "$stage/staged" || fail "a transaction"
use_git "$stage/staged/git"
use_sqlite "$stage/staged"
use_editors "$stage/staged"
use_tools "$stage/staged"
[ -e "$mnt/staged" ] && fail "what is staged is seen outside"
mv "$stage" "$mnt/.ekv/commit/" || fail "the commit"
git -C "$mnt/staged/git" fsck --strict >"$work/fsck" 2>&1 || fail "git fsck after the commit"
(cd "$mnt" && find . -path ./.ekv -prune -o -printf '%p %y %m %s\n' | sort) >"$work/before"
unmount_image
check_image
mount_image
(cd "$mnt" && find . -path ./.ekv -prune -o -printf '%p %y %m %s\n' | sort) >"$work/after"
diff "$work/before" "$work/after" || fail "it differs after a remount"
for place in live staged; do
    git -C "$mnt/$place/git" fsck --strict >"$work/fsck" 2>&1 || fail "git fsck after a remount"
    expect_same "git status after a remount" "$(git -C "$mnt/$place/git" status --short)" ""
    for mode in delete truncate persist wal; do
        expect_same "sqlite3 after a remount, $mode" \
            "$(sqlite3 "$mnt/$place/$mode.db" 'select count(*) from t; pragma integrity_check')" \
            $'1200\nok'
    done
done
unmount_image
exit 0
