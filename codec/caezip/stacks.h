/* Residual blocks, row by row of cells: what a row becomes in all of them stays in a core's cache.

   Cells have their channels beside each other here, [height, width, channels]; what comes in and goes
   out has them as planes. All numbers of channels are multiples of 16. */

#ifndef CAEZIP_STACKS_H
#define CAEZIP_STACKS_H

#include "dense.h"

enum { KEPT = 3, MOST_BLOCKS = 8, ACROSS = 4 };

/* `caezip.blocks.DepthwiseBlock`, or, if nothing is mixed in and out, its `LeanBlock`. The 3x3 reads
   levels as well, here without their zero. */
typedef struct {
    const float *kernel; /* [9, mixed], integers */
    const float *scales;
    const float *biases;
    float levels_per_unit;
    float lowest; /* level, and the highest */
    float highest;
    int32_t mixed;    /* channels of the 3x3 */
    int32_t has_mixing;
    Dense mix_in;
    Dense mix_out;
    Dense expand;
    Dense reduce;
} Block;

/* `blocks` one behind the other. What a row becomes in one is what the next one reads two rows later,
   so each is a row behind the one before it. */
typedef struct {
    const Block *blocks;
    int32_t count;
    int32_t channels;
    int32_t height;
    int32_t width;
} Stack;

/* Planes [channels, height, width], with planes and rows so many numbers apart, and what they are
   multiplied with. Networks may see some cells more: the last ones once more, and nobody what they make
   of those. */
typedef struct {
    float *values;
    int64_t plane;
    int64_t row;
    const float *gains; /* [channels] */
    int32_t channels;
    int32_t height;
    int32_t width;
} Planes;

#if defined(HAS_DENSE)

/* Memory that is handed out piece by piece; of no address, only the sum of the pieces. */
typedef struct {
    uint8_t *memory;
    int64_t taken;
} Room;

INLINED void *take(Room *room, int64_t bytes)
{
    uint8_t *piece = room->memory ? room->memory + room->taken : 0;
    room->taken += (bytes + 127) / 64 * 64; /* vectors are read to a little behind an end */
    return piece;
}

/* What a stack works in. */
typedef struct {
    float *levels[MOST_BLOCKS]; /* of the rows that each 3x3 reads: [3, width + 2, mixed] */
    float *nothing;             /* such a row beyond the border */
    float *rows;                /* [kept, apart, channels] */
    int32_t kept;
    int64_t apart;
    uint8_t *read;   /* [eights of cells, channels], or mixed ones */
    uint8_t *hidden; /* [8, hidden] */
    int32_t *sums;   /* [8, outputs] */
} Work;

INLINED int64_t in_eights(int64_t count) { return (count + TOGETHER - 1) / TOGETHER * TOGETHER; }

/* Numbers in a row of a block's levels: to whole eights of cells, and a margin at both ends. */
INLINED int64_t margined_row(const Stack *s, const Block *b)
{
    return (in_eights(s->width) + 2) * b->mixed;
}

INLINED Work work_of(const Stack *s, Room *room, float *rows)
{
    Work w = {{0}, 0, rows, s->height, s->width, 0, 0, 0};
    int64_t floats = sizeof(float), most = 0;
    int32_t hidden = 0, widest = s->channels;
    for (int32_t n = 0; n < s->count; n++) {
        const Block *b = s->blocks + n;
        int64_t margined = margined_row(s, b);
        w.levels[n] = take(room, KEPT * margined * floats);
        most = margined > most ? margined : most;
        hidden = larger(hidden, b->expand.outputs);
        widest = larger(widest, b->mixed);
    }
    w.nothing = take(room, most * floats);
    if (w.nothing)
        memset(w.nothing, 0, (size_t)(most * floats));
    if (!rows) {
        w.kept = s->count + 1;
        w.apart = in_eights(s->width);
        w.rows = take(room, w.kept * w.apart * s->channels * floats);
    }
    w.read = take(room, in_eights(s->width) * widest);
    w.hidden = take(room, TOGETHER * (int64_t)hidden);
    w.sums = take(room, TOGETHER * (int64_t)MOST_OUTPUTS * (int64_t)sizeof(int32_t));
    return w;
}

INLINED float *row_at(const Stack *s, const Work *w, int32_t row)
{
    return w->rows + (row % w->kept) * w->apart * s->channels;
}

#define FOR_LANES FOR_AVX2
#define IN_LANES(NAME) NAME##_eights
#define LANES 8
#define VECTOR __m256
#define ALL(X) _mm256_set1_ps(X)
#define LOADED(FROM) _mm256_loadu_ps(FROM)
#define STORE(TO, X) _mm256_storeu_ps(TO, X)
#define NUMBERS_OF(FROM) _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(FROM)))
#define ADDED(X, Y) _mm256_add_ps(X, Y)
#define MULTIPLIED(X, Y) _mm256_mul_ps(X, Y)
#define MULTIPLIED_AND_ADDED(X, Y, Z) _mm256_fmadd_ps(X, Y, Z)
#define LARGER(X, Y) _mm256_max_ps(X, Y)
#define SMALLER(X, Y) _mm256_min_ps(X, Y)
#define ROUNDED(X) _mm256_round_ps(X, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define WRITE_LEVELS(D, X, TO) write_levels(D, (X)[0], (X)[1], TO)
#include "lanes.h"

#define FOR_LANES FOR_VNNI
#define IN_LANES(NAME) NAME##_sixteens
#define LANES 16
#define VECTOR __m512
#define ALL(X) _mm512_set1_ps(X)
#define LOADED(FROM) _mm512_loadu_ps(FROM)
#define STORE(TO, X) _mm512_storeu_ps(TO, X)
#define NUMBERS_OF(FROM) _mm512_cvtepi32_ps(_mm512_loadu_si512(FROM))
#define ADDED(X, Y) _mm512_add_ps(X, Y)
#define MULTIPLIED(X, Y) _mm512_mul_ps(X, Y)
#define MULTIPLIED_AND_ADDED(X, Y, Z) _mm512_fmadd_ps(X, Y, Z)
#define LARGER(X, Y) _mm512_max_ps(X, Y)
#define SMALLER(X, Y) _mm512_min_ps(X, Y)
#define ROUNDED(X) _mm512_roundscale_ps(X, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define WRITE_LEVELS(D, X, TO) write_sixteen_levels(D, (X)[0], TO)
#include "lanes.h"

/* Whichever of the two. */
#define IN_KIND(KIND, NAME, ...)                                                                   \
    do {                                                                                           \
        if ((KIND) == FOURS_OF_SIXTEEN)                                                            \
            NAME##_sixteens(__VA_ARGS__);                                                          \
        else                                                                                       \
            NAME##_eights(__VA_ARGS__);                                                            \
    } while (0)

/* Sums of no more than TOGETHER cells. */
INLINED void multiply(int kind, const Dense *d, const uint8_t *levels, int64_t stride,
                      int32_t cells, int32_t *sums)
{
    if (kind == FOURS_OF_SIXTEEN)
        multiply_vnni(d, levels, stride, cells, sums);
#if defined(HAS_AVX_VNNI)
    else if (kind == FOURS_OF_EIGHT)
        multiply_avx_vnni(d, levels, stride, cells, sums);
#endif
    else
        multiply_avx2(d, levels, stride, cells, sums);
}

/* Of `levels` of cells, `inputs` bytes apart, the outputs: `values`, those of a cell `apart` from those
   of the next. */
INLINED_AVX2 void dense_to(int kind, const Dense *d, const uint8_t *levels, int32_t cells,
                           int32_t *sums, float *values, int64_t apart)
{
    for (int32_t start = 0; start < cells; start += TOGETHER) {
        int32_t some = smaller(TOGETHER, cells - start);
        multiply(kind, d, levels + (int64_t)start * d->inputs, d->inputs, some, sums);
        IN_KIND(kind, write_outputs, d, sums, some, values + start * apart, apart);
    }
}

INLINED_AVX2 void to_levels(int kind, const Dense *d, const float *values, int64_t count,
                            uint8_t *levels)
{
    IN_KIND(kind, to_levels, d, values, count, levels);
}

/* A row as a block's 3x3 sees it, with a cell of nothing at both ends. */
INLINED_AVX2 void read_row(int kind, const Block *b, const Work *w, const float *values,
                           int32_t channels, int32_t width, float *levels)
{
    int64_t count = (int64_t)width * b->mixed;
    memset(levels, 0, (size_t)b->mixed * sizeof *levels);
    levels += b->mixed;
    if (b->has_mixing) {
        const Dense *d = &b->mix_in;
        to_levels(kind, d, values, (int64_t)width * channels, w->read);
        for (int32_t start = 0; start < width; start += TOGETHER) {
            int32_t some = smaller(TOGETHER, width - start);
            multiply(kind, d, w->read + (int64_t)start * channels, channels, some, w->sums);
            for (int32_t k = 0; k < some; k++)
                IN_KIND(kind, read_sums, b, w->sums + k * b->mixed,
                        levels + (int64_t)(start + k) * b->mixed);
        }
    } else
        IN_KIND(kind, read_values, b, values, count, levels);
    memset(levels + count, 0, (size_t)b->mixed * sizeof *levels);
}

/* To eight cells or fewer, what a layer makes of their levels. */
INLINED_AVX2 void add_outputs(int kind, const Dense *d, const uint8_t *levels, int32_t *sums,
                              int32_t cells, float *values)
{
    cells = smaller(TOGETHER, cells);
    multiply(kind, d, levels, d->inputs, cells, sums);
    IN_KIND(kind, add_outputs, d, sums, cells, values);
}

/* To a row, what a block's MLP makes of the levels that were read. */
INLINED_AVX2 void add_mlp(int kind, const Block *b, const Work *w, int32_t channels, int32_t width,
                          float *values)
{
    const Dense *expand = &b->expand, *reduce = &b->reduce;
    for (int32_t start = 0; start < width; start += TOGETHER) {
        int32_t some = smaller(TOGETHER, width - start);
        multiply(kind, expand, w->read + (int64_t)start * channels, channels, some, w->sums);
        IN_KIND(kind, activate, expand, w->sums, some, reduce, w->hidden);
        add_outputs(kind, reduce, w->hidden, w->sums, width - start,
                    values + (int64_t)start * channels);
    }
}

/* Once row `row` of what the stack reads is there: whatever it can make of that. Then the row
   `row - count` is what comes out. Rows from the height on are beyond the border. */
INLINED_AVX2 void advance(int kind, const Stack *s, const Work *w, int32_t row)
{
    for (int32_t n = 0; n < s->count; n++, row--) {
        if (row < 0 || row > s->height)
            continue;
        const Block *b = s->blocks + n;
        int64_t margined = margined_row(s, b);
        if (row < s->height)
            read_row(kind, b, w, row_at(s, w, row), s->channels, s->width,
                     w->levels[n] + row % KEPT * margined);
        if (row == 0)
            continue;
        const float *rows[KEPT];
        for (int32_t k = 0; k < KEPT; k++) {
            int32_t place = row - 2 + k;
            int there = place >= 0 && place < s->height;
            rows[k] = there ? w->levels[n] + place % KEPT * margined : w->nothing;
        }
        float *values = row_at(s, w, row - 1);
        IN_KIND(kind, mix_row, b, rows, s->width, w->read);
        if (b->has_mixing) {
            for (int32_t start = 0; start < s->width; start += TOGETHER)
                add_outputs(kind, &b->mix_out, w->read + (int64_t)start * b->mixed, w->sums,
                            s->width - start, values + (int64_t)start * s->channels);
            to_levels(kind, &b->expand, values, (int64_t)s->width * s->channels, w->read);
        }
        add_mlp(kind, b, w, s->channels, s->width, values);
    }
}

INLINED_AVX2 void run_in_place(int kind, const Stack *s, const Work *w)
{
    for (int32_t row = 0; row < s->height + s->count; row++)
        advance(kind, s, w, row);
}

/* A row of planes, to cells and back, in eights: of cells there is room for whole eights. */
INLINED_AVX2 void from_planes(const Planes *p, int32_t row, int32_t width, float *values)
{
    row = smaller(row, p->height - 1);
    for (int32_t n = 0; n < p->channels; n += 8)
        for (int32_t k = 0; k < p->width; k += 8) {
            const float *from = p->values + n * p->plane + row * p->row + k;
            __m256i there = first_of_eight(p->width - k);
            __m256 gains = eight(p->gains + n), square[8];
            for (int32_t i = 0; i < 8; i++)
                square[i] = _mm256_maskload_ps(from + i * p->plane, there);
            turn(square);
            for (int32_t i = 0; i < 8; i++)
                _mm256_storeu_ps(values + (int64_t)(k + i) * p->channels + n,
                                 _mm256_mul_ps(square[i], gains));
        }
    size_t cell = (size_t)p->channels * sizeof *values;
    for (int32_t k = p->width; k < width; k++)
        memcpy(values + k * (int64_t)p->channels, values + (p->width - 1) * (int64_t)p->channels, cell);
}

INLINED_AVX2 void to_planes(const Planes *p, int32_t row, const float *values)
{
    int32_t width = row < p->height ? p->width : 0;
    for (int32_t n = 0; n < p->channels; n += 8)
        for (int32_t k = 0; k < width; k += 8) {
            float *to = p->values + n * p->plane + row * p->row + k;
            __m256i there = first_of_eight(width - k);
            __m256 gains = eight(p->gains + n), square[8];
            for (int32_t i = 0; i < 8; i++)
                square[i] = _mm256_mul_ps(eight(values + (int64_t)(k + i) * p->channels + n), gains);
            turn(square);
            for (int32_t i = 0; i < 8; i++)
                _mm256_maskstore_ps(to + i * p->plane, there, square[i]);
        }
}

/* Each for all kinds of processors. Without `memory` only how much is needed. */
#if defined(HAS_AVX_VNNI)
#define FOR_ONE_MORE(NAME, JOB)                                                                    \
    FOR_AVX_VNNI static int64_t NAME##_fours(const JOB *job, uint8_t *memory)                      \
    {                                                                                              \
        return NAME(FOURS_OF_EIGHT, job, memory);                                                  \
    }
#else
#define FOR_ONE_MORE(NAME, JOB)                                                                    \
    static int64_t NAME##_fours(const JOB *job, uint8_t *memory) { return NAME##_pairs(job, memory); }
#endif
#define FOR_EACH_KIND(NAME, JOB)                                                                   \
    FOR_VNNI static int64_t NAME##_sixteens(const JOB *job, uint8_t *memory)                       \
    {                                                                                              \
        return NAME(FOURS_OF_SIXTEEN, job, memory);                                                \
    }                                                                                              \
    FOR_AVX2 static int64_t NAME##_pairs(const JOB *job, uint8_t *memory)                          \
    {                                                                                              \
        return NAME(PAIRS, job, memory);                                                           \
    }                                                                                              \
    FOR_ONE_MORE(NAME, JOB)                                                                        \
    int64_t caezip_##NAME(const JOB *job, int32_t kind, uint8_t *memory)                           \
    {                                                                                              \
        if (kind == FOURS_OF_SIXTEEN)                                                              \
            return NAME##_sixteens(job, memory);                                                   \
        return kind == FOURS_OF_EIGHT ? NAME##_fours(job, memory) : NAME##_pairs(job, memory);     \
    }
#endif

#endif
