#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where an include breaks the layer table of src/meson.build, where a
foreign library is included outside of the layer that owns it, or where a
foreign type reaches a public header."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)

# Header prefix -> layers that may include it. "arch" may use ptrace's
# register structs, target/ owns ptrace itself.
OWNERS = {
    'elfutils/': {'symbol'},
    'dwarf.h': {'symbol'},
    'libelf.h': {'symbol'},
    'gelf.h': {'symbol'},
    'libiberty/': {'symbol'},
    'demangle.h': {'symbol'},
    'capstone/': {'arch'},
    'jansson.h': {'view'},
    'sqlite3.h': {'store'},
    'ncurses.h': {'tui'},
    'cairo': {'view'},
    'graphviz/': {'view'},
    'sys/ptrace.h': {'target', 'arch'},
    'linux/ptrace.h': {'target', 'arch'},
    'sys/user.h': {'target', 'arch'},
}


def layer_table():
    text = (ROOT / 'src/meson.build').read_text()
    table = {}
    for name, allowed in re.findall(r"^\s*\['(\w+)',\s*\[([^\]]*)\]", text, re.M):
        table[name] = set(re.findall(r"'(\w+)'", allowed))
    return table


def check(path, layer, allowed, public, table):
    for header in INCLUDE.findall(path.read_text()):
        own = header.split('/')
        if own[0] == 'heaptap':
            if own[1] != layer and own[1] not in allowed:
                yield f'{path}: layer {layer} may not include {header}'
            continue
        if '/' in header and own[0] in table and own[0] != layer:
            yield f'{path}: {header} is private to {own[0]}'
        for prefix, owners in OWNERS.items():
            if header.startswith(prefix):
                if layer not in owners:
                    yield f'{path}: {header} belongs to {", ".join(sorted(owners))}'
                elif public:
                    yield f'{path}: a public header may not include {header}'


def main():
    table = layer_table()
    problems = []
    if len(table) < 5:
        problems.append('src/meson.build: no layer table found')
    for path in sorted([*ROOT.glob('src/*/**/*.[ch]'), *ROOT.glob('include/heaptap/*/**/*.h')]):
        public = 'include' in path.relative_to(ROOT).parts
        layer = path.relative_to(ROOT).parts[2 if public else 1]
        if layer not in table:
            problems.append(f'{path}: {layer} is not in the layer table')
            continue
        problems += check(path, layer, table[layer], public, table)
        if 'SPDX-License-Identifier: Apache-2.0' not in path.read_text()[:200]:
            problems.append(f'{path}: no SPDX line')
    print('\n'.join(problems))
    return bool(problems)


if __name__ == '__main__':
    sys.exit(main())
