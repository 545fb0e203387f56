#!/bin/bash
# The completion of bash for ekv and ekvfs, asked as bash asks it. Each test is a function whose name is
# the sentence that it holds.
. "$(dirname "$0")/tool_lib.sh" || exit
helpers='ask|offers|offers_nothing|_ekv.*'
sources=${EKV_SOURCE_DIR:?}
. "$sources/src/tool/ekv.bash"
. "$sources/fuse/ekvfs.bash"
[ -x "$EKV_BUILD_DIR/ekvfs" ] && cp "$EKV_BUILD_DIR/ekvfs" "$work/ekvfs"
PATH=$work:$PATH

# ask LINE: what bash would offer at the end of the line, in COMPREPLY. Splits the line into words as
# bash does: at blanks that are not quoted, and around = and :.
ask()
{
    local line=$1 i letter word='' quote='' words=()
    for ((i = 0; i < ${#line}; i++)); do
        letter=${line:i:1}
        if [[ -n $quote ]]; then
            word+=$letter
            [[ $letter == "$quote" ]] && quote=
        elif [[ $letter == '\' ]]; then
            i=$((i + 1))
            word+=$letter${line:i:1}
        elif [[ $letter == [\'\"] ]]; then
            quote=$letter
            word+=$letter
        elif [[ $letter == [=:] ]]; then
            [[ -n $word ]] && words+=("$word")
            words+=("$letter")
            word=
        elif [[ $letter == ' ' ]]; then
            [[ -n $word ]] && words+=("$word")
            word=
        else
            word+=$letter
        fi
    done
    # Behind = or : bash gives the mark itself as the word in hand until something follows it.
    [[ -n $word || $line != *[=:] ]] && words+=("$word")
    COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1)) COMP_LINE=$line COMP_POINT=${#line}
    COMPREPLY=()
    local function
    function=$(complete -p "${words[0]}" | sed 's/.*-F \([^ ]*\).*/\1/')
    "$function" "${words[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>err
    [ -s err ] && complain "'$line' says $(cat err)"
    return 0
}

# offers LINE WORD...: these words and no others
offers()
{
    ask "$1"
    local got wanted
    got=$(printf '%s\n' "${COMPREPLY[@]}" | sort)
    wanted=$(printf '%s\n' "${@:2}" | sort)
    [ "$got" = "$wanted" ] || complain "'$1' offers '${got//$'\n'/ }', not '${wanted//$'\n'/ }'"
}

offers_nothing()
{
    ask "$1"
    [ ${#COMPREPLY[@]} = 0 ] || complain "'$1' offers '${COMPREPLY[*]}'"
}

commands_are_those_of_the_help()
{
    local name
    ask 'ekv '
    for name in $("$ekv" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p') bench help; do
        [[ " ${COMPREPLY[*]} " == *" $name "* ]] || complain "$name is not offered"
    done
    offers 'ekv app' apply
    offers 'ekv -C image app' apply
    offers 'ekv --image=image app' apply
    offers 'ekv bench ' replay compare
    offers 'ekv bench r' replay
    offers 'ekv help dum' dump
    offers_nothing 'ekv frobn'
}

options_are_those_of_the_command()
{
    offers 'ekv dump --a' --attributes
    offers 'ekv diff --p' --patch
    offers 'ekv load --to' --touch
    offers 'ekv --j' --json
    offers 'ekv bench replay --ag' --aged
    offers 'mkfs.ekv --pop' --populate
    offers 'fsck.ekv --pre' --preen
    ask 'ekv format --'
    local name
    for name in $("$ekv" format --help | grep -oE -- '^ .{4}--[a-z-]+' | sed 's/.*--/--/'); do
        [[ " ${COMPREPLY[*]} " == *" $name "* ]] || complain "$name of format is not offered"
    done
    [ ${#COMPREPLY[@]} -gt 10 ] || complain "only ${COMPREPLY[*]} are offered"
}

files_stand_where_files_belong()
{
    mkdir dir
    : >image1
    : >'image two'
    offers 'ekv -C im' image1 'image two'
    offers 'ekv --image im' image1 'image two'
    offers 'ekv --image=im' image1 'image two'
    offers 'ekv -C image1 apply im' image1 'image two'
    offers 'ekv -C image1 get -o im' image1 'image two'
    offers 'ekv -C image1 salvage -o d' dir
    offers 'ekv -C image1 map --by f' fill
    offers 'ekv -C image1 map --color=a' auto always
    offers 'ekv format --populate d' dir
    offers 'ekv diff im' image1 'image two'
    offers 'ekv -C image1 put key @im' @image1 '@image two'
    offers_nothing 'ekv -C image1 put key im'
    offers_nothing 'ekv format --size im'
    offers_nothing 'ekv format --label im'
    offers_nothing 'ekv --offset im'
    offers 'mkfs.ekv im' image1 'image two'
    offers 'fsck.ekv im' image1 'image two'
}

keys_are_those_of_the_image()
{
    local key
    store
    for key in net/ip net/mask name 'with space' a:b a:c 'quote"d' -dash; do
        run 0 "$ekv" -C image put -- "$key" value
    done
    offers 'ekv -C image get n' net/ name
    offers 'ekv -C image get net/' net/ip net/mask
    offers 'ekv --image=image get net/i' net/ip
    offers 'ekv get -C image net/i' net/ip
    offers 'ekv -C image rm name net/i' net/ip
    offers 'ekv -C image put net/m' net/mask
    offers 'ekv -C image ls na' name
    offers 'ekv -C image get w' 'with\ space'
    offers 'ekv -C image get with\ s' 'with\ space'
    offers "ekv -C image get 'with s" 'with space'
    offers 'ekv -C image get a:' b c
    offers 'ekv -C image get a:b' b
    offers 'ekv -C image get q' 'quote\"d'
    offers_nothing 'ekv -C image get absent'
    offers_nothing 'ekv get n'
    offers_nothing 'ekv -C missing get n'
    cp image 'odd image'
    offers 'ekv -C odd\ image get na' name
    offers "ekv -C 'odd image' get na" name
    offers 'ekv --offset 0 -C image get na' name
}

nothing_on_the_line_is_executed()
{
    store
    offers_nothing 'ekv -C $(touch${IFS}executed) get n'
    offers_nothing 'ekv -C `touch${IFS}executed` get n'
    offers_nothing 'ekv -C image get $(touch${IFS}executed)'
    [ -e executed ] && complain "something was executed"
}

ekvfs_has_options_images_and_mountpoints()
{
    [ -x "$work/ekvfs" ] || return 0
    mkdir dir
    : >data
    offers 'ekvfs --cr' --create=
    offers 'ekvfs --ver' --version
    offers 'ekvfs d' dir data
    offers 'ekvfs data d' dir
    offers 'ekvfs -o ro data d' dir
    offers 'ekvfs -o allow' allow_other
    offers 'ekvfs -o ro,mem' ro,memory=
    offers 'ekvfs -o ro,sy' ro,sync
}

# As bash itself asks: with its own splitting of words, at a prompt.
a_tab_at_a_prompt_completes()
{
    store
    run 0 "$ekv" -C image put network/address 10.0.0.1
    cat >ask.py <<'END'
import os, pty, re, select, sys
child, file = pty.fork()
if child == 0:
    os.environ.update(TERM="dumb", PS1="ready> ", HISTFILE="")
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
seen = b""
def expect(pattern):
    global seen
    while not re.search(pattern, seen):
        if not select.select([file], [], [], 60)[0]:
            sys.exit("no %r in %r" % (pattern, seen))
        seen += os.read(file, 4096)
    seen = seen[re.search(pattern, seen).end():]
expect(b"ready> ")
os.write(file, b"PS1='ok'ay'> '; . %s\n" % sys.argv[1].encode())
expect(b"okay> ")
os.write(file, b"ekv -C ima\tge\tnetw\taddr\t\n")
expect(b"10\\.0\\.0\\.1")
os.write(file, b"exit\n")
END
    run 0 python3 ask.py "$sources/src/tool/ekv.bash"
}

run_tests "$@"
