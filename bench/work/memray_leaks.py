# SPDX-License-Identifier: Apache-2.0
"""The lines whose memory is still there at the end of a recording of memray,
the largest first: memray_leaks.py FILE"""
import collections
import os
import sys

import memray

by_line = collections.Counter()
with memray.FileReader(sys.argv[1]) as reader:
    for record in reader.get_leaked_allocation_records(merge_threads=True):
        frames = record.stack_trace(1)
        if frames:
            by_line["%s:%d" % (os.path.basename(frames[0][1]), frames[0][2])] += record.size
for line, size in by_line.most_common(10):
    print(size, line)
