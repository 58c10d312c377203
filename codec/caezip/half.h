/* One half of a tile's channels, and what decides which of its cells are coded: FORMAT.md, "Scale
   indexes". `caezip.halves` makes these, and says what is checked before. */

#ifndef CAEZIP_HALF_H
#define CAEZIP_HALF_H

#include <stdint.h>

enum { STRIDE = 4, PLACES = 2 * STRIDE, PANEL = 16 };

/* A half's latent, and which of its cells a pass codes. Packed columns are those cells of a row. */
typedef struct {
    int32_t channels;
    int32_t height;
    int32_t width;
    int32_t parity; /* of row + column */
    int32_t shift;
    int32_t hyper_channels;
    const int8_t *weights; /* [channels, 4, 4, hyper_channels], by a cell's place in its block */
    const float *hyper;    /* the hyper-latent, [panels, hyper_channels, 16]: then cells that are 0 */
    const int32_t *bias;   /* [channels], with what rounds the shift to the nearest */
    int32_t *residual;     /* decoded: [channels, height, width]; what is not coded stays 0 */
    float *columns;        /* room for [hyper_channels, 8] */
    int32_t *products;     /* room for [4, 32 panels] and 8 more: of one channel, by a row's place in its
                              block, the packed columns of all such rows */
} Half;

/* Evidence is stored as [channels, height + 2, so many], with one column more on the left: around
   a half are zeros, so that every cell has neighbours. */
static inline int64_t evidence_columns(int32_t width) { return ((width + 1) / 2 + 15) / 8 * 8; }

/* What evidence of one half tells the cells of the other: [told, height, packed columns]. */
typedef struct {
    int32_t channels; /* that tell something */
    int32_t told;
    int32_t height;
    int32_t width;
    const float *evidence;
    float nothing;        /* the evidence of what is not coded */
    int32_t stride;       /* between rows of weights: told, rounded up to eights */
    const float *weights; /* [channels, stride] */
    const float *same;    /* [stride]: what is told where nothing is coded */
    float *sums;          /* room for [32, stride] */
    float *across;        /* [told, height, evidence_columns - 8] */
} Telling;

/* weight @ z of one channel, to `products`. */
void caezip_products(const Half *half, int32_t channel);

#endif
