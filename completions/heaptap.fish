# SPDX-License-Identifier: Apache-2.0
# Completion of heaptap(1) for fish.

set -l commands trace watch stack info clean help

complete -c heaptap -f
complete -c heaptap -n "not __fish_seen_subcommand_from $commands" -a trace -d 'Record allocations by site'
complete -c heaptap -n "not __fish_seen_subcommand_from $commands" -a watch -d 'Memory over time'
complete -c heaptap -n "not __fish_seen_subcommand_from $commands" -a stack -d 'Stacks of all threads'
complete -c heaptap -n "not __fish_seen_subcommand_from $commands" -a info -d 'What can be seen of a process'
complete -c heaptap -n "not __fish_seen_subcommand_from $commands" -a clean -d 'Take out what a killed heaptap left'
complete -c heaptap -n "not __fish_seen_subcommand_from $commands" -a help -d 'Help of a command'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -a '(__fish_complete_pids)'
complete -c heaptap -n "__fish_seen_subcommand_from help" -a 'trace watch stack info clean'

complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -l json -d 'Print one JSON object'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -s o -l output -r -F -d 'Write the answer to a file'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -l color -x -a 'auto always never' -d 'Colour the text'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -s q -l quiet -d 'No progress and no warnings'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -s v -l verbose -d 'Also say what could not be seen'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -l limit -x -d 'Rows of a ranking'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -l debug-dir -r -F -d 'Look for debug files there too'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -s h -l help -d 'Show the help of the command'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch stack info clean" -s V -l version -d 'Show the version'

complete -c heaptap -n "__fish_seen_subcommand_from trace watch" -s d -l duration -x -d 'For so long'
complete -c heaptap -n "__fish_seen_subcommand_from trace watch" -l interval -x -d 'Time between two points'
complete -c heaptap -n "__fish_seen_subcommand_from trace" -l engine -x -a 'auto probe breakpoint' -d 'How calls are seen'
complete -c heaptap -n "__fish_seen_subcommand_from trace" -l exact -d 'See every call, however slow that is'
complete -c heaptap -n "__fish_seen_subcommand_from trace" -l sample -x -d 'One sample in so many bytes'
complete -c heaptap -n "__fish_seen_subcommand_from trace" -l overhead -x -d 'What samples may cost'
complete -c heaptap -n "__fish_seen_subcommand_from trace" -l symbol -x -d 'A function that is another malloc, free'
complete -c heaptap -n "__fish_seen_subcommand_from trace" -l unsafe -d 'Also where SIGTRAP is blocked or ignored'
complete -c heaptap -n "__fish_seen_subcommand_from trace" -l fail-on-leak -d 'Exit with 1 where it leaks'
complete -c heaptap -n "__fish_seen_subcommand_from watch" -l warmup -x -d 'Leave so much out of the verdict'
complete -c heaptap -n "__fish_seen_subcommand_from watch" -l csv -d 'Print a line per look'
complete -c heaptap -n "__fish_seen_subcommand_from stack" -l native -d 'Native frames alone'
complete -c heaptap -n "__fish_seen_subcommand_from stack" -l python -d 'Python frames alone'
