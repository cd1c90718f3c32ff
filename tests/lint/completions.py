#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""completions.py HEAPTAP: fails where man pages or completions name an option
that `heaptap --list-options` does not have, or lack one that it has; and where
mandoc finds fault with a page."""
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORDS_OF_NO_COMMAND = {'help'}


def option_table(binary):
    """{command: {option: ('now'|'common'|'later', letter or None)}}"""
    out = subprocess.run([binary, '--list-options'], capture_output=True, text=True, check=True)
    table = {}
    for line in out.stdout.splitlines():
        kind, command, *fields = line.split('\t')
        if kind == 'command':
            table[command] = {}
        else:
            name, letter, _argument, when, _help = fields
            table[command][name] = (when, None if letter == '-' else '-' + letter)
    return table


def spelled(options, *whens):
    """All spellings of the options, long and short."""
    words = set()
    for name, (when, letter) in options.items():
        if when in whens:
            words |= {name} | ({letter} if letter else set())
    return words


def compare(where, found, wanted):
    for word in sorted(wanted - found):
        yield f'{where}: lacks {word}'
    for word in sorted(found - wanted):
        yield f'{where}: there is no {word}'


def check_bash(table):
    path = ROOT / 'completions/heaptap.bash'
    if not shutil.which('bash'):
        print('SKIP bash: not installed')
        return
    script = 'complete() { :; }; . "$1"; shift; for c; do echo "$c" $(_heaptap_options "$c"); done;' \
             'echo commands $_heaptap_commands'
    out = subprocess.run(['bash', '-c', script, 'bash', path, *table],
                         capture_output=True, text=True, check=True)
    for line in out.stdout.splitlines():
        command, *words = line.split()
        if command == 'commands':
            yield from compare(path, set(words), set(table) | WORDS_OF_NO_COMMAND)
        else:
            yield from compare(f'{path} ({command})', set(words),
                               spelled(table[command], 'now', 'common'))


def zsh_words(text):
    words = set()
    for line in text.splitlines():
        match = re.match(r"\s*'(?:\([^)]*\)|\*)?(?:'\{([^}]*)\}'|(--[a-z-]+))\[", line)
        if match:
            words |= set((match.group(1) or match.group(2)).split(','))
    return words


def check_zsh(table):
    path = ROOT / 'completions/_heaptap'
    text = path.read_text()
    common = zsh_words(text[:text.index('_heaptap_trace()')])
    for command, options in table.items():
        body = re.search(r'^_heaptap_%s\(\) \{\n(.*?)^\}' % command, text, re.M | re.S)
        if not body:
            yield f'{path}: nothing for {command}'
            continue
        yield from compare(f'{path} ({command})', common | zsh_words(body.group(1)),
                           spelled(options, 'now', 'common'))


def check_fish(table):
    path = ROOT / 'completions/heaptap.fish'
    found = {command: set() for command in table}
    for line in path.read_text().splitlines():
        match = re.search(r'"__fish_seen_subcommand_from ([a-z ]+)"(.*?)(?: -d |$)', line)
        if not match:
            continue
        words = {'--' + w for w in re.findall(r' -l ([a-z-]+)', match.group(2))}
        words |= {'-' + w for w in re.findall(r' -s (\w)', match.group(2))}
        for command in match.group(1).split():
            if command in found:
                found[command] |= words
    for command, words in found.items():
        yield from compare(f'{path} ({command})', words, spelled(table[command], 'now', 'common'))


def man_options(path):
    """Options described by an item, and all that are named anywhere."""
    described, named = set(), set()
    for line in path.read_text().splitlines():
        words = {'-' + w for w in re.findall(r'\bFl (-?[A-Za-z][A-Za-z-]*)', line)}
        named |= words
        if line.startswith('.It Fl'):
            described |= words
    return described, named


def check_man(table):
    common = None
    for command, options in table.items():
        path = ROOT / f'man/heaptap-{command}.1'
        described, named = man_options(path)
        common = spelled(options, 'common')
        yield from compare(path, described, spelled(options, 'now'))
        long_common = {word for word in common if word.startswith('--')}
        for word in sorted(long_common - named):
            yield f'{path}: does not name {word}'
        for word in sorted(named - common - spelled(options, 'now')):
            yield f'{path}: there is no {word}'
    path = ROOT / 'man/heaptap.1'
    described, _named = man_options(path)
    yield from compare(path, described, common)


def check_mandoc():
    if not shutil.which('mandoc'):
        print('SKIP mandoc: not installed')
        return
    for path in sorted((ROOT / 'man').glob('*.1')):
        out = subprocess.run(['mandoc', '-Tlint', '-W', 'warning', path],
                             capture_output=True, text=True, check=False)
        if out.returncode or out.stdout:
            yield out.stdout.strip()


def main():
    table = option_table(sys.argv[1])
    problems = []
    if len(table) < 4:
        problems.append('--list-options: too few commands')
    for check in (check_bash, check_zsh, check_fish, check_man):
        problems += check(table)
    problems += check_mandoc()
    print('\n'.join(problems))
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
