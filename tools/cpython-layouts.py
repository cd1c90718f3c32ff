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
    ('runtime.gc', '_PyRuntimeState', ['gc']),
    ('interpreter.next', 'PyInterpreterState', ['next']),
    ('interpreter.id', 'PyInterpreterState', ['id']),
    ('interpreter.threads_head', 'PyInterpreterState', ['threads.head', 'tstate_head']),
    ('interpreter.gil', 'PyInterpreterState', ['ceval.gil']),
    ('interpreter.gc', 'PyInterpreterState', ['gc']),
    ('interpreter.modules', 'PyInterpreterState', ['imports.modules', 'modules']),
    ('interpreter.modules_by_index', 'PyInterpreterState',
     ['imports.modules_by_index', 'modules_by_index']),
    ('interpreter.importlib', 'PyInterpreterState', ['imports.importlib', 'importlib']),
    ('interpreter.import_func', 'PyInterpreterState', ['imports.import_func', 'import_func']),
    ('interpreter.sysdict', 'PyInterpreterState', ['sysdict']),
    ('interpreter.builtins', 'PyInterpreterState', ['builtins']),
    ('interpreter.dict', 'PyInterpreterState', ['dict']),
    ('interpreter.codec_search_path', 'PyInterpreterState',
     ['codecs.search_path', 'codec_search_path']),
    ('interpreter.codec_search_cache', 'PyInterpreterState',
     ['codecs.search_cache', 'codec_search_cache']),
    ('interpreter.codec_error_registry', 'PyInterpreterState',
     ['codecs.error_registry', 'codec_error_registry']),
    ('interpreter.interned', 'PyInterpreterState', ['cached_objects']),
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
    ('thread_values.exc_info', 'PyThreadState', ['exc_info']),
    ('thread_values.current_exception', 'PyThreadState', ['current_exception', 'curexc_value']),
    ('thread_values.current_exception_type', 'PyThreadState', ['curexc_type']),
    ('thread_values.current_exception_traceback', 'PyThreadState', ['curexc_traceback']),
    ('thread_values.dict', 'PyThreadState', ['dict']),
    ('thread_values.context', 'PyThreadState', ['context']),
    ('thread_values.async_exc', 'PyThreadState', ['async_exc']),
    ('thread_values.async_gen_firstiter', 'PyThreadState', ['async_gen_firstiter']),
    ('thread_values.async_gen_finalizer', 'PyThreadState', ['async_gen_finalizer']),
    ('thread_values.profile', 'PyThreadState', ['c_profileobj']),
    ('thread_values.trace', 'PyThreadState', ['c_traceobj']),
    ('thread_values.delete_later', 'PyThreadState',
     ['delete_later', 'trash.delete_later', 'trash_delete_later']),
    ('exc_item.type', '_PyErr_StackItem', ['exc_type']),
    ('exc_item.value', '_PyErr_StackItem', ['exc_value']),
    ('exc_item.traceback', '_PyErr_StackItem', ['exc_traceback']),
    ('exc_item.previous', '_PyErr_StackItem', ['previous_item']),
    ('cframe.current_frame', '_PyCFrame', ['current_frame']),
    ('frame_object.back', 'PyFrameObject', ['f_back']),
    ('frame_object.code', 'PyFrameObject', ['f_code']),
    ('frame_object.lasti', 'PyFrameObject', ['f_lasti']),
    ('frame_object_values.back', 'PyFrameObject', ['f_back']),
    ('frame_object_values.code', 'PyFrameObject', ['f_code']),
    ('frame_object_values.builtins', 'PyFrameObject', ['f_builtins']),
    ('frame_object_values.globals', 'PyFrameObject', ['f_globals']),
    ('frame_object_values.locals', 'PyFrameObject', ['f_locals']),
    ('frame_object_values.value_stack', 'PyFrameObject', ['f_valuestack']),
    ('frame_object_values.stack_top', 'PyFrameObject', ['f_stacktop']),
    ('frame_object_values.stack_depth', 'PyFrameObject', ['f_stackdepth']),
    ('frame_object_values.trace', 'PyFrameObject', ['f_trace']),
    ('frame_object_values.localsplus', 'PyFrameObject', ['f_localsplus']),
    ('frame_object_values.frame', 'PyFrameObject', ['f_frame']),
    ('frame_object_values.extra_locals', 'PyFrameObject', ['f_extra_locals']),
    ('frame_object_values.locals_cache', 'PyFrameObject', ['f_locals_cache']),
    ('frame_object_values.overwritten_locals', 'PyFrameObject', ['f_overwritten_fast_locals']),
    ('frame_object_values.frame_data', 'PyFrameObject', ['_f_frame_data']),
    ('frame_object_values.size', 'PyFrameObject', ['<sizeof>']),
    ('frame.code', '_PyInterpreterFrame', ['f_executable', 'f_code']),
    ('frame.previous', '_PyInterpreterFrame', ['previous']),
    ('frame.instruction', '_PyInterpreterFrame', ['instr_ptr', 'prev_instr']),
    ('frame.is_entry', '_PyInterpreterFrame', ['is_entry']),
    ('frame.owner', '_PyInterpreterFrame', ['owner']),
    ('frame_values.function', '_PyInterpreterFrame', ['f_funcobj', 'f_func']),
    ('frame_values.globals', '_PyInterpreterFrame', ['f_globals']),
    ('frame_values.locals', '_PyInterpreterFrame', ['f_locals']),
    ('frame_values.frame_object', '_PyInterpreterFrame', ['frame_obj']),
    ('frame_values.stack_top', '_PyInterpreterFrame', ['stacktop']),
    ('frame_values.stack_pointer', '_PyInterpreterFrame', ['stackpointer']),
    ('frame_values.localsplus', '_PyInterpreterFrame', ['localsplus']),
    ('code.firstlineno', 'PyCodeObject', ['co_firstlineno']),
    ('code.code', 'PyCodeObject', ['co_code']),
    ('code.filename', 'PyCodeObject', ['co_filename']),
    ('code.name', 'PyCodeObject', ['co_name']),
    ('code.qualname', 'PyCodeObject', ['co_qualname']),
    ('code.linetable', 'PyCodeObject', ['co_linetable', 'co_lnotab']),
    ('code.instructions', 'PyCodeObject', ['ob_base.ob_size']),
    ('code.firsttraceable', 'PyCodeObject', ['_co_firsttraceable']),
    ('code.adaptive', 'PyCodeObject', ['co_code_adaptive']),
    ('code_values.nlocals', 'PyCodeObject', ['co_nlocals']),
    ('code_values.nlocalsplus', 'PyCodeObject', ['co_nlocalsplus']),
    ('code_values.stacksize', 'PyCodeObject', ['co_stacksize']),
    ('code_values.consts', 'PyCodeObject', ['co_consts']),
    ('code_values.names', 'PyCodeObject', ['co_names']),
    ('code_values.varnames', 'PyCodeObject', ['co_varnames']),
    ('code_values.freevars', 'PyCodeObject', ['co_freevars']),
    ('code_values.cellvars', 'PyCodeObject', ['co_cellvars']),
    ('code_values.localsplusnames', 'PyCodeObject', ['co_localsplusnames']),
    ('code_values.localspluskinds', 'PyCodeObject', ['co_localspluskinds']),
    ('code_values.exceptiontable', 'PyCodeObject', ['co_exceptiontable']),
    ('code_values.cached', 'PyCodeObject', ['_co_cached', '_co_code']),
    ('code_values.cell2arg', 'PyCodeObject', ['co_cell2arg']),
    ('code_values.extra', 'PyCodeObject', ['co_extra']),
    ('code_values.opcache_map', 'PyCodeObject', ['co_opcache_map']),
    ('code_values.opcache', 'PyCodeObject', ['co_opcache']),
    ('code_values.opcache_size', 'PyCodeObject', ['co_opcache_size']),
    ('code_values.zombie_frame', 'PyCodeObject', ['co_zombieframe']),
    ('object.type', 'PyObject', ['ob_type']),
    ('object.head_size', 'PyObject', ['<sizeof>']),
    ('object.items', 'PyVarObject', ['ob_size']),
    ('type.name', 'PyTypeObject', ['tp_name']),
    ('type.basic_size', 'PyTypeObject', ['tp_basicsize']),
    ('type.item_size', 'PyTypeObject', ['tp_itemsize']),
    ('type.flags', 'PyTypeObject', ['tp_flags']),
    ('type.weaklist_offset', 'PyTypeObject', ['tp_weaklistoffset']),
    ('type.base', 'PyTypeObject', ['tp_base']),
    ('type.dict', 'PyTypeObject', ['tp_dict']),
    ('type.dict_offset', 'PyTypeObject', ['tp_dictoffset']),
    ('type.bases', 'PyTypeObject', ['tp_bases']),
    ('type.mro', 'PyTypeObject', ['tp_mro']),
    ('type.cache', 'PyTypeObject', ['tp_cache']),
    ('type.subclasses', 'PyTypeObject', ['tp_subclasses']),
    ('type.weaklist', 'PyTypeObject', ['tp_weaklist']),
    ('type.size', 'PyTypeObject', ['<sizeof>']),
    ('type.doc', 'PyTypeObject', ['tp_doc']),
    ('type.members', 'PyTypeObject', ['tp_members']),
    ('heap_type.name', 'PyHeapTypeObject', ['ht_name']),
    ('heap_type.slots', 'PyHeapTypeObject', ['ht_slots']),
    ('heap_type.qualname', 'PyHeapTypeObject', ['ht_qualname']),
    ('heap_type.cached_keys', 'PyHeapTypeObject', ['ht_cached_keys']),
    ('heap_type.module', 'PyHeapTypeObject', ['ht_module']),
    ('heap_type.type_name', 'PyHeapTypeObject', ['_ht_tpname']),
    ('heap_type.size', 'PyHeapTypeObject', ['<sizeof>']),
    ('list.items', 'PyListObject', ['ob_item']),
    ('list.allocated', 'PyListObject', ['allocated']),
    ('tuple.items', 'PyTupleObject', ['ob_item']),
    ('dict.used', 'PyDictObject', ['ma_used']),
    ('dict.keys', 'PyDictObject', ['ma_keys']),
    ('dict.values', 'PyDictObject', ['ma_values']),
    ('dict.size', 'PyDictObject', ['<sizeof>']),
    ('keys.refcount', 'PyDictKeysObject', ['dk_refcnt']),
    ('keys.slots', 'PyDictKeysObject', ['dk_size']),
    ('keys.log2_slots', 'PyDictKeysObject', ['dk_log2_size']),
    ('keys.log2_index_bytes', 'PyDictKeysObject', ['dk_log2_index_bytes']),
    ('keys.kind', 'PyDictKeysObject', ['dk_kind']),
    ('keys.usable', 'PyDictKeysObject', ['dk_usable']),
    ('keys.entries', 'PyDictKeysObject', ['dk_nentries']),
    ('keys.indices', 'PyDictKeysObject', ['dk_indices']),
    ('keys.entry_size', 'PyDictKeyEntry', ['<sizeof>']),
    ('keys.entry_key', 'PyDictKeyEntry', ['me_key']),
    ('keys.entry_value', 'PyDictKeyEntry', ['me_value']),
    ('keys.unicode_entry_size', 'PyDictUnicodeEntry', ['<sizeof>']),
    ('keys.unicode_entry_key', 'PyDictUnicodeEntry', ['me_key']),
    ('keys.unicode_entry_value', 'PyDictUnicodeEntry', ['me_value']),
    ('values.values', 'PyDictValues', ['values']),
    ('values.capacity', 'PyDictValues', ['capacity']),
    ('values.size', 'PyDictValues', ['size']),
    ('values.embedded', 'PyDictValues', ['embedded']),
    ('values.valid', 'PyDictValues', ['valid']),
    ('odict.first', 'PyODictObject', ['od_first']),
    ('odict.fast_nodes', 'PyODictObject', ['od_fast_nodes']),
    ('odict.fast_nodes_size', 'PyODictObject', ['od_fast_nodes_size']),
    ('set.used', 'PySetObject', ['used']),
    ('set.mask', 'PySetObject', ['mask']),
    ('set.table', 'PySetObject', ['table']),
    ('set.small_table', 'PySetObject', ['smalltable']),
    ('set.entry_size', 'setentry', ['<sizeof>']),
    ('set.entry_key', 'setentry', ['key']),
    ('deque.left_block', 'dequeobject', ['leftblock']),
    ('deque.left_index', 'dequeobject', ['leftindex']),
    ('deque.free_blocks', 'dequeobject', ['freeblocks']),
    ('deque.free_block_count', 'dequeobject', ['numfreeblocks']),
    ('deque.block_size', 'deque_block', ['<sizeof>']),
    ('deque.block_data', 'deque_block', ['data']),
    ('deque.block_right', 'deque_block', ['rightlink']),
    ('bytearray.allocated', 'PyByteArrayObject', ['ob_alloc']),
    ('bytearray.bytes', 'PyByteArrayObject', ['ob_bytes']),
    ('bytearray.bytes_object', 'PyByteArrayObject', ['ob_bytes_object']),
    ('module.dict', 'PyModuleObject', ['md_dict']),
    ('module.name', 'PyModuleObject', ['md_name']),
    ('module.state', 'PyModuleObject', ['md_state']),
    ('function.code', 'PyFunctionObject', ['func_code']),
    ('function.globals', 'PyFunctionObject', ['func_globals']),
    ('function.builtins', 'PyFunctionObject', ['func_builtins']),
    ('function.defaults', 'PyFunctionObject', ['func_defaults']),
    ('function.kwdefaults', 'PyFunctionObject', ['func_kwdefaults']),
    ('function.closure', 'PyFunctionObject', ['func_closure']),
    ('function.doc', 'PyFunctionObject', ['func_doc']),
    ('function.name', 'PyFunctionObject', ['func_name']),
    ('function.qualname', 'PyFunctionObject', ['func_qualname']),
    ('function.dict', 'PyFunctionObject', ['func_dict']),
    ('function.module', 'PyFunctionObject', ['func_module']),
    ('function.annotations', 'PyFunctionObject', ['func_annotations']),
    ('function.annotate', 'PyFunctionObject', ['func_annotate']),
    ('function.typeparams', 'PyFunctionObject', ['func_typeparams']),
    ('method.function', 'PyMethodObject', ['im_func']),
    ('method.self', 'PyMethodObject', ['im_self']),
    ('cell.value', 'PyCellObject', ['ob_ref']),
    ('generator.frame', 'PyGenObject', ['gi_frame']),
    ('generator.code', 'PyGenObject', ['gi_code']),
    ('generator.name', 'PyGenObject', ['gi_name']),
    ('generator.qualname', 'PyGenObject', ['gi_qualname']),
    ('generator.exc_state', 'PyGenObject', ['gi_exc_state']),
    ('generator.origin_or_finalizer', 'PyGenObject', ['gi_origin_or_finalizer']),
    ('generator.coroutine_origin', 'PyCoroObject', ['cr_origin']),
    ('generator.frame_state', 'PyGenObject', ['gi_frame_state']),
    ('generator.iframe', 'PyGenObject', ['gi_iframe']),
    ('weakref.callback', 'PyWeakReference', ['wr_callback']),
    ('weakref.next', 'PyWeakReference', ['wr_next']),
    ('lru.root_next', 'lru_cache_object', ['root.next']),
    ('lru.cache', 'lru_cache_object', ['cache']),
    ('lru.hits', 'lru_cache_object', ['hits']),
    ('lru.function', 'lru_cache_object', ['func']),
    ('lru.maxsize', 'lru_cache_object', ['maxsize']),
    ('lru.misses', 'lru_cache_object', ['misses']),
    ('lru.cache_info_type', 'lru_cache_object', ['cache_info_type']),
    ('lru.dict', 'lru_cache_object', ['dict']),
    ('lru.mark', 'lru_cache_object', ['kwd_mark']),
    ('lru.element_type', 'lru_cache_object', ['lru_list_elem_type']),
    ('lru.element_next', 'lru_list_elem', ['next']),
    ('lru.element_key', 'lru_list_elem', ['key']),
    ('lru.element_result', 'lru_list_elem', ['result']),
    ('traceback.next', 'PyTracebackObject', ['tb_next']),
    ('traceback.frame', 'PyTracebackObject', ['tb_frame']),
    ('exception.dict', 'PyBaseExceptionObject', ['dict']),
    ('exception.args', 'PyBaseExceptionObject', ['args']),
    ('exception.notes', 'PyBaseExceptionObject', ['notes']),
    ('exception.traceback', 'PyBaseExceptionObject', ['traceback']),
    ('exception.context', 'PyBaseExceptionObject', ['context']),
    ('exception.cause', 'PyBaseExceptionObject', ['cause']),
    ('exception.size', 'PyBaseExceptionObject', ['<sizeof>']),
    ('integer.tag', 'PyLongObject', ['long_value.lv_tag']),
    ('integer.digits', 'PyLongObject', ['long_value.ob_digit', 'ob_digit']),
    ('gc.generations', '_gc_runtime_state', ['generations']),
    ('gc.collecting', '_gc_runtime_state', ['collecting']),
    ('gc.garbage', '_gc_runtime_state', ['garbage']),
    ('gc.callbacks', '_gc_runtime_state', ['callbacks']),
    ('gc.generation_size', 'gc_generation', ['<sizeof>']),
    ('gc.head_size', 'PyGC_Head', ['<sizeof>']),
    ('bytes.length', 'PyBytesObject', ['ob_base.ob_size']),
    ('bytes.data', 'PyBytesObject', ['ob_sval']),
    ('unicode.length', 'PyASCIIObject', ['length']),
    ('unicode.state', 'PyASCIIObject', ['state']),
    ('unicode.ascii_size', 'PyASCIIObject', ['<sizeof>']),
    ('unicode.compact_size', 'PyCompactUnicodeObject', ['<sizeof>']),
    ('unicode.data', 'PyUnicodeObject', ['data.any']),
    ('unicode.utf8', 'PyUnicodeObject', ['_base.utf8']),
    ('unicode.utf8_length', 'PyUnicodeObject', ['_base.utf8_length']),
    ('unicode.wide', 'PyASCIIObject', ['wstr']),
    ('unicode.wide_length', 'PyUnicodeObject', ['_base.wstr_length']),
    ('unicode.full_size', 'PyUnicodeObject', ['<sizeof>']),
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
    ('interpreter_state.gc', 'interpreter.gc'),
    ('interpreter_state.imports_modules', 'interpreter.modules'),
    ('interpreter_state.sysdict', 'interpreter.sysdict'),
    ('interpreter_state.builtins', 'interpreter.builtins'),
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
    ('interpreter_frame.localsplus', 'frame_values.localsplus'),
    ('interpreter_frame.stackpointer', 'frame_values.stack_pointer'),
    ('code_object.filename', 'code.filename'),
    ('code_object.name', 'code.name'),
    ('code_object.qualname', 'code.qualname'),
    ('code_object.linetable', 'code.linetable'),
    ('code_object.firstlineno', 'code.firstlineno'),
    ('code_object.co_code_adaptive', 'code.adaptive'),
    ('code_object.localsplusnames', 'code_values.localsplusnames'),
    ('code_object.localspluskinds', 'code_values.localspluskinds'),
    ('pyobject.ob_type', 'object.type'),
    ('type_object.tp_name', 'type.name'),
    ('type_object.tp_flags', 'type.flags'),
    ('type_object.size', 'type.size'),
    ('type_object.tp_basicsize', 'type.basic_size'),
    ('type_object.tp_dictoffset', 'type.dict_offset'),
    ('heap_type_object.size', 'heap_type.size'),
    ('heap_type_object.ht_cached_keys', 'heap_type.cached_keys'),
    ('tuple_object.ob_item', 'tuple.items'),
    ('list_object.ob_item', 'list.items'),
    ('dict_object.ma_keys', 'dict.keys'),
    ('dict_object.ma_values', 'dict.values'),
    ('set_object.used', 'set.used'),
    ('set_object.table', 'set.table'),
    ('set_object.mask', 'set.mask'),
    ('gen_object.gi_name', 'generator.name'),
    ('gen_object.gi_iframe', 'generator.iframe'),
    ('gen_object.gi_frame_state', 'generator.frame_state'),
    ('long_object.lv_tag', 'integer.tag'),
    ('long_object.ob_digit', 'integer.digits'),
    ('gc.collecting', 'gc.collecting'),
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
