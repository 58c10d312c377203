/* How one symbol is read from a stream: FORMAT.md, "Tables" and "rANS". */

#ifndef CAEZIP_RANS_H
#define CAEZIP_RANS_H

#include <stdint.h>

enum { DONE = 0, BEYOND_LIMIT = 1 };
enum { PRECISION_BITS = 16, COARSE_BITS = 8 };

/* Where a stream is: its words, how many, the next, and the coder's state. */
typedef struct {
    uint32_t *words; /* only read by what decodes */
    int64_t count;
    int64_t next;
    uint64_t x;
} Stream;

/* Tables one after the other: table t has the cumulative frequencies
   cumulative[start[t]], …, cumulative[start[t] + length[t]], from 0 to 2^16. Entry
   coarse[256 t + u / 256] is the one, or one before the one, of which u is part. What belongs to
   entries has, like `cumulative`, one more for each table. */
typedef struct {
    const uint32_t *cumulative;
    const int32_t *start;
    const int32_t *length;
    const int32_t *offset;
    const uint16_t *coarse;
    const uint64_t *reciprocals; /* of the frequency of each entry, see `divided` */
    const uint8_t *shifts;
} Tables;

static inline void refill(Stream *s)
{
    if (s->x < (UINT64_C(1) << 31)) {
        s->x = s->x << 32 | (s->next < s->count ? s->words[s->next] : 0);
        s->next++;
    }
}

static inline uint64_t nibble(Stream *s)
{
    uint64_t value = s->x & 15;
    s->x >>= 4;
    refill(s);
    return value;
}

/* What stands behind an escape; what does not fit into 32 bits as 2^32 - 1, which is beyond
   every limit. */
static inline uint64_t escaped(Stream *s)
{
    uint64_t count = 0, value, raw = 0;
    do {
        value = nibble(s);
        count += value;
    } while (value == 15);
    for (uint64_t i = 0; i < count; i++) {
        value = nibble(s);
        if (i < 8)
            raw |= value << (4 * i);
        else if (value)
            raw = UINT32_MAX;
    }
    return raw;
}

/* The symbol, or INT32_MIN if it is beyond ±limit. */
static inline int32_t symbol(Stream *s, const Tables *t, int32_t table, int32_t limit)
{
    const uint32_t *cumulative = t->cumulative + t->start[table];
    uint32_t u = (uint32_t)(s->x & ((1 << PRECISION_BITS) - 1));
    int64_t entry = t->coarse[((int64_t)table << COARSE_BITS) + (u >> (PRECISION_BITS - COARSE_BITS))];
    while (cumulative[entry + 1] <= u)
        entry++;
    s->x = (uint64_t)(cumulative[entry + 1] - cumulative[entry]) * (s->x >> PRECISION_BITS)
           + u - cumulative[entry];
    refill(s);
    if (entry == t->length[table] - 1) {
        int64_t raw = (int64_t)escaped(s);
        entry = raw & 1 ? -(raw >> 1) - 1 : (raw >> 1) + entry;
    }
    entry += t->offset[table];
    return entry < -limit || entry > limit ? INT32_MIN : (int32_t)entry;
}

#endif
