/* Symbols whose tables are known before, read from a stream and written to one: FORMAT.md, "rANS".
   What is said in `loops.c` of memory is true here as well. */

#include <stdint.h>

#include "rans.h"

/* Increased with every change of a struct or of a function's arguments, in any of the sources. */
int32_t caezip_loops_version(void) { return 13; }

/* Symbols of a stream, each with the table that is named for it. */
int32_t caezip_symbols(Stream *s, const Tables *t, const uint16_t *tables, int64_t count,
                       int32_t limit, int32_t *out)
{
    Stream stream = *s;
    for (int64_t i = 0; i < count; i++) {
        out[i] = symbol(&stream, t, tables[i], limit);
        if (out[i] == INT32_MIN)
            return BEYOND_LIMIT;
    }
    *s = stream;
    return DONE;
}

/* Where a stream that is written is: words from the end of `words` backwards, of which `next`
   are still free, and the coder's state, which begins as 2^31. */

static inline void make_room(Stream *s, uint64_t frequency)
{
    if (s->x >= frequency << (63 - PRECISION_BITS)) {
        s->words[--s->next] = (uint32_t)s->x;
        s->x >>= 32;
    }
}

static inline void put_nibble(Stream *s, uint64_t value)
{
    make_room(s, 1 << (PRECISION_BITS - 4));
    s->x = s->x << 4 | value;
}

/* x / frequency for x below 2^63, by a multiplication: with s = ceil(log2(frequency)) and the reciprocal
   ceil(2^(63 + s) / frequency), as Granlund and Montgomery 1994, "Division by Invariant Integers using
   Multiplication", section 4, have it. `frequency` 1, whose reciprocal has more bits, is told by a 0. */
static inline uint64_t divided(uint64_t x, uint64_t frequency, uint64_t reciprocal, uint8_t shift)
{
#if defined(__SIZEOF_INT128__)
    (void)frequency;
    return reciprocal ? (uint64_t)((unsigned __int128)x * reciprocal >> 64) >> (shift - 1) : x;
#else
    (void)reciprocal, (void)shift;
    return x / frequency;
#endif
}

/* Write symbols, each with the table that is named for it, from the last to the first, before what
   was written before. There has to be room for 3 words of each, and for 2 more. */
void caezip_write(Stream *s, const Tables *t, const uint16_t *tables, const int32_t *symbols,
                  int64_t count)
{
    Stream stream = *s;
    for (int64_t i = count - 1; i >= 0; i--) {
        int64_t start = t->start[tables[i]];
        const uint32_t *cumulative = t->cumulative + start;
        int64_t escape = t->length[tables[i]] - 1;
        int64_t entry = (int64_t)symbols[i] - t->offset[tables[i]];
        if (entry < 0 || entry >= escape) {
            uint64_t raw = (uint64_t)(entry < 0 ? -2 * entry - 1 : 2 * (entry - escape));
            uint64_t nibbles = 0; /* 9 at most: a symbol has 32 bits */
            while (raw >> (4 * nibbles))
                nibbles++;
            for (uint64_t n = nibbles; n > 0; n--)
                put_nibble(&stream, raw >> (4 * (n - 1)) & 15);
            put_nibble(&stream, nibbles);
            entry = escape;
        }
        uint64_t frequency = cumulative[entry + 1] - cumulative[entry];
        make_room(&stream, frequency);
        uint64_t whole = divided(stream.x, frequency, t->reciprocals[start + entry],
                                 t->shifts[start + entry]);
        /* the quotient, shifted, and the remainder */
        stream.x += whole * ((1 << PRECISION_BITS) - frequency) + cumulative[entry];
    }
    *s = stream;
}
