/* SPDX-License-Identifier: Apache-2.0 */
#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "heaptap/base/cleanup.h"
#include "image.h"

#define FILE_MAX_BYTES (UINT64_C(16) << 30)
#define SEGMENTS_MAX 128
#define BUILD_ID_MAX 64
#define PAGE_MASK UINT64_C(4095)

static bool read_segments(struct tap_image *image)
{
	size_t count;
	GElf_Phdr phdr;

	if (elf_getphdrnum(image->elf, &count))
		return false;
	for (size_t i = 0; i < count && i < SEGMENTS_MAX; i++)
		if (gelf_getphdr(image->elf, (int)i, &phdr))
			tap_vector_push(&image->segments, phdr);
	return true;
}

/* Takes over bytes. */
static struct tap_image *make(uint8_t *bytes, size_t size_bytes)
{
	struct tap_image *image = tap_alloc(sizeof(*image));
	GElf_Ehdr ehdr;

	elf_version(EV_CURRENT);
	image->bytes = bytes;
	image->size_bytes = size_bytes;
	image->elf = elf_memory((char *)bytes, size_bytes);
	if (!image->elf || elf_kind(image->elf) != ELF_K_ELF || !gelf_getehdr(image->elf, &ehdr) ||
		ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_machine != EM_X86_64 ||
		!read_segments(image)) {
		tap_image_close(image);
		return NULL;
	}
	return image;
}

struct tap_image *tap_image_open(int fd)
{
	struct stat st;
	void *bytes;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Elf64_Ehdr) ||
		(uint64_t)st.st_size > FILE_MAX_BYTES)
		return NULL;
	/* Writable, as libelf converts in place where it has to. */
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return NULL;
	return make(bytes, (size_t)st.st_size);
}

struct tap_image *tap_image_open_path(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? NULL : tap_image_open(fd);
}

void tap_image_close(struct tap_image *image)
{
	if (!image)
		return;
	dwarf_end(image->dwarf);
	elf_end(image->elf);
	munmap(image->bytes, image->size_bytes);
	tap_vector_free(&image->segments);
	free(image);
}

/* What is left of the memory of a process once its section headers, which are
 * not mapped, are taken out of the ELF header. */
static struct tap_image *make_from_memory(uint8_t *bytes, size_t size_bytes, uint64_t start)
{
	Elf64_Ehdr *ehdr = (Elf64_Ehdr *)bytes;
	struct tap_image *image;
	const GElf_Phdr *first;

	if (ehdr->e_shoff > size_bytes || ehdr->e_shnum > (size_bytes - ehdr->e_shoff) / 64)
		ehdr->e_shoff = ehdr->e_shnum = ehdr->e_shstrndx = 0;
	image = make(bytes, size_bytes);
	if (!image)
		return NULL;
	first = tap_image_segment_of_offset(image, 0);
	image->from_memory = true;
	image->memory_bias = first ? start - (first->p_vaddr - first->p_offset) : 0;
	return image;
}

static uint8_t *reserve(size_t size_bytes)
{
	void *bytes = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return bytes == MAP_FAILED ? NULL : bytes;
}

static bool holds_call_frames(const Elf64_Phdr *load, const Elf64_Phdr *phdrs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (phdrs[i].p_type == PT_GNU_EH_FRAME && phdrs[i].p_offset >= load->p_offset &&
			phdrs[i].p_offset - load->p_offset < load->p_filesz)
			return true;
	return false;
}

/* The segments but for pure code, each at its offset in the file. */
static struct tap_image *read_loads(struct tap_memory *memory, uint64_t start,
	const Elf64_Ehdr *ehdr, const Elf64_Phdr *phdrs, size_t count)
{
	const uint64_t limit = UINT64_C(1) << 30;
	uint64_t size = 0, bias = start;
	uint8_t *bytes;

	for (size_t i = 0; i < count; i++) {
		const Elf64_Phdr *p = &phdrs[i];

		if (p->p_type != PT_LOAD)
			continue;
		if (p->p_offset > limit || p->p_filesz > limit)
			return NULL;
		if (p->p_offset + p->p_filesz > size)
			size = p->p_offset + p->p_filesz;
		if (p->p_offset == 0)
			bias = start - p->p_vaddr;
	}
	if (size < sizeof(*ehdr) || !(bytes = reserve(size)))
		return NULL;
	for (size_t i = 0; i < count; i++) {
		const Elf64_Phdr *p = &phdrs[i];

		if (p->p_type == PT_LOAD && (!(p->p_flags & PF_X) || p->p_offset == 0 ||
						    holds_call_frames(p, phdrs, count)))
			tap_memory_read_some(
				memory, bias + p->p_vaddr, bytes + p->p_offset, p->p_filesz);
	}
	memcpy(bytes, ehdr, sizeof(*ehdr));
	((Elf64_Ehdr *)bytes)->e_shoff = size + 1; /* not mapped */
	return make_from_memory(bytes, size, start);
}

struct tap_image *tap_image_read(
	struct tap_memory *memory, uint64_t start, uint64_t end, bool whole)
{
	Elf64_Phdr phdrs[SEGMENTS_MAX];
	Elf64_Ehdr ehdr;
	uint8_t *bytes;

	if (!tap_memory_try_read(memory, start, &ehdr, sizeof(ehdr)) ||
		memcmp(ehdr.e_ident, ELFMAG, SELFMAG) || ehdr.e_phentsize != sizeof(Elf64_Phdr) ||
		ehdr.e_phnum > SEGMENTS_MAX || end - start > (UINT64_C(1) << 30))
		return NULL;
	if (whole) {
		bytes = reserve(end - start);
		if (!bytes)
			return NULL;
		tap_memory_read_some(memory, start, bytes, end - start);
		return make_from_memory(bytes, end - start, start);
	}
	if (ehdr.e_phoff > end - start || !tap_memory_try_read(memory, start + ehdr.e_phoff, phdrs,
						  ehdr.e_phnum * sizeof(phdrs[0])))
		return NULL;
	return read_loads(memory, start, &ehdr, phdrs, ehdr.e_phnum);
}

const GElf_Phdr *tap_image_segment_of_offset(const struct tap_image *image, uint64_t offset)
{
	const GElf_Phdr *found = NULL;

	for (size_t i = 0; i < image->segments.count; i++) {
		const GElf_Phdr *p = &image->segments.items[i];
		uint64_t first = p->p_offset & ~PAGE_MASK;

		/* Segments share pages: the mapping that shows code is the code's. */
		if (p->p_type == PT_LOAD && offset >= first &&
			offset - first < p->p_filesz + (p->p_offset - first) &&
			(!found || ((p->p_flags & PF_X) && !(found->p_flags & PF_X))))
			found = p;
	}
	return found;
}

const GElf_Phdr *tap_image_segment_at(const struct tap_image *image, uint64_t vaddr)
{
	for (size_t i = 0; i < image->segments.count; i++) {
		const GElf_Phdr *p = &image->segments.items[i];

		if (p->p_type == PT_LOAD && vaddr >= p->p_vaddr && vaddr - p->p_vaddr < p->p_memsz)
			return p;
	}
	return NULL;
}

bool tap_image_extent(const struct tap_image *image, uint64_t *low_ret, uint64_t *high_ret)
{
	uint64_t low = UINT64_MAX, high = 0;

	for (size_t i = 0; i < image->segments.count; i++) {
		const GElf_Phdr *p = &image->segments.items[i];

		if (p->p_type != PT_LOAD || p->p_vaddr + p->p_memsz < p->p_vaddr)
			continue;
		if (p->p_vaddr < low)
			low = p->p_vaddr;
		if (p->p_vaddr + p->p_memsz > high)
			high = p->p_vaddr + p->p_memsz;
	}
	*low_ret = low & ~PAGE_MASK;
	*high_ret = (high + PAGE_MASK) & ~PAGE_MASK;
	return low < high && *high_ret > *low_ret;
}

const uint8_t *tap_image_at(const struct tap_image *image, uint64_t vaddr, size_t size_bytes)
{
	const GElf_Phdr *p = tap_image_segment_at(image, vaddr);
	uint64_t in, offset;

	if (!p)
		return NULL;
	in = vaddr - p->p_vaddr;
	offset = p->p_offset + in;
	if (in >= p->p_filesz || size_bytes > p->p_filesz - in || offset < in ||
		offset >= image->size_bytes || size_bytes > image->size_bytes - offset)
		return NULL;
	return image->bytes + offset;
}

Elf_Scn *tap_image_section(const struct tap_image *image, const char *name, GElf_Shdr *shdr_ret)
{
	Elf_Scn *scn = NULL;
	size_t names;

	if (elf_getshdrstrndx(image->elf, &names))
		return NULL;
	while ((scn = elf_nextscn(image->elf, scn))) {
		const char *it;

		if (!gelf_getshdr(scn, shdr_ret))
			continue;
		it = elf_strptr(image->elf, names, shdr_ret->sh_name);
		if (it && !strcmp(it, name))
			return scn;
	}
	return NULL;
}

bool tap_image_has_dwarf(const struct tap_image *image)
{
	GElf_Shdr shdr;

	return (tap_image_section(image, ".debug_info", &shdr) && shdr.sh_type != SHT_NOBITS) ||
		tap_image_section(image, ".zdebug_info", &shdr);
}

Dwarf *tap_image_dwarf(struct tap_image *image)
{
	if (!image->dwarf_tried) {
		image->dwarf_tried = true;
		image->dwarf = dwarf_begin_elf(image->elf, DWARF_C_READ, NULL);
	}
	return image->dwarf;
}

char *tap_image_build_id(const struct tap_image *image)
{
	static const char hex[] = "0123456789abcdef";
	const void *id;
	ssize_t size = dwelf_elf_gnu_build_id(image->elf, &id);
	char *text;

	if (size <= 0 || size > BUILD_ID_MAX)
		return NULL;
	text = tap_alloc((size_t)size * 2 + 1);
	for (ssize_t i = 0; i < size; i++) {
		uint8_t byte = ((const uint8_t *)id)[i];

		text[i * 2] = hex[byte >> 4];
		text[i * 2 + 1] = hex[byte & 15];
	}
	return text;
}
