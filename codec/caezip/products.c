/* What decides scale indexes, as far as it is products of matrices: FORMAT.md, "Scale indexes".

   All of it is integers; those in float32 stay below 2^24, so that any order gives the same. What is
   said in `loops.c` of memory is true here as well. */

#include <stdint.h>
#include <string.h>

#include "shared.h"
#include "tile.h"

#if defined(HAS_WIDE)
#include <immintrin.h>
#endif

enum { PAIR = 2 * PANEL, WEIGHTS = 2 * PLACES }; /* numbers of two channels beside each other */
enum { ROWS = 4, EIGHTS = PANEL / 8 };           /* their sums stay in registers */

/* Of a panel, the sums of all places. */
static void add_up(int32_t (*sums)[PANEL], const int16_t *hyper, const int16_t *weights, int32_t pairs)
{
    memset(sums, 0, PLACES * sizeof *sums);
    for (int32_t n = 0; n < pairs; n++, hyper += PAIR, weights += WEIGHTS)
        for (int32_t k = 0; k < PLACES; k++)
            for (int32_t i = 0; i < PANEL; i++)
                sums[k][i] += hyper[2 * i] * weights[2 * k] + hyper[2 * i + 1] * weights[2 * k + 1];
}

#if defined(HAS_WIDE)
/* The same, where one instruction multiplies pairs and adds each up. */
__attribute__((target("avx2"))) static void add_up_pairs(int32_t (*sums)[PANEL],
                                                         const int16_t *hyper,
                                                         const int16_t *weights, int32_t pairs)
{
    for (int32_t first = 0; first < PLACES; first += ROWS) {
        __m256i some[ROWS][EIGHTS];
        for (int32_t k = 0; k < ROWS; k++)
            for (int32_t i = 0; i < EIGHTS; i++)
                some[k][i] = _mm256_setzero_si256();
        for (int32_t n = 0; n < pairs; n++)
            for (int32_t k = 0; k < ROWS; k++) {
                __m256i both = _mm256_set1_epi32(four_bytes(weights + WEIGHTS * n + 2 * (first + k)));
                for (int32_t i = 0; i < EIGHTS; i++) {
                    const int16_t *cells = hyper + PAIR * n + 16 * i;
                    __m256i more = _mm256_loadu_si256((const __m256i *)cells);
                    some[k][i] = _mm256_add_epi32(some[k][i], _mm256_madd_epi16(more, both));
                }
            }
        for (int32_t k = 0; k < ROWS; k++)
            for (int32_t i = 0; i < EIGHTS; i++)
                _mm256_storeu_si256((__m256i *)(sums[first + k] + 8 * i), some[k][i]);
    }
}

/* And with a place in each register. */
FOR_WIDE
static void add_up_wide(int32_t (*sums)[PANEL], const int16_t *hyper, const int16_t *weights,
                        int32_t pairs)
{
    __m512i some[PLACES];
    for (int32_t k = 0; k < PLACES; k++)
        some[k] = _mm512_setzero_si512();
    for (int32_t n = 0; n < pairs; n++, hyper += PAIR, weights += WEIGHTS) {
        __m512i cells = _mm512_loadu_si512(hyper);
        for (int32_t k = 0; k < PLACES; k++) {
            __m512i both = _mm512_set1_epi32(four_bytes(weights + 2 * k));
            some[k] = _mm512_add_epi32(some[k], _mm512_madd_epi16(cells, both));
        }
    }
    for (int32_t k = 0; k < PLACES; k++)
        _mm512_storeu_si512(sums[k], some[k]);
}
#endif

/* A panel's columns beside each other, of two rows of a block. */
INLINED void interleave(int32_t *to, const int32_t *even, const int32_t *odd)
{
    for (int32_t k = 0; k < PANEL; k++) {
        to[2 * k] = even[k];
        to[2 * k + 1] = odd[k];
    }
}

FOR_EACH_PROCESSOR
void caezip_products(const Half *h, int32_t channel)
{
    int32_t pairs = h->scales->hyper_pairs;
    int64_t panels = panels_of(h->height, h->width), row = PAIR * panels;
    const int16_t *weights = h->weights + (int64_t)channel * pairs * WEIGHTS;
    void (*sum)(int32_t (*)[PANEL], const int16_t *, const int16_t *, int32_t) = add_up;
#if defined(HAS_WIDE)
    if (has_pairs())
        sum = has_wide() ? add_up_wide : add_up_pairs;
#endif
    for (int64_t panel = 0; panel < panels; panel++) {
        int32_t sums[PLACES][PANEL];
        sum(sums, h->hyper + panel * pairs * PAIR, weights, pairs);
        for (int32_t pair = 0; pair < PLACES / 2; pair++)
            interleave(h->products + pair * row + PAIR * panel, sums[2 * pair], sums[2 * pair + 1]);
    }
}

/* Of each four of the packed columns, and so many told channels, sums stay in registers. */
enum { FOUR = 4, TOLD_TOGETHER = 32 };

/* Eight channels of so many cells, channel by channel. */
INLINED void turn(float *to, int64_t plane, const float *sums, int32_t stride, int32_t count,
                  int32_t channels)
{
    float some[TELLING_AT_ONCE][8];
    for (int32_t k = 0; k < count; k++)
        for (int32_t i = 0; i < 8; i++)
            some[k][i] = sums[k * stride + i];
    for (int32_t i = 0; i < channels; i++)
        for (int32_t k = 0; k < count; k++)
            to[i * plane + k] = some[k][i];
}

/* Of `cells` packed columns what evidence of a half is more than nothing, [channels, TELLING_AT_ONCE]; in `any`
   a bit for each four of them that tell anything. */
INLINED void compare(const Room *room, const float *evidence, int64_t plane, int32_t channels,
                     int32_t cells, float nothing)
{
    float *more = room->more;
    for (int32_t channel = 0; channel < channels; channel++, evidence += plane, more += TELLING_AT_ONCE) {
        uint8_t any = 0;
        PREFETCH(evidence + plane);
        PREFETCH(evidence + plane + 16);
        for (int32_t k = 0; k < cells; k++)
            more[k] = evidence[k] - nothing;
        for (int32_t k = cells; k < (cells + FOUR - 1) / FOUR * FOUR; k++)
            more[k] = 0;
        for (int32_t k = 0; k < cells; k += FOUR) {
            int32_t bits[FOUR];
            memcpy(bits, more + k, sizeof bits);
            any |= (uint8_t)(((bits[0] | bits[1] | bits[2] | bits[3]) != 0) << k / FOUR);
        }
        room->any[channel] = any;
    }
}

/* What four packed columns are told, `sums` [FOUR, stride], by the `count` channels of `list`, of whose
   evidence `more` has the first of four. */
typedef struct {
    const float *weights;
    const float *same;
    const int32_t *list;
    const float *more;
    float *sums;
    int32_t stride;
    int32_t count;
} Told;

INLINED void add_told(const Told *t)
{
    for (int32_t start = 0; start < t->stride; start += TOLD_TOGETHER / 2) {
        Eight some[FOUR][2];
        for (int32_t k = 0; k < FOUR; k++)
            for (int32_t i = 0; i < 2; i++)
                some[k][i] = *(const Eight *)(t->same + start + 8 * i);
        for (int32_t n = 0; n < t->count; n++) {
            const float *weights = t->weights + (int64_t)t->list[n] * t->stride + start;
            for (int32_t k = 0; k < FOUR; k++)
                for (int32_t i = 0; i < 2; i++)
                    add_product(&some[k][i], weights + 8 * i, t->more[TELLING_AT_ONCE * t->list[n] + k]);
        }
        for (int32_t k = 0; k < FOUR; k++)
            for (int32_t i = 0; i < 2; i++)
                *(Eight *)(t->sums + k * t->stride + start + 8 * i) = some[k][i];
    }
}

#if defined(HAS_WIDE)
FOR_WIDE
static void add_told_wide(const Told *t)
{
    for (int32_t start = 0; start < t->stride; start += TOLD_TOGETHER) {
        Wide some[FOUR][2];
        for (int32_t k = 0; k < FOUR; k++)
            for (int32_t i = 0; i < 2; i++)
                some[k][i] = *(const Wide *)(t->same + start + 16 * i);
        for (int32_t n = 0; n < t->count; n++) {
            const float *weights = t->weights + (int64_t)t->list[n] * t->stride + start;
            for (int32_t k = 0; k < FOUR; k++)
                for (int32_t i = 0; i < 2; i++)
                    some[k][i] += *(const Wide *)(weights + 16 * i)
                                  * t->more[TELLING_AT_ONCE * t->list[n] + k];
        }
        for (int32_t k = 0; k < FOUR; k++)
            for (int32_t i = 0; i < 2; i++)
                *(Wide *)(t->sums + k * t->stride + start + 16 * i) = some[k][i];
    }
}
#else
#define add_told_wide add_told
#endif

/* Every cell begins with what it is told where nothing is coded, so that a sum is never larger than
   one of all channels. Most cells are not coded: only fours of cells with one that is cost anything. */
FOR_EACH_MULTIPLIER
void caezip_tell(const Tile *t, const Room *room, int half)
{
    const Scales *s = t->scales;
    int32_t channels = s->channels[1 - half], told = s->channels[half], stride = s->stride[half];
    int64_t columns = evidence_columns(t->width), plane = columns * (t->height + 2);
    int64_t told_columns = columns - 8, told_plane = told_columns * t->height;
    int wide = has_wide();
    for (int32_t row = 0; row < t->height; row++)
        for (int32_t start = 0; start < told_columns; start += TELLING_AT_ONCE) {
            int32_t count = smaller(TELLING_AT_ONCE, (int32_t)told_columns - start);
            int32_t cells = smaller(count, (int32_t)packed_columns(t->width) - start);
            const float *evidence = room->evidence[1 - half] + (row + 1) * columns + 1 + start;
            compare(room, evidence, plane, channels, cells, s->evidence[0]);
            for (int32_t k = 0; k < count; k += FOUR) {
                Told some = {s->across[half], s->same[half],         room->list, room->more + k,
                             room->sums + (int64_t)k * stride, stride, 0};
                for (int32_t channel = 0; k < cells && channel < channels; channel++) {
                    room->list[some.count] = channel;
                    some.count += room->any[channel] >> k / FOUR & 1;
                }
                if (wide)
                    add_told_wide(&some);
                else
                    add_told(&some);
            }
            float *to = room->told + row * told_columns + start;
            for (int32_t first = 0; first < told; first += 8)
                turn(to + first * told_plane, told_plane, room->sums + first, stride, count,
                     smaller(8, told - first));
        }
}
