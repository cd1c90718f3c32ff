#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPython's layouts as a C table: reads tools/cpython-offsets.tsv, writes
src/python/layouts.c.

    tools/cpython-layouts.py            write src/python/layouts.c
    tools/cpython-layouts.py --check    fail if it is not what would be written
    tools/cpython-layouts.py --from-elf FILE VERSION
                                        print the rows of a new version

The rows (version, struct, field, offset, size) hold the structures and fields
that the code uses, of default builds. They come from the debug information of
real interpreters. To take in a new version, run --from-elf on its libpython or
executable with debug information (gdb must be installed), look through what it
prints, and append it to the .tsv; <constant> rows are macros of CPython's
sources and are added by hand. A member that the code newly needs is a line in
MEMBERS below, a member of struct tap_python_layout, and rows for each version
that has it. Offsets inside _Py_DebugOffsets, which the interpreter itself
carries from 3.13 on, are rows like all others; OVERRIDES says which of them
take the place of which member at run time.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
TABLE = ROOT / 'tools/cpython-offsets.tsv'
OUTPUT = ROOT / 'src/python/layouts.c'

# Member of struct tap_python_layout: the field it is the offset of, under the
# names it has had. '<sizeof>' gives a size, '<constant>' a constant, and
# '#mask' the bits of a bit-field (-1: the whole word).
MEMBERS = [
    ('runtime.interpreters_head', '_PyRuntimeState', ['interpreters.head']),
    ('runtime.current_thread', '_PyRuntimeState', ['gilstate.tstate_current']),
    ('runtime.allocator_raw', '_PyRuntimeState', ['allocators.standard.raw']),
    ('runtime.allocator_mem', '_PyRuntimeState', ['allocators.standard.mem']),
    ('runtime.allocator_obj', '_PyRuntimeState', ['allocators.standard.obj']),
    ('interpreter.next', 'PyInterpreterState', ['next']),
    ('interpreter.id', 'PyInterpreterState', ['id']),
    ('interpreter.threads_head', 'PyInterpreterState', ['threads.head', 'tstate_head']),
    ('interpreter.gil', 'PyInterpreterState', ['ceval.gil']),
    ('gil.last_holder', '_gil_runtime_state', ['last_holder']),
    ('gil.locked', '_gil_runtime_state', ['locked']),
    ('thread.prev', 'PyThreadState', ['prev']),
    ('thread.next', 'PyThreadState', ['next']),
    ('thread.interp', 'PyThreadState', ['interp']),
    ('thread.frame', 'PyThreadState', ['frame']),
    ('thread.cframe', 'PyThreadState', ['cframe']),
    ('thread.current_frame', 'PyThreadState', ['current_frame']),
    ('thread.thread_id', 'PyThreadState', ['thread_id']),
    ('thread.native_thread_id', 'PyThreadState', ['native_thread_id']),
    ('thread.holds_gil', 'PyThreadState', ['holds_gil', '_status.holds_gil']),
    ('thread.holds_gil_mask', 'PyThreadState', ['holds_gil#mask', '_status.holds_gil#mask']),
    ('cframe.current_frame', '_PyCFrame', ['current_frame']),
    ('frame_object.back', 'PyFrameObject', ['f_back']),
    ('frame_object.code', 'PyFrameObject', ['f_code']),
    ('frame_object.lasti', 'PyFrameObject', ['f_lasti']),
    ('frame.code', '_PyInterpreterFrame', ['f_executable', 'f_code']),
    ('frame.previous', '_PyInterpreterFrame', ['previous']),
    ('frame.instruction', '_PyInterpreterFrame', ['instr_ptr', 'prev_instr']),
    ('frame.is_entry', '_PyInterpreterFrame', ['is_entry']),
    ('frame.owner', '_PyInterpreterFrame', ['owner']),
    ('code.firstlineno', 'PyCodeObject', ['co_firstlineno']),
    ('code.code', 'PyCodeObject', ['co_code']),
    ('code.filename', 'PyCodeObject', ['co_filename']),
    ('code.name', 'PyCodeObject', ['co_name']),
    ('code.qualname', 'PyCodeObject', ['co_qualname']),
    ('code.linetable', 'PyCodeObject', ['co_linetable', 'co_lnotab']),
    ('code.instructions', 'PyCodeObject', ['ob_base.ob_size']),
    ('code.firsttraceable', 'PyCodeObject', ['_co_firsttraceable']),
    ('code.adaptive', 'PyCodeObject', ['co_code_adaptive']),
    ('object.type', 'PyObject', ['ob_type']),
    ('type.name', 'PyTypeObject', ['tp_name']),
    ('bytes.length', 'PyBytesObject', ['ob_base.ob_size']),
    ('bytes.data', 'PyBytesObject', ['ob_sval']),
    ('unicode.length', 'PyASCIIObject', ['length']),
    ('unicode.state', 'PyASCIIObject', ['state']),
    ('unicode.ascii_size', 'PyASCIIObject', ['<sizeof>']),
    ('unicode.compact_size', 'PyCompactUnicodeObject', ['<sizeof>']),
    ('unicode.data', 'PyUnicodeObject', ['data.any']),
    ('pool.header_size', 'pool_header', ['<sizeof>']),
    ('pool.count', 'pool_header', ['ref.count']),
    ('pool.free_block', 'pool_header', ['freeblock']),
    ('pool.class_index', 'pool_header', ['szidx']),
    ('pool.next_offset', 'pool_header', ['nextoffset']),
    ('pool.max_next_offset', 'pool_header', ['maxnextoffset']),
    ('pool.size', '<constant>', ['POOL_SIZE']),
    ('debug_offsets_size', '_Py_DebugOffsets', ['<sizeof>']),
]

# Entries of _Py_DebugOffsets and the members they take the place of.
OVERRIDES = [
    ('runtime_state.interpreters_head', 'runtime.interpreters_head'),
    ('interpreter_state.id', 'interpreter.id'),
    ('interpreter_state.next', 'interpreter.next'),
    ('interpreter_state.threads_head', 'interpreter.threads_head'),
    ('interpreter_state.ceval_gil', 'interpreter.gil'),
    ('thread_state.prev', 'thread.prev'),
    ('thread_state.next', 'thread.next'),
    ('thread_state.interp', 'thread.interp'),
    ('thread_state.current_frame', 'thread.current_frame'),
    ('thread_state.thread_id', 'thread.thread_id'),
    ('thread_state.native_thread_id', 'thread.native_thread_id'),
    ('thread_state.holds_gil', 'thread.holds_gil'),
    ('interpreter_frame.previous', 'frame.previous'),
    ('interpreter_frame.executable', 'frame.code'),
    ('interpreter_frame.instr_ptr', 'frame.instruction'),
    ('interpreter_frame.owner', 'frame.owner'),
    ('code_object.filename', 'code.filename'),
    ('code_object.name', 'code.name'),
    ('code_object.qualname', 'code.qualname'),
    ('code_object.linetable', 'code.linetable'),
    ('code_object.firstlineno', 'code.firstlineno'),
    ('code_object.co_code_adaptive', 'code.adaptive'),
    ('pyobject.ob_type', 'object.type'),
    ('type_object.tp_name', 'type.name'),
    ('bytes_object.ob_size', 'bytes.length'),
    ('bytes_object.ob_sval', 'bytes.data'),
    ('unicode_object.length', 'unicode.length'),
    ('unicode_object.state', 'unicode.state'),
    ('unicode_object.asciiobject_size', 'unicode.ascii_size'),
    ('unicode_object.compactunicodeobject_size', 'unicode.compact_size'),
]

HEAD = '''/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Made by tools/cpython-layouts.py from tools/cpython-offsets.tsv: change
 * those, not this file.
 */

#include "python/layout.h"

'''


def read_table():
    rows = {}
    for line in TABLE.read_text().splitlines()[1:]:
        version, struct, field, offset, size = line.split('\t')
        rows.setdefault(version, {})[struct, field] = offset, size
    return rows


def member_value(rows, struct, names):
    for name in names:
        field, _, mask = name.partition('#')
        if (struct, field) not in rows:
            continue
        offset, size = rows[struct, field]
        if field == '<sizeof>' or struct == '<constant>':
            return size
        offset, _, bit = offset.partition(':bit')
        if mask:
            return str(1 << int(bit)) if bit else '-1'
        return offset
    return None


def minor(version):
    return int(version.split('.')[1])


def lines_format(version):
    if minor(version) < 10:
        return 'TAP_PYTHON_LINES_LNOTAB'
    return 'TAP_PYTHON_LINES_RANGES' if minor(version) == 10 else 'TAP_PYTHON_LINES_LOCATIONS'


def generate():
    table = read_table()
    versions = sorted(table, key=minor)
    out = [HEAD]
    for version in versions:
        rows = table[version]
        entries = [(rows['_Py_DebugOffsets', entry][0], member)
                   for entry, member in OVERRIDES if ('_Py_DebugOffsets', entry) in rows]
        if not entries:
            continue
        name = version.replace('.', '_')
        out.append(f'static const struct tap_python_override overrides_{name}[] = {{\n')
        for offset, member in entries:
            out.append(f'\t{{{offset}, offsetof(struct tap_python_layout, {member})}},\n')
        out.append('};\n\n')
    out.append('const struct tap_python_layout tap_python_layouts[] = {\n')
    for version in versions:
        rows = table[version]
        out.append(f'\t{{\n\t\t.minor = {minor(version)},\n')
        out.append(f'\t\t.lines = {lines_format(version)},\n')
        for member, struct, names in MEMBERS:
            value = member_value(rows, struct, names)
            out.append(f'\t\t.{member} = {"TAP_PYTHON_ABSENT" if value is None else value},\n')
        if ('_Py_DebugOffsets', '<sizeof>') in rows:
            name = version.replace('.', '_')
            out.append(f'\t\t.overrides = overrides_{name},\n')
            out.append(f'\t\t.override_count = TAP_PYTHON_COUNT(overrides_{name}),\n')
        out.append('\t},\n')
    out.append('};\n\n')
    out.append('const size_t tap_python_layout_count = TAP_PYTHON_COUNT(tap_python_layouts);\n')
    return ''.join(out)


def wanted_fields():
    """(struct, field) of every row that the code can use."""
    for _, struct, names in MEMBERS:
        for name in names:
            yield struct, name.partition('#')[0]
    for field in ('cookie', 'version', 'free_threaded'):
        yield '_Py_DebugOffsets', field
    for entry, _ in OVERRIDES:
        yield '_Py_DebugOffsets', entry


# Run by gdb's own Python, which knows the types of the file.
GDB_SCRIPT = '''
def member(kind, name):
    """(bit position, bits of a bit-field or 0, type), also inside nameless members"""
    for field in kind.strip_typedefs().fields():
        if field.name == name:
            return field.bitpos, field.bitsize, field.type
        if not field.name:
            inner = member(field.type, name)
            if inner:
                return field.bitpos + inner[0], inner[1], inner[2]

def row(struct, path):
    for tag in (struct, 'struct ' + struct, 'struct ' + struct.lstrip('_').lower()):
        try:
            kind = gdb.lookup_type(tag)
        except gdb.error:
            continue
        if path == '<sizeof>':
            return '-', kind.sizeof
        at = bits = 0
        for name in path.split('.'):
            found = member(kind, name)
            if not found:
                return None
            at, bits, kind = at + found[0], found[1], found[2]
        if bits:
            return '%d:bit%d' % (at // 8, at % 8), '%dbits' % bits
        return at // 8, kind.sizeof

for struct, path in FIELDS:
    found = row(struct, path)
    if found:
        print('@', VERSION, struct, path, *found, sep='\\t')
'''


def from_elf(elf, version):
    fields = [pair for pair in dict.fromkeys(wanted_fields()) if pair[0] != '<constant>']
    with tempfile.NamedTemporaryFile('w', suffix='.py') as script:
        script.write(f'FIELDS = {fields!r}\nVERSION = {version!r}\n{GDB_SCRIPT}')
        script.flush()
        text = subprocess.run(['gdb', '-batch', '-nx', '-q', '-x', script.name, elf],
                              capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        if line.startswith('@\t'):
            print(line[2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true')
    parser.add_argument('--from-elf', nargs=2, metavar=('FILE', 'VERSION'))
    args = parser.parse_args()
    if args.from_elf:
        from_elf(*args.from_elf)
        return 0
    text = generate()
    if args.check:
        if not OUTPUT.exists() or OUTPUT.read_text() != text:
            print(f'{OUTPUT} is not what tools/cpython-layouts.py makes: run it')
            return 1
        return 0
    OUTPUT.write_text(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
