/* A tile's symbols, read and written one after the other: what numpy has no words for.

   `caezip.compiled` calls these functions, and says what is checked before. FORMAT.md has
   the rules ("Scale indexes", "Tables", "rANS"); `caezip.entropy`, `caezip.scales` and
   `caezip.quantisation` do the same without a compiler, and tests hold both to each other. What
   decides how a stream is read is integers only, but for sums in float32 that are known to be
   exact; only an encoder's rounding is not.

   Nothing here reads or writes outside the arrays whose sizes it is given, whatever a stream
   says: tables are chosen by indexes that are clamped or checked, words beyond the end are 0,
   and nothing is allocated. */

#include <stdint.h>
#include <string.h>

#include "rans.h"
#include "shared.h"

enum { LAST_SCALE = 63, EVIDENCE_LEVELS = 32, STRIDE = 4 };

/* A tile's latent: one half of the channels, and which of its cells a pass codes. */
typedef struct {
    int32_t channels;
    int32_t height;
    int32_t width;
    int32_t parity;     /* of row + column */
    int32_t shift;
    const int32_t *products; /* weight @ z: [channels, 4, 2, zh, zw], cells by their place in a block */
    const int32_t *bias;     /* [channels], with what rounds the shift to the nearest */
    int32_t *residual;       /* decoded: [channels, height, width]; what is not coded stays 0 */
    uint8_t *coded;          /* [channels]: 1 is written where anything was */
} Half;

/* So many packed columns at a time: what is computed of them stays in registers and the first
   cache, and what is coded is listed before it is decoded, since no processor guesses which. */
enum { AT_ONCE = 64 };

static inline uint8_t index_of(int32_t sum, int32_t shift)
{
    int32_t index = sum >> shift; /* rounds down below 0 too, as all compilers have it */
    index = index < 0 ? 0 : index;
    return (uint8_t)(index > LAST_SCALE ? LAST_SCALE : index);
}

/* Which of `count` cells have an index that is not 0; returns how many. */
static inline int32_t listed(const uint8_t *indexes, int32_t count, uint8_t *list)
{
    int32_t found = 0;
    for (int32_t start = 0; start < count; start += 8) {
        uint64_t eight = 0;
        memcpy(&eight, indexes + start, (size_t)smaller(8, count - start));
        for (int32_t k = start; eight && k < smaller(start + 8, count); k++) {
            list[found] = (uint8_t)k;
            found += indexes[k] != 0;
        }
    }
    return found;
}

/* How many blocks of 4x4 cells there are: those of the hyper-latent. */
static inline int64_t blocks_of(const Half *h)
{
    return (int64_t)((h->height + STRIDE - 1) / STRIDE) * ((h->width + STRIDE - 1) / STRIDE);
}

/* A row of a half: its products, of packed column k at [(k & 1) * blocks + (k >> 1)], the
   first column that is coded, how many are, and the place of the first in the half. */
typedef struct {
    const int32_t *products;
    int64_t blocks;
    int32_t first;
    int32_t inside;
    int64_t start;
} Row;

static inline Row row_of(const Half *h, int32_t channel, int32_t row)
{
    int64_t across = (h->width + STRIDE - 1) / STRIDE, blocks = blocks_of(h);
    int64_t start = ((int64_t)channel * STRIDE + row % STRIDE) * 2 * blocks + row / STRIDE * across;
    int32_t first = (row + h->parity) % 2;
    return (Row){h->products + start, blocks, first, (h->width - first + 1) / 2,
                 ((int64_t)channel * h->height + row) * h->width + first};
}

/* The sums of `count` packed columns from `start`, which is even, plus `addends`, as indexes.
   Returns whether any of these may not be 0; if not, they are not written: most rows are so. */
static inline int indexes_of(const Row *r, int32_t start, int32_t count, int32_t bias,
                             const int32_t *addends, int32_t shift, uint8_t *indexes)
{
    uint8_t both[2][AT_ONCE / 2];
    int32_t sums[2][AT_ONCE / 2], largest = 0;
    sums[1][(count - 1) / 2] = 0; /* the last may have no cell */
    for (int32_t odd = 0; odd < 2; odd++) {
        const int32_t *products = r->products + odd * r->blocks + start / 2;
        for (int32_t k = 0; k < (count + 1 - odd) / 2; k++) {
            sums[odd][k] = products[k] + bias + addends[2 * k + odd];
            largest = sums[odd][k] > largest ? sums[odd][k] : largest;
        }
    }
    if (largest >> shift == 0)
        return 0;
    for (int32_t odd = 0; odd < 2; odd++)
        for (int32_t k = 0; k < (count + 1) / 2; k++)
            both[odd][k] = index_of(sums[odd][k], shift);
    for (int32_t k = 0; k < (count + 1) / 2; k++) {
        indexes[2 * k] = both[0][k];
        indexes[2 * k + 1] = both[1][k];
    }
    return 1;
}

/* What an encoder rounds of a half: its latent in steps, means of its first `predicted` channels,
   and of each channel what a squared step of error is worth in bits, if anything: then symbols
   move one towards 0 where that saves more, by `savings` [64, 16] of an index and a magnitude.
   What is coded is listed in the order of the stream, with its place in the latent. */
typedef struct {
    const float *scaled; /* [channels, height, width] */
    const float *means;  /* [predicted, height, width] */
    const float *worth;  /* [channels], or NULL */
    const float *savings;
    int32_t predicted;
    int32_t start; /* the place of the half's first cell */
    int32_t *places;
    int32_t *symbols;
    uint8_t *indexes;
    int64_t count;
} Rounding;

enum { LARGEST_WEIGHED = 15, LARGEST_SYMBOL = 32767 };

/* As `caezip.quantisation.quantise_with_dead_zone`. */
INLINED int32_t rounded(float value, const float *worth, const float *savings)
{
    float inside = value > -LARGEST_SYMBOL ? value : -LARGEST_SYMBOL;
    inside = inside < LARGEST_SYMBOL ? inside : LARGEST_SYMBOL;
    /* what is that large has no bits behind the point: the sum rounds, ties to even */
    int32_t symbol = (int32_t)((inside + 0x1.8p23f) - 0x1.8p23f);
    if (!worth || !symbol)
        return symbol;
    int32_t magnitude = symbol < 0 ? -symbol : symbol;
    double excess = (double)(value < 0 ? -value : value) - magnitude;
    double saving = savings[smaller(magnitude, LARGEST_WEIGHED)];
    if (saving > (double)*worth * (2 * excess + 1))
        symbol -= symbol < 0 ? -1 : 1;
    return symbol;
}

/* Where symbols come from: a stream, or, if there is `rounding`, a latent. */
typedef struct {
    Stream *stream;
    const Tables *tables;
    int32_t limit;
    Rounding *rounding;
} Source;

/* What is coded of `count` packed columns from `start`: `values`, in the columns of `list`. Returns
   how many there are, or -1 if one is beyond ±limit. */
INLINED int32_t coded(const Source *source, const Half *h, const Row *r, int32_t channel,
                      int32_t start, int32_t count, const int32_t *addends, uint8_t *indexes,
                      uint8_t *list, int32_t *values)
{
    if (!indexes_of(r, start, count, h->bias[channel], addends, h->shift, indexes))
        return 0;
    int32_t found = listed(indexes, count, list);
    h->coded[channel] = 1;
    Rounding *e = source->rounding;
    if (e) {
        int64_t n = e->count;
        const float *worth = e->worth ? e->worth + channel : 0;
        for (int32_t i = 0; i < found; i++) {
            int64_t place = r->start + 2 * (start + list[i]);
            uint8_t index = indexes[list[i]];
            float value = e->scaled[place];
            if (channel < e->predicted)
                value -= e->means[place];
            e->places[n + i] = (int32_t)(e->start + place);
            e->indexes[n + i] = index;
            values[i] = rounded(value, worth, e->savings + (LARGEST_WEIGHED + 1) * index);
            e->symbols[n + i] = values[i];
        }
        e->count += found;
        return found;
    }
    for (int32_t i = 0; i < found; i++) {
        int32_t value = symbol(source->stream, source->tables, indexes[list[i]], source->limit);
        if (value == INT32_MIN)
            return -1;
        h->residual[r->start + 2 * (start + list[i])] = values[i] = value;
    }
    return found;
}

/* Pass one of a half. `evidence` [channels, height, ceil(width / 2)] gets what each symbol
   tells pass two, by `table` [64, 32], and 0 where there is no cell. */
INLINED int32_t first_pass(const Source *source, const Half *h, const int8_t *table,
                           float *evidence)
{
    static const int32_t nothing[AT_ONCE] = {0};
    int32_t columns = (h->width + 1) / 2;
    uint8_t indexes[AT_ONCE], list[AT_ONCE];
    int32_t values[AT_ONCE];
    for (int32_t channel = 0; channel < h->channels; channel++)
        for (int32_t row = 0; row < h->height; row++) {
            const Row r = row_of(h, channel, row);
            float *told = evidence + ((int64_t)channel * h->height + row) * columns;
            for (int32_t start = 0; start < r.inside; start += AT_ONCE) {
                int32_t count = smaller(AT_ONCE, r.inside - start);
                int32_t found = coded(source, h, &r, channel, start, count, nothing, indexes, list,
                                      values);
                if (found < 0)
                    return BEYOND_LIMIT;
                for (int32_t k = 0; k < count; k++)
                    told[start + k] = table[0];
                for (int32_t i = 0; i < found; i++) {
                    int32_t value = values[i] < 0 ? -values[i] : values[i];
                    told[start + list[i]] = table[EVIDENCE_LEVELS * indexes[list[i]]
                                                  + smaller(value, EVIDENCE_LEVELS - 1)];
                }
            }
            if (r.inside < columns)
                told[r.inside] = 0;
        }
    return DONE;
}

FOR_EACH_PROCESSOR
int32_t caezip_first_pass(Stream *s, const Tables *t, const Half *h, const int8_t *table,
                          int32_t limit, float *evidence)
{
    Stream stream = *s;
    const Source source = {&stream, t, limit, 0};
    int32_t outcome = first_pass(&source, h, table, evidence);
    if (outcome == DONE)
        *s = stream;
    return outcome;
}

FOR_EACH_PROCESSOR
void caezip_round_first(Rounding *e, const Half *h, const int8_t *table, float *evidence)
{
    const Source source = {0, 0, 0, e};
    first_pass(&source, h, table, evidence);
}

/* Adds `weight` times `from` to `to`, `count` of each. */
static inline void add(float *to, const float *from, float weight, int32_t count)
{
    for (int32_t k = 0; k < count; k++)
        to[k] += weight * from[k];
}

/* Pass two of a half. `across` [channels, height, ceil(width / 2)] is what the other half's
   evidence tells, `evidence` the half's own, `around` [channels, 4] the weights of the cells
   above, left, right and below. */
INLINED int32_t second_pass(const Source *source, const Half *h, const float *across,
                            const float *evidence, const int8_t *around, int32_t evidence_shift)
{
    int32_t columns = (h->width + 1) / 2, half_step = 1 << (evidence_shift - 1);
    uint8_t indexes[AT_ONCE], list[AT_ONCE];
    float told[AT_ONCE];
    int32_t addends[AT_ONCE], values[AT_ONCE];
    for (int32_t channel = 0; channel < h->channels; channel++) {
        const int8_t *weights = around + 4 * channel;
        for (int32_t row = 0; row < h->height; row++) {
            const Row r = row_of(h, channel, row);
            int64_t place = ((int64_t)channel * h->height + row) * columns;
            for (int32_t start = 0; start < r.inside; start += AT_ONCE) {
                int32_t count = smaller(AT_ONCE, r.inside - start);
                const float *own = evidence + place + start, *other = across + place + start;
                /* beside column k are the columns k - 1 and k, or, with `first`, k and k + 1 */
                int32_t skipped = !start && !r.first;
                for (int32_t k = 0; k < count; k++)
                    told[k] = other[k];
                if (row > 0)
                    add(told, own - columns, weights[0], count);
                add(told + skipped, own + skipped - !r.first, weights[1], count - skipped);
                add(told, own + r.first, weights[2], smaller(count, columns - r.first - start));
                if (row + 1 < h->height)
                    add(told, own + columns, weights[3], count);
                for (int32_t k = 0; k < count; k++)
                    addends[k] = ((int32_t)told[k] + half_step) >> evidence_shift;
                if (coded(source, h, &r, channel, start, count, addends, indexes, list, values) < 0)
                    return BEYOND_LIMIT;
            }
        }
    }
    return DONE;
}

FOR_EACH_PROCESSOR
int32_t caezip_second_pass(Stream *s, const Tables *t, const Half *h, const float *across,
                           const float *evidence, const int8_t *around, int32_t evidence_shift,
                           int32_t limit)
{
    Stream stream = *s;
    const Source source = {&stream, t, limit, 0};
    int32_t outcome = second_pass(&source, h, across, evidence, around, evidence_shift);
    if (outcome == DONE)
        *s = stream;
    return outcome;
}

FOR_EACH_PROCESSOR
void caezip_round_second(Rounding *e, const Half *h, const float *across, const float *evidence,
                         const int8_t *around, int32_t evidence_shift)
{
    const Source source = {0, 0, 0, e};
    second_pass(&source, h, across, evidence, around, evidence_shift);
}
