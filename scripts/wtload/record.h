/*
 * record: what a record holds.
 *
 * A value is a function of (seed, key, version) and of nothing else, so that
 * a verifier needs no copy of the data. About half of it compresses, as
 * documents do.
 */
#ifndef WTLOAD_RECORD_H
#define WTLOAD_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RECORD_MIN = 32, RECORD_MAX = 1 << 20, INDEX_KEY_LEN = 16 };

/* record_mix is splitmix64's output function (Steele, Lea, Flood 2014). */
uint64_t record_mix(uint64_t x);

/* record_fill writes the value of key at version; size is RECORD_MIN or more. */
void record_fill(uint8_t *value, size_t size, uint64_t seed, uint64_t key, uint64_t version);

/*
 * record_check says whether value is that of key at some version, which it
 * stores. scratch has room for size bytes.
 */
bool record_check(const uint8_t *value, size_t size, uint64_t seed, uint64_t key, uint64_t *version,
    uint8_t *scratch);

/* record_index_key writes the secondary key of a record, as hexadecimal text and a NUL. */
void record_index_key(char out[INDEX_KEY_LEN + 1], uint64_t seed, uint64_t key);

#endif
