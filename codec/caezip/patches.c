/* The last step of a lean decoder: patches that its stream made, what the other channels add, and
   the rounding to samples of a picture. `caezip.patches` calls this, and says what is checked before.

   The other channels' symbols are integers, and nearly all are 0: to add a column of the layer's
   matrix for each that is not takes a few percent of the time of a product of matrices, at the
   highest qualities a third. */

#include <stdint.h>
#include <string.h>

#include "shared.h"

enum { SIDE = 16, ROW = 3 * SIDE, EIGHTS = ROW / 8, SAMPLES = ROW * SIDE };
enum { ACROSS = 16, MOST_CHANNELS = 512 };

/* Cells of one tile, and the picture that they are part of. Rows and planes are so many numbers
   apart. */
typedef struct {
    const float *streamed;  /* [height, width, 768]: patches in the order of samples, around 0 */
    int64_t streamed_row;
    const int32_t *symbols; /* [channels, height, width] */
    int64_t symbols_plane;
    int64_t symbols_row;
    const float *columns;   /* [16, channels, 48]: what a symbol of 1 adds to a patch, row by row */
    Target target;
    int32_t channels;       /* at most 512 */
    int32_t height;
    int32_t width;
} Cells;

/* Of so many cells beside each other, which symbols are not 0: values, and where columns start. */
typedef struct {
    int32_t count[ACROSS];
    int32_t starts[ACROSS][MOST_CHANNELS];
    float values[ACROSS][MOST_CHANNELS];
} Found;

/* Looks for them channel by channel: planes lie far apart, often at distances that share a place
   in a cache. */
INLINED void find(Found *found, const Cells *cells, const int32_t *symbols, int32_t width)
{
    memset(found->count, 0, sizeof found->count);
    for (int32_t channel = 0; channel < cells->channels; channel++) {
        const int32_t *row = symbols + channel * cells->symbols_plane;
        int32_t any = 0;
        for (int32_t k = 0; k < width; k++)
            any |= row[k];
        for (int32_t k = 0; any && k < width; k++)
            if (row[k]) {
                int32_t n = found->count[k]++;
                found->starts[k][n] = ROW * channel;
                found->values[k][n] = (float)row[k];
            }
    }
}

/* Eight sums, as a type that compilers keep in registers. */
#if defined(__GNUC__)
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

INLINED void add(Eight *sum, const float *column, float value)
{
    *sum += *(const Eight *)column * value;
}
#else
typedef struct {
    float of[8];
} Eight;

INLINED void add(Eight *sum, const float *column, float value)
{
    for (int32_t i = 0; i < 8; i++)
        sum->of[i] += column[i] * value;
}
#endif

/* One row of a patch: what the stream made, and the columns of what was found in its cell. */
INLINED void add_up(float *sums, const float *streamed, const float *columns, const int32_t *starts,
                    const float *values, int32_t count)
{
    Eight sum[EIGHTS];
    memcpy(sum, streamed, sizeof sum);
    for (int32_t n = 0; n < count; n++) {
        const float *column = columns + starts[n];
        float value = values[n];
        for (int32_t i = 0; i < EIGHTS; i++)
            add(&sum[i], column + 8 * i, value);
    }
    memcpy(sums, sum, sizeof sum);
}

/* What is around 0 as a sample, rounded. Floats are in the order of their bits, taken as integers,
   which are quicker to clamp. */
INLINED uint8_t sample_of(float value)
{
    float level = value * 255 + 128; /* half a level more: the conversion rounds down */
    int32_t bits;
    memcpy(&bits, &level, sizeof bits);
    bits = bits > 0 ? bits : 0;
    bits = bits < 0x437f0000 ? bits : 0x437f0000; /* 255 */
    memcpy(&level, &bits, sizeof bits);
    return (uint8_t)(int32_t)level;
}

/* A row of a cell, to where it belongs, as far as it is in the picture. */
INLINED void write_row(const Cells *cells, int32_t row, int32_t column, const float *sums)
{
    uint8_t samples[ROW];
    for (int32_t i = 0; i < ROW; i++)
        samples[i] = sample_of(sums[i]);
    int32_t left = 3 * larger(0, cells->target.left - SIDE * column);
    int32_t right = 3 * smaller(SIDE, cells->target.right - SIDE * column);
    uint8_t *to = cells->target.picture + row * cells->target.row + (int64_t)column * ROW;
    if (right - left == ROW)
        memcpy(to, samples, ROW); /* of a size that is known, which is faster */
    else if (right > left)
        memcpy(to + left, samples + left, (size_t)(right - left));
}

FOR_EACH_PROCESSOR
void caezip_patches(const Cells *cells)
{
    Found found;
    float sums[ROW];
    for (int32_t row = 0; row < cells->height; row++) {
        int32_t top = larger(0, cells->target.top - SIDE * row);
        int32_t bottom = smaller(SIDE, cells->target.bottom - SIDE * row);
        for (int32_t start = 0; start < cells->width; start += ACROSS) {
            int32_t width = smaller(ACROSS, cells->width - start);
            const float *patches = cells->streamed + row * cells->streamed_row
                                   + (int64_t)start * SAMPLES;
            find(&found, cells, cells->symbols + row * cells->symbols_row + start, width);
            /* row by row of all: the columns that these need stay in the first cache */
            for (int32_t y = top; y < bottom; y++) {
                const float *columns = cells->columns + (int64_t)y * cells->channels * ROW;
                for (int32_t k = 0; k < width; k++) {
                    add_up(sums, patches + (int64_t)k * SAMPLES + y * ROW, columns,
                           found.starts[k], found.values[k], found.count[k]);
                    write_row(cells, SIDE * row + y, start + k, sums);
                }
            }
        }
    }
}
