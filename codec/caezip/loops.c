/* A tile's symbols, read and written one after the other: what numpy has no words for.

   `caezip.compiled` calls these functions, and says what is checked before. FORMAT.md has
   the rules ("Scale indexes", "Tables", "rANS"); `caezip.entropy`, `caezip.scales` and
   `caezip.quantisation` do the same without a compiler, and tests hold both to each other. What
   decides how a stream is read is integers only, but for sums in float32 that are known to be
   exact; only an encoder's rounding is not.

   Nothing here reads or writes outside the arrays whose sizes it is given, whatever a stream
   says: tables are chosen by indexes that are clamped or checked, words beyond the end are 0,
   and nothing is allocated. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "rans.h"
#include "shared.h"
#include "tile.h"

enum { LAST_SCALE = 63, EVIDENCE_LEVELS = 32 };

/* So many packed columns at a time: what is computed of them stays in registers and the first
   cache. */
enum { AT_ONCE = 64 };

static void *taken(const Tile *t, int64_t *end, int64_t bytes)
{
    int64_t start = *end;
    *end += (bytes + 63) / 64 * 64;
    return t->room ? t->room + start : 0;
}

static int64_t products_of(const Tile *t) { return STRIDE * 2 * PANEL * panels_of(t->height, t->width); }

/* A tile's room, and how many bytes it takes. */
static Room room_of(const Tile *t, int64_t *end)
{
    const Scales *s = t->scales;
    int64_t most = larger(s->channels[0], s->channels[1]), rows = t->height + 2;
    int64_t columns = evidence_columns(t->width), listed = listed_at_most(t);
    int64_t stride = larger(s->stride[0], s->stride[1]);
    Room room;
    *end = 0;
    for (int half = 0; half < 2; half++)
        room.evidence[half] = taken(t, end, s->channels[half] * rows * columns * 4);
    room.told = taken(t, end, most * t->height * (columns - 8) * 4);
    room.products = taken(t, end, (products_of(t) + BEYOND) * 4);
    room.places = taken(t, end, listed * 4);
    room.at = taken(t, end, listed * 4);
    room.sums = taken(t, end, TELLING_AT_ONCE * stride * 4);
    room.more = taken(t, end, TELLING_AT_ONCE * most * 4);
    room.list = taken(t, end, most * 4);
    room.indexes = taken(t, end, listed);
    room.any = taken(t, end, most);
    return room;
}

/* The bytes of a tile's room. */
int64_t caezip_tile_room(const Tile *t)
{
    int64_t bytes;
    room_of(t, &bytes);
    return bytes;
}

static inline uint8_t index_of(int32_t sum, int32_t shift)
{
    int32_t index = sum >> shift; /* rounds down below 0 too, as all compilers have it */
    index = index < 0 ? 0 : index;
    return (uint8_t)(index > LAST_SCALE ? LAST_SCALE : index);
}

/* To eights: loops over so many need no steps of one. */
static inline int32_t rounded_up(int32_t count) { return (count + 7) / 8 * 8; }

/* A row of a half: its products, the first column that is coded, how many are, and their places in the
   latent and in the evidence. */
typedef struct {
    const int32_t *products;
    int32_t first;
    int32_t inside;
    int32_t place;
    int32_t at;
} Row;

/* Of the channel whose products were computed last, `channel` of the half and `number` of all. */
static inline Row row_of(const Half *h, int32_t channel, int32_t number, int32_t row)
{
    int64_t across = blocks_across(h->width), columns = 2 * PANEL * panels_of(h->height, h->width);
    int32_t first = (row + h->parity) % 2;
    return (Row){h->products + row % STRIDE * columns + row / STRIDE * across * 2, first,
                 (h->width - first + 1) / 2,
                 (int32_t)(((int64_t)number * h->height + row) * h->width + first),
                 (int32_t)((channel * (int64_t)(h->height + 2) + row + 1)
                               * evidence_columns(h->width) + 1)};
}

/* What is coded of a channel, in the order of the stream: places in the latent and in the evidence, and
   scale indexes. No processor guesses which cells are: so they are listed first. */
typedef struct {
    int32_t *places;
    int32_t *at;
    uint8_t *indexes;
    int32_t count;
} Listed;

/* Of `count` packed columns from `start`, with the sums of their products and of `addends`. Those up to
   the next multiple of 8 may be read. */
INLINED void list(Listed *listed, const Row *r, int32_t start, int32_t count, int32_t bias,
                  const int32_t *addends, int32_t shift)
{
    int32_t sums[AT_ONCE], largest = 0;
    uint8_t indexes[AT_ONCE];
    for (int32_t k = 0; k < rounded_up(count); k++) {
        sums[k] = r->products[start + k] + bias + addends[k];
        largest = larger(largest, sums[k]);
    }
    if (largest >> shift == 0) /* most rows are so */
        return;
    for (int32_t k = 0; k < rounded_up(count); k++)
        indexes[k] = index_of(sums[k], shift);
    int32_t found = listed->count;
    for (int32_t eight = 0; eight < count; eight += 8) {
        uint64_t some;
        memcpy(&some, indexes + eight, sizeof some);
        for (int32_t k = eight; some && k < smaller(eight + 8, count); k++) {
            listed->places[found] = r->place + 2 * (start + k);
            listed->at[found] = r->at + start + k;
            listed->indexes[found] = indexes[k];
            found += indexes[k] != 0;
        }
    }
    listed->count = found;
}

/* What an encoder rounds: its latent in steps, means of its first `predicted` channels, and of each
   channel what a squared step of error is worth in bits, if anything: then symbols move one towards 0
   where that saves more, by `savings` [64, 16] of an index and a magnitude. What is coded is listed in
   the order of the stream, with its place in the latent. Where there are `steps`, pass one writes what
   it stands for in channels that have means, and 0 elsewhere. */
typedef struct {
    const float *scaled; /* [channels, height, width] */
    const float *means;  /* [predicted, height, width] */
    const float *worth;  /* [channels], or NULL */
    const float *savings;
    int32_t predicted;
    int32_t *places; /* this and the next two have room for 8 more */
    int32_t *symbols;
    uint8_t *indexes;
    float *steps; /* [predicted, height, width], or NULL */
    int64_t count;
} Rounding;

enum { LARGEST_WEIGHED = 15, LARGEST_SYMBOL = 32767 };

/* As `caezip.quantisation.quantise_with_dead_zone`, of what is listed of a channel. */
INLINED void round_listed(const Rounding *e, const Listed *listed, int32_t channel)
{
    int32_t *symbols = e->symbols + e->count;
    float worth = e->worth ? e->worth[channel] : INFINITY;
    for (int32_t start = 0; start < listed->count; start += AT_ONCE) {
        const int32_t *places = listed->places + start;
        const uint8_t *indexes = listed->indexes + start;
        int32_t count = smaller(AT_ONCE, listed->count - start);
        float values[AT_ONCE];
        for (int32_t k = 0; k < count; k++)
            values[k] = e->scaled[places[k]];
        if (channel < e->predicted)
            for (int32_t k = 0; k < count; k++)
                values[k] -= e->means[places[k]];
        for (int32_t k = 0; k < count; k++) {
            float inside = values[k] > -LARGEST_SYMBOL ? values[k] : -LARGEST_SYMBOL;
            inside = inside < LARGEST_SYMBOL ? inside : LARGEST_SYMBOL;
            /* what is that large has no bits behind the point: the sum rounds, ties to even */
            float nearest = (inside + 0x1.8p23f) - 0x1.8p23f;
            int32_t symbol = (int32_t)nearest, magnitude = symbol < 0 ? -symbol : symbol;
            float excess = (values[k] < 0 ? -values[k] : values[k]) - (float)magnitude;
            float saving = e->savings[(LARGEST_WEIGHED + 1) * indexes[k]
                                      + smaller(magnitude, LARGEST_WEIGHED)];
            int32_t less = saving > worth * (2 * excess + 1); /* never of 0, which saves nothing */
            symbols[start + k] = symbol < 0 ? symbol + less : symbol - less;
        }
    }
}

/* A row's means where pass one codes, to which symbols are added. */
INLINED void begin_steps(const Rounding *e, const Row *r, int32_t width)
{
    const float *means = e->means + r->place;
    float *steps = e->steps + r->place;
    memset(steps - r->first, 0, (size_t)width * sizeof *steps);
    for (int32_t k = 0; k < r->inside; k++)
        steps[2 * k] = means[2 * k];
}

/* Where symbols come from: a stream, or, if there is `rounding`, a latent. */
typedef struct {
    Stream *stream;
    const Tables *tables;
    int32_t limit;
    Rounding *rounding;
} Source;

INLINED Listed nothing_listed(const Source *source, const Room *room)
{
    const Rounding *e = source->rounding;
    return e ? (Listed){e->places + e->count, room->at, e->indexes + e->count, 0}
             : (Listed){room->places, room->at, room->indexes, 0};
}

/* The symbols of what is listed of a channel, and, in pass one, the evidence that they are. */
INLINED int32_t code(const Source *source, const Tile *t, const Listed *listed, int32_t channel,
                     float *evidence)
{
    Rounding *e = source->rounding;
    const int8_t *table = t->scales->evidence;
    if (e)
        round_listed(e, listed, channel);
    for (int32_t i = 0; i < listed->count; i++) {
        int32_t value;
        if (e) {
            value = e->symbols[e->count + i];
        } else {
            value = symbol(source->stream, source->tables, listed->indexes[i], source->limit);
            if (value == INT32_MIN)
                return BEYOND_LIMIT;
            t->residual[listed->places[i]] = value;
        }
        if (evidence)
            evidence[listed->at[i]] = table[EVIDENCE_LEVELS * listed->indexes[i]
                                            + smaller(value < 0 ? -value : value, EVIDENCE_LEVELS - 1)];
    }
    if (e && evidence && e->steps && channel < e->predicted)
        for (int32_t i = 0; i < listed->count; i++)
            e->steps[listed->places[i]] += (float)e->symbols[e->count + i];
    if (e)
        e->count += listed->count;
    return DONE;
}

INLINED Half half_of(const Tile *t, const Room *room, int half, int parity)
{
    return (Half){t->scales,  t->scales->weights[half][parity],
                  t->hyper,   room->products,
                  t->height,  t->width,
                  parity};
}

INLINED int32_t first_pass(const Source *source, const Tile *t, int half)
{
    static const int32_t no_addends[AT_ONCE] = {0};
    int64_t bytes;
    const Room room = room_of(t, &bytes);
    const Half h = half_of(t, &room, half, half);
    const Rounding *e = source->rounding;
    float *evidence = room.evidence[half], of_nothing = t->scales->evidence[0];
    int64_t columns = evidence_columns(t->width);
    memset(room.products + products_of(t), 0, BEYOND * sizeof *room.products);
    for (int32_t channel = 0; channel < t->scales->channels[half]; channel++) {
        int32_t number = half * t->scales->channels[0] + channel;
        int has_steps = e && e->steps && number < e->predicted;
        Listed listed = nothing_listed(source, &room);
        float *told = evidence + channel * columns * (t->height + 2);
        caezip_products(&h, channel);
        memset(told, 0, (size_t)columns * sizeof *told);
        for (int32_t row = 0; row < t->height; row++) {
            const Row r = row_of(&h, channel, number, row);
            told += columns;
            *told = 0;
            for (int32_t k = 0; k < r.inside; k++)
                told[1 + k] = of_nothing;
            for (int32_t k = 1 + r.inside; k < columns; k++)
                told[k] = 0;
            if (has_steps)
                begin_steps(e, &r, t->width);
            for (int32_t start = 0; start < r.inside; start += AT_ONCE)
                list(&listed, &r, start, smaller(AT_ONCE, r.inside - start), t->bias[0][number],
                     no_addends, t->scales->shift);
        }
        memset(told + columns, 0, (size_t)columns * sizeof *told);
        if (code(source, t, &listed, number, evidence) != DONE)
            return BEYOND_LIMIT;
    }
    return DONE;
}

INLINED int32_t second_pass(const Source *source, const Tile *t, int half)
{
    int64_t bytes;
    const Room room = room_of(t, &bytes);
    const Half h = half_of(t, &room, half, 1 - half);
    int64_t columns = evidence_columns(t->width);
    int32_t shift = t->scales->evidence_shift, half_step = 1 << (shift - 1), addends[AT_ONCE];
    const float *across = room.told;
    caezip_tell(t, &room, half);
    for (int32_t channel = 0; channel < t->scales->channels[half]; channel++) {
        int32_t number = half * t->scales->channels[0] + channel;
        const int8_t *weights = t->scales->around + 4 * number;
        float above = weights[0], left = weights[1], right = weights[2], below = weights[3];
        Listed listed = nothing_listed(source, &room);
        caezip_products(&h, channel);
        for (int32_t row = 0; row < t->height; row++, across += columns - 8) {
            const Row r = row_of(&h, channel, number, row);
            for (int32_t start = 0; start < r.inside; start += AT_ONCE) {
                int32_t count = smaller(AT_ONCE, r.inside - start);
                const float *here = room.evidence[half] + r.at + start;
                const float *up = here - columns, *down = here + columns, *other = across + start;
                /* beside column k are the columns k - 1 and k, or, with `first`, k and k + 1 */
                const float *beside = here + r.first - 1;
                for (int32_t k = 0; k < rounded_up(count); k++) {
                    float told = other[k] + above * up[k] + left * beside[k]
                                 + right * beside[k + 1] + below * down[k];
                    addends[k] = ((int32_t)told + half_step) >> shift;
                }
                list(&listed, &r, start, count, t->bias[1][number], addends, t->scales->shift);
            }
        }
        if (code(source, t, &listed, number, 0) != DONE)
            return BEYOND_LIMIT;
    }
    return DONE;
}

INLINED int32_t both_halves(const Source *source, const Tile *t, int is_second)
{
    for (int half = 0; half < 2; half++)
        if ((is_second ? second_pass(source, t, half) : first_pass(source, t, half)) != DONE)
            return BEYOND_LIMIT;
    return DONE;
}

INLINED int32_t decode(Stream *s, const Tables *tables, const Tile *t, int32_t limit, int is_second)
{
    Stream stream = *s;
    const Source source = {&stream, tables, limit, 0};
    int32_t outcome = both_halves(&source, t, is_second);
    if (outcome == DONE)
        *s = stream;
    return outcome;
}

FOR_EACH_PROCESSOR
int32_t caezip_first_pass(Stream *s, const Tables *tables, const Tile *t, int32_t limit)
{
    return decode(s, tables, t, limit, 0);
}

FOR_EACH_PROCESSOR
int32_t caezip_second_pass(Stream *s, const Tables *tables, const Tile *t, int32_t limit)
{
    return decode(s, tables, t, limit, 1);
}

FOR_EACH_PROCESSOR
void caezip_round_first(Rounding *e, const Tile *t)
{
    const Source source = {0, 0, 0, e};
    both_halves(&source, t, 0);
}

FOR_EACH_PROCESSOR
void caezip_round_second(Rounding *e, const Tile *t)
{
    const Source source = {0, 0, 0, e};
    both_halves(&source, t, 1);
}
