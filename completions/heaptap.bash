# SPDX-License-Identifier: Apache-2.0
# Completion of heaptap(1) for bash.

_heaptap_commands='report trace watch types refs stack info clean help'

# The options of a command, a word each.
_heaptap_options()
{
	echo --json --output -o --color --quiet -q --verbose -v --limit --debug-dir --help -h \
		--version -V
	case $1 in
	trace)
		echo --duration -d --interval --engine --exact --sample --overhead --symbol --unsafe \
			--fail-on-leak
		;;
	watch)
		echo --duration -d --interval --warmup --csv
		;;
	report)
		echo --stop --max-pause --force --watch --threshold --fail-on-leak
		;;
	refs)
		echo --type --addr --index --max-depth --forward
		;;
	types)
		echo --growth --sort --match
		;;
	stack)
		echo --native --python
		;;
	info | clean) ;;
	esac
}

_heaptap_pids()
{
	local dir first

	for dir in /proc/[0-9]*; do
		# Kernel threads have no command line.
		{ IFS= read -r -d '' first < "$dir/cmdline"; } 2> /dev/null &&
			echo "${dir#/proc/}"
	done
}

_heaptap()
{
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local command=${COMP_WORDS[1]} i

	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		COMPREPLY=($(compgen -W "$_heaptap_commands --help --version" -- "$word"))
		return
	fi
	if [[ $command == help ]]; then
		COMPREPLY=($(compgen -W "$_heaptap_commands" -- "$word"))
		return
	fi
	for ((i = 2; i < COMP_CWORD; i++)); do
		if [[ ${COMP_WORDS[i]} == -- ]]; then
			COMPREPLY=($(compgen -c -- "$word") $(compgen -f -- "$word"))
			return
		fi
	done
	case $before in
	-o | --output)
		COMPREPLY=($(compgen -f -- "$word"))
		return
		;;
	--debug-dir)
		COMPREPLY=($(compgen -d -- "$word"))
		return
		;;
	--color)
		COMPREPLY=($(compgen -W 'auto always never' -- "$word"))
		return
		;;
	--engine)
		COMPREPLY=($(compgen -W 'auto probe breakpoint' -- "$word"))
		return
		;;
	--sort)
		COMPREPLY=($(compgen -W 'count own retained' -- "$word"))
		return
		;;
	-d | --duration | --interval | --warmup | --max-pause | --watch | --threshold | --growth | --match | --type | --addr | --index | --max-depth | --limit | --symbol | --sample | --overhead)
		return
		;;
	esac
	if [[ $word == -* ]]; then
		COMPREPLY=($(compgen -W "$(_heaptap_options "$command")" -- "$word"))
	else
		COMPREPLY=($(compgen -W "$(_heaptap_pids)" -- "$word"))
	fi
}

complete -F _heaptap heaptap
