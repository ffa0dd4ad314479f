#include "record.h"

#include <stdio.h>
#include <string.h>

/* The head of each value; it is stored in the machine's own byte order. */
struct head {
	uint64_t seed, key, version;
};

uint64_t
record_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

void
record_fill(uint8_t *value, size_t size, uint64_t seed, uint64_t key, uint64_t version)
{
	struct head h = {seed, key, version};
	uint64_t x = record_mix(seed ^ record_mix(key ^ record_mix(version)));
	size_t random_end = size / 2, off = sizeof(h);

	memcpy(value, &h, sizeof(h));
	for (; off + sizeof(x) <= random_end; off += sizeof(x)) {
		x = record_mix(x);
		memcpy(value + off, &x, sizeof(x));
	}
	memset(value + off, 'a' + (int)(x % 26), size - off);
}

bool
record_check(const uint8_t *value, size_t size, uint64_t seed, uint64_t key, uint64_t *version,
    uint8_t *scratch)
{
	struct head h;

	memcpy(&h, value, sizeof(h));
	if (h.seed != seed || h.key != key)
		return false;
	*version = h.version;
	record_fill(scratch, size, seed, key, h.version);
	return memcmp(value, scratch, size) == 0;
}

void
record_index_key(char out[INDEX_KEY_LEN + 1], uint64_t seed, uint64_t key)
{
	snprintf(out, INDEX_KEY_LEN + 1, "%016llx", (unsigned long long)record_mix(seed + key * 2 + 1));
}
