/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <linux/rseq.h>
#include "target/internal.h"
#include "target/ptrace.h"

void leave_critical_section(struct tap_target *target, struct tracee *tracee)
{
	struct tap_regs *regs = &tracee->public.regs;
	struct rseq_cs section;
	uint64_t area = 0, addr = 0;

	if (pt_get_rseq(tracee->public.tid, &area) || !area)
		return;
	if (!tap_memory_try_u64(target->memory, area + offsetof(struct rseq, rseq_cs), &addr) ||
		!addr || !tap_memory_try_read(target->memory, addr, &section, sizeof(section)))
		return;
	if (section.version || regs->rip - section.start_ip >= section.post_commit_offset)
		return;
	regs->rip = section.abort_ip;
	tracee->public.regs_changed = true;
}
