#include "ledger.h"

#include "die.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEDGER_MAGIC UINT64_C(0x31726467656c7477) /* "wtledgr1" */

struct file_head {
	uint64_t magic, seed, records, value_size;
};

static void
map(struct ledger *l, const char *path, int fd, uint64_t records)
{
	size_t size = sizeof(struct file_head) + records * sizeof(struct ledger_entry);
	uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		die_errno("mmap %s", path);
	l->entry = (struct ledger_entry *)(void *)(p + sizeof(struct file_head));
}

void
ledger_create(struct ledger *l, const char *path, uint64_t seed, uint64_t records, uint64_t value_size)
{
	struct file_head h = {LEDGER_MAGIC, seed, records, value_size};
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		die_errno("%s", path);
	if (ftruncate(fd, (off_t)(sizeof(h) + records * sizeof(struct ledger_entry))) != 0 ||
	    write(fd, &h, sizeof(h)) != (ssize_t)sizeof(h))
		die_errno("%s", path);
	*l = (struct ledger){.seed = seed, .records = records, .value_size = value_size};
	map(l, path, fd, records);
	close(fd);
}

void
ledger_open(struct ledger *l, const char *path)
{
	struct file_head h;
	struct stat st;
	int fd = open(path, O_RDWR);

	if (fd < 0 || fstat(fd, &st) != 0)
		die_errno("%s", path);
	if (read(fd, &h, sizeof(h)) != (ssize_t)sizeof(h) || h.magic != LEDGER_MAGIC ||
	    (uint64_t)st.st_size != sizeof(h) + h.records * sizeof(struct ledger_entry))
		die("%s: not a ledger", path);
	*l = (struct ledger){.seed = h.seed, .records = h.records, .value_size = h.value_size};
	map(l, path, fd, h.records);
	close(fd);
}

void
ledger_settle(struct ledger *l)
{
	for (uint64_t i = 0; i < l->records; i++)
		atomic_store(&l->entry[i].acked, atomic_load(&l->entry[i].issued));
}
