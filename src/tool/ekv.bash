# Completion of ekv, mkfs.ekv and fsck.ekv for bash. Commands and options are asked of the program
# itself, keys of the image that -C names. Nothing that stands on the line is executed.

_ekv_options() # PROGRAM [COMMAND...]: the options in its help
{
    "$@" --help 2>/dev/null | sed -n 's/^  \(-[^ ],\)\{0,1\} *\(--[a-z-]*\).*/\2/p'
}

_ekv_option_takes() # OPTION PROGRAM [COMMAND...]: the name of its argument, nothing if it takes none
{
    local option=$1
    shift
    "$@" --help 2>/dev/null | sed -n "s/^ .*${option}[, ].*--[a-z-]* \([A-Z][A-Z|:]*\) .*/\1/p
        s/^ .*${option} \([A-Z][A-Z|:]*\) .*/\1/p" | head -n 1
}

_ekv_files()
{
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

_ekv_plain() # WORD: without its quotes, ~ expanded
{
    local word=$1
    [[ $word == '~/'* ]] && word=$HOME/${word:2}
    word=${word//\\/}
    word=${word//\"/}
    printf '%s' "${word//\'/}"
}

# Offers the keys that begin with the word in hand, up to the next slash.
_ekv_keys()
{
    local key quoted word=${words[-1]} head
    [[ -n $image ]] || return 0
    head=${word%"$cur"} # what of it bash takes for other words
    word=$(_ekv_plain "$word")
    while IFS= read -r key; do
        printf -v quoted '%q' "$key"
        [[ $cur == [\'\"]* ]] && quoted=$key
        COMPREPLY+=("${quoted#"$head"}")
    done < <("${program[@]}" -C "$image" ${offset:+--offset "$offset"} ls -- "$word" 2>/dev/null |
        head -n 1000)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace 2>/dev/null
    return 0
}

# The words of the line up to the one in hand, as the shell will see them: bash takes = and : for
# words of their own.
_ekv_join()
{
    local i word glue=
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ ${#words[@]} -gt 0 && ($glue || $word == [:=]) ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        glue=
        [[ $word == [:=] ]] && glue=1
    done
}

# Looks through the words before the one in hand. Sets command (a list), image, offset, and operands,
# how many words stand behind the command that are no options.
_ekv_look()
{
    local i word
    command=() image='' offset='' operands=0
    commands=$("${program[@]}" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z ]*[a-z]\)  .*/\1/p')
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        word=${words[i]}
        case $word in
        -C | --image)
            i=$((i + 1))
            image=$(_ekv_plain "${words[i]}")
            ;;
        --image=*)
            image=$(_ekv_plain "${word#*=}")
            ;;
        --offset)
            i=$((i + 1))
            offset=${words[i]}
            ;;
        --offset=*)
            offset=${word#*=}
            ;;
        -*) ;;
        *)
            if [[ ${#command[@]} == 0 ]] || grep -qxF "${command[*]} $word" <<<"$commands"; then
                command+=("$word")
            else
                operands=$((operands + 1))
            fi
            ;;
        esac
    done
}

# The names of commands; of those that are two words the second, where the first stands already.
_ekv_words()
{
    local words
    if [[ ${#command[@]} == 0 ]]; then
        words=$(sed 's/ .*//' <<<"$commands")$'\nhelp'
    else
        words=$(sed -n "s/^${command[0]} //p" <<<"$commands")
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur" | sort -u)
}

_ekv_operand()
{
    case ${command[0]} in
    get | ls | history | dump)
        [[ $operands == 0 ]] && _ekv_keys
        ;;
    rm)
        _ekv_keys
        ;;
    put)
        if [[ $operands == 0 ]]; then
            _ekv_keys
        elif [[ $cur == @* ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -P @ -f -- "${cur#@}")
        fi
        ;;
    help)
        command=()
        _ekv_words
        ;;
    *)
        _ekv_files
        ;;
    esac
}

_ekv()
{
    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local words command commands image offset operands program=("$1")
    COMPREPLY=()
    _ekv_join
    _ekv_look
    [[ $cur == [:=] ]] && cur=
    if [[ ${words[-1]} == --*=* ]]; then
        previous=${words[-1]%%=*}
    fi
    case ${command[0]-},$previous in
    map,--by)
        mapfile -t COMPREPLY < <(compgen -W 'kind fill age wear' -- "$cur")
        return
        ;;
    map,--color)
        mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$cur")
        return
        ;;
    esac
    if [[ $previous == -?* && $previous != -- ]]; then
        case $(_ekv_option_takes "$previous" "${program[@]}" "${command[@]}") in
        '') ;;
        *IMAGE* | *FILE* | *DIR* | *PATH*)
            _ekv_files
            return
            ;;
        *)
            return
            ;;
        esac
    fi
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W \
            "$(_ekv_options "${program[@]}" "${command[@]}")" -- "$cur")
    elif [[ ${#command[@]} == 0 ]] ||
        { [[ ${#command[@]} == 1 ]] && grep -q "^${command[0]} " <<<"$commands"; }; then
        _ekv_words
    else
        _ekv_operand
    fi
}

_ekv_by_name() # mkfs.ekv and fsck.ekv: options and files
{
    local cur=${COMP_WORDS[COMP_CWORD]}
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_ekv_options "$1")" -- "$cur")
    else
        _ekv_files
    fi
}

complete -F _ekv ekv
complete -F _ekv_by_name mkfs.ekv fsck.ekv
