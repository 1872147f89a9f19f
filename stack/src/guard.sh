# Ends every server that was started for the folder $1, once standard input ends: the process that holds the other end
# of the pipe has closed it or is gone, by whatever way. $2 is `temporary` (end at once, remove the folder) or `kept`
# (end in order, keep the data). Exit status 1: something would not end.
#
# Servers are found by their command line, never by a number that was written down: a number may belong to somebody
# else by now. A server counts when it was started with `-D FOLDER/...` (PostgreSQL) or `-c FOLDER/...` (nats-server).

# A Ctrl-C or a closed terminal is not for us: the pipe tells when it is time.
trap '' HUP INT QUIT TERM TSTP TTIN TTOU PIPE
PATH=$PATH:/usr/bin:/bin
dir=$1
state=$2

while read -r _; do :; done

kind_of() { # a file /proc/PID/cmdline
    tr '\0' '\n' 2> /dev/null < "$1" | {
        option=
        while IFS= read -r word; do
            case "$option $word" in
                "-D $dir/"*) echo postgres; exit ;;
                "-c $dir/"*) echo nats; exit ;;
            esac
            option=$word
        done
    }
}

servers() { # prints PID:KIND
    for file in $(grep -lF -e "$dir/" /proc/[0-9]*/cmdline 2> /dev/null); do
        kind=$(kind_of "$file" 2> /dev/null)
        pid=${file#/proc/}
        [ -z "$kind" ] || echo "${pid%/cmdline}:$kind"
    done
}

end() { # signal for PostgreSQL, signal for nats-server, how many times to look
    left=$3
    told=' '
    quiet=0
    while [ "$left" -gt 0 ]; do
        found=$(servers)
        # Nothing twice: a process that was just being started shows its command line only after a moment.
        if [ -z "$found" ]; then
            quiet=$((quiet + 1))
            [ "$quiet" -lt 2 ] || return 0
        else
            quiet=0
        fi
        for server in $found; do
            case "$told" in *" $server "*) continue ;; esac
            told="$told$server "
            case "$server" in
                *:postgres) kill -s "$1" "${server%:*}" ;;
                *:nats) kill -s "$2" "${server%:*}" ;;
            esac 2> /dev/null
        done
        left=$((left - 1))
        sleep 0.05
    done
    return 1
}

if [ "$state" = temporary ]; then
    end QUIT KILL 200 || end KILL KILL 100 || exit 1
    rm -rf -- "$dir" || { sleep 1; rm -rf -- "$dir"; }
else
    end INT TERM 600 || end QUIT KILL 200 || end KILL KILL 100 || exit 1
fi
