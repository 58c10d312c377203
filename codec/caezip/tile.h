/* A tile's latent, and what decides which of its cells are coded and how: FORMAT.md, "Scale indexes".
   `caezip.tile_passes` makes these, and says what is checked before. */

#ifndef CAEZIP_TILE_H
#define CAEZIP_TILE_H

#include <stdint.h>

enum { STRIDE = 4, PLACES = 2 * STRIDE, PANEL = 16 };
/* So many packed columns are told at a time: their sums stay in the first caches. */
enum { TELLING_AT_ONCE = 32 };
/* What loops in eights read or write behind the last, and nobody needs. */
enum { BEYOND = 8 };

/* A model's scale predictor. Of what there are two, one is for each half of the channels. */
typedef struct {
    int32_t channels[2];
    int32_t hyper_pairs; /* of channels of the hyper-latent; an odd one has zeros beside it */
    int32_t shift;
    int32_t evidence_shift;
    int32_t stride[2];            /* channels, rounded up to 32 */
    const int16_t *weights[2][2]; /* of the cells of each parity of row + column: [channels,
                                     hyper_pairs, 8, 2], by a cell's place in its block */
    const int8_t *evidence;       /* [64, 32] */
    const int8_t *around;         /* [both halves' channels, 4]: above, left, right and below */
    const float *across[2];       /* [channels of the other half, stride]: what they tell this one */
    const float *same[2];         /* [stride]: what it is told where nothing is coded */
} Scales;

typedef struct {
    const Scales *scales;
    int32_t height;
    int32_t width;
    const int32_t *bias[2]; /* [channels] of both halves, for each pass, with what rounds the shift to
                               the nearest */
    const int16_t *hyper;   /* the hyper-latent, [panels, hyper_pairs, 16, 2]: then cells that are 0 */
    int32_t *residual;      /* decoded: [channels, height, width]; what is not coded stays 0 */
    uint8_t *room;          /* of `caezip_tile_room`, which is kept from pass one to pass two */
} Tile;

/* What is in a tile's room. Evidence is what pass one tells, around it zeros, so that every cell has
   neighbours: one row more above and below, one column more on the left. */
typedef struct {
    float *evidence[2]; /* [channels, height + 2, evidence_columns] */
    float *told;        /* [channels, height, evidence_columns - 8]: what pass two of a half is told */
    int32_t *products;  /* [4, 32 panels] and BEYOND more: of one channel, by a row's place in its block, the
                           packed columns of all such rows */
    int32_t *places;    /* [`listed_at_most`]: what a channel codes, as `Listed` has it */
    int32_t *at;
    float *sums;        /* [TELLING_AT_ONCE, stride] */
    float *more;        /* [channels, TELLING_AT_ONCE] */
    int32_t *list;      /* [channels] */
    uint8_t *indexes;   /* [`listed_at_most`] */
    uint8_t *any;       /* [channels] */
} Room;

/* Cells of the hyper-latent beside each other, in a row and in panels. */
static inline int32_t blocks_across(int32_t width) { return (width + STRIDE - 1) / STRIDE; }

static inline int64_t panels_of(int32_t height, int32_t width)
{
    return ((int64_t)blocks_across(width) * blocks_across(height) + PANEL - 1) / PANEL;
}

/* Packed columns are those cells of a row that a pass codes. */
static inline int64_t packed_columns(int32_t width) { return (width + 1) / 2; }

static inline int64_t evidence_columns(int32_t width) { return (packed_columns(width) + 15) / 8 * 8; }

static inline int64_t listed_at_most(const Tile *t) { return packed_columns(t->width) * t->height + BEYOND; }

/* One half of a tile's channels in one pass. */
typedef struct {
    const Scales *scales;
    const int16_t *weights;
    const int16_t *hyper;
    int32_t *products;
    int32_t height;
    int32_t width;
    int32_t parity; /* of row + column, of the cells that are coded */
} Half;

/* weight @ z of one of its channels, to `products`. */
void caezip_products(const Half *half, int32_t channel);

/* What the evidence of the other half tells `half`, to the room's `told`. */
void caezip_tell(const Tile *t, const Room *room, int half);

#endif
