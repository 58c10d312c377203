/* What decides scale indexes, as far as it is products of matrices: FORMAT.md, "Scale indexes".

   All of it is integers in float32, which holds them up to 2^24: in any order the same. What is
   said in `loops.c` of memory is true here as well. */

#include <stdint.h>

#include "half.h"
#include "shared.h"

/* So many channels at most have sums of products of int8 below 2^24. */
enum { EXACT = 1024 };
enum { ROWS = 4, EIGHTS = PANEL / 8 }; /* their sums stay in registers */

/* A panel's columns beside each other, of two rows of a block. */
INLINED void interleave(int32_t *to, const float *even, const float *odd, int is_first)
{
    int32_t both[2 * PANEL];
    for (int32_t k = 0; k < PANEL; k++) {
        both[2 * k] = (int32_t)even[k];
        both[2 * k + 1] = (int32_t)odd[k];
    }
    for (int32_t k = 0; k < 2 * PANEL; k++)
        to[k] = is_first ? both[k] : to[k] + both[k];
}

/* Of a panel and the channels of the hyper-latent from `start` on, the sums of all places. */
INLINED void add_up(float (*sums)[PANEL], const Half *h, const float *hyper, int32_t start,
                    int32_t end)
{
    for (int32_t first = 0; first < PLACES; first += ROWS) {
        Eight some[ROWS][EIGHTS];
        for (int32_t k = 0; k < ROWS; k++)
            for (int32_t i = 0; i < EIGHTS; i++)
                some[k][i] = (Eight){0};
        for (int32_t n = start; n < end; n++)
            for (int32_t k = 0; k < ROWS; k++)
                for (int32_t i = 0; i < EIGHTS; i++)
                    add_product(&some[k][i], hyper + PANEL * n + 8 * i,
                                h->columns[PLACES * n + first + k]);
        for (int32_t k = 0; k < ROWS; k++)
            for (int32_t i = 0; i < EIGHTS; i++)
                *(Eight *)(sums[first + k] + 8 * i) = some[k][i];
    }
}

#if defined(HAS_WIDE)
/* The same with a place in each register. */
FOR_WIDE
static void add_up_wide(float (*sums)[PANEL], const Half *h, const float *hyper, int32_t start,
                        int32_t end)
{
    Wide some[PLACES];
    for (int32_t k = 0; k < PLACES; k++)
        some[k] = (Wide){0};
    for (int32_t n = start; n < end; n++)
        for (int32_t k = 0; k < PLACES; k++)
            some[k] += *(const Wide *)(hyper + PANEL * n) * h->columns[PLACES * n + k];
    for (int32_t k = 0; k < PLACES; k++)
        *(Wide *)sums[k] = some[k];
}
#else
#define add_up_wide add_up
#endif

FOR_EACH_MULTIPLIER
void caezip_products(const Half *h, int32_t channel)
{
    int32_t across = (h->width + STRIDE - 1) / STRIDE, down = (h->height + STRIDE - 1) / STRIDE;
    int32_t panels = (across * down + PANEL - 1) / PANEL, count = h->hyper_channels;
    int64_t row = (int64_t)2 * PANEL * panels;
    int wide = has_wide();
    for (int32_t place = 0; place < PLACES; place++) {
        int32_t in_block = place / 2, column = 2 * (place % 2) + (in_block + h->parity) % 2;
        const int8_t *weights =
            h->weights + (((int64_t)channel * STRIDE + in_block) * STRIDE + column) * count;
        for (int32_t n = 0; n < count; n++)
            h->columns[PLACES * n + place] = weights[n];
    }
    for (int32_t panel = 0; panel < panels; panel++)
        for (int32_t start = 0; start < count; start += EXACT) {
            const float *hyper = h->hyper + (int64_t)panel * count * PANEL;
            float sums[PLACES][PANEL];
            int32_t end = smaller(count, start + EXACT);
            if (wide)
                add_up_wide(sums, h, hyper, start, end);
            else
                add_up(sums, h, hyper, start, end);
            for (int32_t pair = 0; pair < PLACES / 2; pair++)
                interleave(h->products + pair * row + 2 * PANEL * panel, sums[2 * pair],
                           sums[2 * pair + 1], !start);
        }
}

/* So many packed columns at a time, whose sums stay in the first caches. */
enum { AT_ONCE = 32 };

/* Eight channels of so many cells, channel by channel. */
INLINED void turn(float *to, int64_t plane, const float *sums, int32_t stride, int32_t count,
                  int32_t channels)
{
    float some[AT_ONCE][8];
    for (int32_t k = 0; k < count; k++)
        for (int32_t i = 0; i < 8; i++)
            some[k][i] = sums[k * stride + i];
    for (int32_t i = 0; i < channels; i++)
        for (int32_t k = 0; k < count; k++)
            to[i * plane + k] = some[k][i];
}

/* Every cell begins with what it is told where nothing is coded, so that a sum is never larger than
   one of all channels. Most cells are not coded: only those that are cost anything. */
FOR_EACH_MULTIPLIER
void caezip_across(const Telling *t)
{
    int64_t columns = evidence_columns(t->width), plane = columns * (t->height + 2);
    int64_t told_columns = columns - 8, told_plane = told_columns * t->height;
    int32_t stride = t->stride;
    float *sums = t->sums, nothing = t->nothing;
    for (int32_t row = 0; row < t->height; row++)
        for (int32_t start = 0; start < told_columns; start += AT_ONCE) {
            const float *evidence = t->evidence + (row + 1) * columns + 1 + start;
            int32_t count = smaller(AT_ONCE, (int32_t)told_columns - start);
            int32_t cells = smaller(count, (t->width + 1) / 2 - start);
            for (int32_t k = 0; k < count; k++)
                for (int32_t i = 0; i < stride; i++)
                    sums[k * stride + i] = t->same[i];
            for (int32_t channel = 0; channel < t->channels; channel++, evidence += plane) {
                const float *weights = t->weights + (int64_t)channel * stride;
                int32_t any = 0;
                PREFETCH(evidence + plane);
                PREFETCH(evidence + plane + 16);
                for (int32_t k = 0; k < cells; k++)
                    any |= evidence[k] != nothing;
                for (int32_t k = 0; any && k < cells; k++) {
                    float more = evidence[k] - nothing;
                    if (more == 0)
                        continue;
                    for (int32_t i = 0; i < stride; i += 8)
                        add_product((Eight *)(sums + k * stride + i), weights + i, more);
                }
            }
            float *to = t->across + row * told_columns + start;
            for (int32_t first = 0; first < t->told; first += 8)
                turn(to + first * told_plane, told_plane, sums + first, stride, count,
                     smaller(8, t->told - first));
        }
}
