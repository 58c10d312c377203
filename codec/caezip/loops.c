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

#include "half.h"
#include "rans.h"
#include "shared.h"

enum { LAST_SCALE = 63, EVIDENCE_LEVELS = 32 };

/* So many packed columns at a time: what is computed of them stays in registers and the first
   cache, and what is coded is listed before it is decoded, since no processor guesses which. */
enum { AT_ONCE = 64 };

static inline uint8_t index_of(int32_t sum, int32_t shift)
{
    int32_t index = sum >> shift; /* rounds down below 0 too, as all compilers have it */
    index = index < 0 ? 0 : index;
    return (uint8_t)(index > LAST_SCALE ? LAST_SCALE : index);
}

/* To eights: loops over so many need no steps of one. */
static inline int32_t rounded_up(int32_t count) { return (count + 7) / 8 * 8; }

/* Which of `count` cells have an index that is not 0; returns how many. */
static inline int32_t listed(const uint8_t *indexes, int32_t count, uint8_t *list)
{
    int32_t found = 0;
    for (int32_t start = 0; start < count; start += 8) {
        uint64_t eight;
        memcpy(&eight, indexes + start, sizeof eight);
        for (int32_t k = start; eight && k < smaller(start + 8, count); k++) {
            list[found] = (uint8_t)k;
            found += indexes[k] != 0;
        }
    }
    return found;
}

/* A row of a half: its products, the first column that is coded, how many are, and the place of the
   first in the half. */
typedef struct {
    const int32_t *products;
    int32_t first;
    int32_t inside;
    int64_t start;
} Row;

/* Of the channel whose products were computed last. */
static inline Row row_of(const Half *h, int32_t channel, int32_t row)
{
    int64_t across = (h->width + STRIDE - 1) / STRIDE, down = (h->height + STRIDE - 1) / STRIDE;
    int64_t columns = (across * down + PANEL - 1) / PANEL * PANEL * 2;
    int32_t first = (row + h->parity) % 2;
    return (Row){h->products + row % STRIDE * columns + row / STRIDE * across * 2, first,
                 (h->width - first + 1) / 2,
                 ((int64_t)channel * h->height + row) * h->width + first};
}

/* The sums of `count` packed columns from `start` plus `addends`, as indexes. Both may be read and
   written up to the next multiple of 8. Returns whether any of these may not be 0; if not, indexes are
   not written: most rows are so. */
static inline int indexes_of(const Row *r, int32_t start, int32_t count, int32_t bias,
                             const int32_t *addends, int32_t shift, uint8_t *indexes)
{
    int32_t sums[AT_ONCE], largest = 0;
    for (int32_t k = 0; k < rounded_up(count); k++) {
        sums[k] = r->products[start + k] + bias + addends[k];
        largest = larger(largest, sums[k]);
    }
    if (largest >> shift == 0)
        return 0;
    for (int32_t k = 0; k < rounded_up(count); k++)
        indexes[k] = index_of(sums[k], shift);
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

/* Pass one of a half. `evidence`, as `half.h` has it, gets what each symbol tells pass two, by `table`
   [64, 32], and 0 where there is no cell. */
INLINED int32_t first_pass(const Source *source, const Half *h, const int8_t *table,
                           float *evidence)
{
    static const int32_t no_addends[AT_ONCE] = {0};
    int64_t columns = evidence_columns(h->width);
    float of_nothing = table[0];
    uint8_t indexes[AT_ONCE], list[AT_ONCE];
    int32_t values[AT_ONCE];
    for (int32_t channel = 0; channel < h->channels; channel++) {
        caezip_products(h, channel);
        memset(evidence, 0, (size_t)columns * sizeof *evidence);
        evidence += columns;
        for (int32_t row = 0; row < h->height; row++, evidence += columns) {
            const Row r = row_of(h, channel, row);
            float *told = evidence + 1;
            *evidence = 0;
            for (int32_t k = 0; k < r.inside; k++)
                told[k] = of_nothing;
            for (int32_t k = r.inside; k < columns - 1; k++)
                told[k] = 0;
            for (int32_t start = 0; start < r.inside; start += AT_ONCE) {
                int32_t count = smaller(AT_ONCE, r.inside - start);
                int32_t found = coded(source, h, &r, channel, start, count, no_addends, indexes,
                                      list, values);
                if (found < 0)
                    return BEYOND_LIMIT;
                for (int32_t i = 0; i < found; i++) {
                    int32_t value = values[i] < 0 ? -values[i] : values[i];
                    told[start + list[i]] = table[EVIDENCE_LEVELS * indexes[list[i]]
                                                  + smaller(value, EVIDENCE_LEVELS - 1)];
                }
            }
        }
        memset(evidence, 0, (size_t)columns * sizeof *evidence);
        evidence += columns;
    }
    return DONE;
}

FOR_EACH_PROCESSOR
int32_t caezip_first_pass(Stream *s, const Tables *t, const Half *h, const int8_t *table,
                          float *evidence, int32_t limit)
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

/* Pass two of a half. `across` is what the other half's evidence tells, `evidence` the half's own, both
   as `half.h` has them; `around` [channels, 4] are the weights of the cells above, left, right and below. */
INLINED int32_t second_pass(const Source *source, const Half *h, const float *across,
                            const float *evidence, const int8_t *around, int32_t evidence_shift)
{
    int64_t columns = evidence_columns(h->width);
    int32_t half_step = 1 << (evidence_shift - 1);
    uint8_t indexes[AT_ONCE], list[AT_ONCE];
    int32_t addends[AT_ONCE], values[AT_ONCE];
    for (int32_t channel = 0; channel < h->channels; channel++, evidence += 2 * columns) {
        caezip_products(h, channel);
        const int8_t *weights = around + 4 * channel;
        float above = weights[0], left = weights[1], right = weights[2], below = weights[3];
        for (int32_t row = 0; row < h->height; row++, evidence += columns, across += columns - 8) {
            const Row r = row_of(h, channel, row);
            for (int32_t start = 0; start < r.inside; start += AT_ONCE) {
                int32_t count = smaller(AT_ONCE, r.inside - start);
                const float *up = evidence + 1 + start, *down = up + 2 * columns;
                /* beside column k are the columns k - 1 and k, or, with `first`, k and k + 1 */
                const float *beside = up + columns + r.first - 1, *other = across + start;
                for (int32_t k = 0; k < rounded_up(count); k++) {
                    float told = other[k] + above * up[k] + left * beside[k]
                                 + right * beside[k + 1] + below * down[k];
                    addends[k] = ((int32_t)told + half_step) >> evidence_shift;
                }
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
