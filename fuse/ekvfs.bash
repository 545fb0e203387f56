# Completion of ekvfs for bash: options of its help, mount options behind -o, images, mountpoints.

_ekvfs_mount_options()
{
    "$1" --help 2>/dev/null | sed -n '/-o OPTION/,/^ *and those/ {
        s/^     \([a-z_]*\)\(=[^ ,]*\)\{0,1\} .*/\1\2/
        s/^\([a-z_]*\)=.*/\1=/
        /^[a-z_]*=\{0,1\}$/p
    }'
}

_ekvfs()
{
    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} done='' option
    local i operands=0
    COMPREPLY=()
    if [[ $previous == -o ]]; then
        compopt -o nospace 2>/dev/null
        [[ $cur == *,* ]] && done=${cur%,*},
        mapfile -t COMPREPLY < <(compgen -P "$done" -W "$(_ekvfs_mount_options "$1")" -- "${cur##*,}")
        return
    fi
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$("$1" --help 2>/dev/null |
            grep -oE -- '^  (-[a-zA-Z], )?--?[a-z]+=?' | sed 's/.* //')" -- "$cur")
        [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
        return
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        option=${COMP_WORDS[i]}
        if [[ $option == -o ]]; then
            i=$((i + 1))
        elif [[ ${COMP_WORDS[i + 1]-} == = ]]; then
            i=$((i + 2))
        elif [[ $option != -* ]]; then
            operands=$((operands + 1))
        fi
    done
    compopt -o filenames 2>/dev/null
    if [[ $operands == 0 ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
    fi
}

complete -F _ekvfs ekvfs
