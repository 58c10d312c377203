/* The last step of a lean decoder: its stream and what the other channels add to make patches, and
   the rounding to samples of a picture. `caezip.patches` calls this, and says what is checked before.

   What a channel adds to a patch are planes of three colours, mostly one. Of the stream that is a
   product of matrices. The other channels' symbols are integers, and nearly all are 0: to add a
   plane for each that is not takes a few percent of the time that their part of the product would,
   at the highest qualities a third. Nothing but samples is written. */

#include <stdint.h>
#include <string.h>

#include "shared.h"

enum { SIDE = 16, COLOURS = 3, ROW = COLOURS * SIDE };
enum { ACROSS = 12, MOST_PLANES = 768 };
enum { CELLS = 6, EIGHTS = SIDE / 8 }; /* so many cells at a time: their sums stay in registers */

/* What channels add to the planes of patches. */
typedef struct {
    const int32_t *order;  /* of which channel each is, those of one colour behind each other */
    const float *planes;   /* of 1 in the channel, in that order */
    int32_t ends[COLOURS]; /* how many are of the first colour, of the first two, in all */
} Matrix;

/* Cells of one tile, and the picture that they are part of. Rows and planes are so many numbers
   apart. */
typedef struct {
    const float *stream; /* [channels, height, width] */
    int64_t stream_plane;
    int64_t stream_row;
    Matrix of_stream;       /* at most 768, row by row: [16, n, 16] */
    const int32_t *symbols; /* [channels, height, width] */
    int64_t symbols_plane;
    int64_t symbols_row;
    Matrix of_symbols;    /* [n, 16, 16] */
    const float *colours; /* [3, 3]: red, green and blue of each */
    const float *bias;    /* [16, 3, 16]: patches are this, half a level more, and what planes add */
    Target target;
    int32_t height;
    int32_t width;
} Cells;

typedef float Plane[SIDE][SIDE];

/* To the planes of cells beside each other, what symbols that are not 0 add. Channel by channel:
   planes of symbols lie far apart, often at distances that share a place in a cache. */
FOR_EACH_MULTIPLIER
static void add_symbols(Plane (*planes)[COLOURS], const Cells *cells, const int32_t *symbols,
                        int32_t width)
{
    const Matrix *matrix = &cells->of_symbols;
    for (int32_t colour = 0, n = 0; colour < COLOURS; colour++)
        for (; n < matrix->ends[colour]; n++) {
            const int32_t *row = symbols + matrix->order[n] * cells->symbols_plane;
            const float *added = matrix->planes + (int64_t)n * SIDE * SIDE;
            int32_t any = 0;
            PREFETCH(row + ACROSS);
            for (int32_t k = 0; k < width; k++)
                any |= row[k];
            for (int32_t k = 0; any && k < width; k++) {
                float value = (float)row[k], *plane = planes[k][colour][0];
                for (int32_t i = 0; row[k] && i < SIDE * SIDE; i += 8)
                    add_product((Eight *)(plane + i), added + i, value);
            }
        }
}

/* Of so many cells beside each other, the stream: by colour, 0 where there is no cell. */
INLINED void gather(float (*stream)[ACROSS], const Cells *cells, const float *from, int32_t width)
{
    const Matrix *matrix = &cells->of_stream;
    int32_t count = matrix->ends[COLOURS - 1];
    if (width < ACROSS)
        memset(stream, 0, (size_t)count * sizeof *stream);
    for (int32_t n = 0; n < count; n++) {
        const float *row = from + matrix->order[n] * cells->stream_plane;
        PREFETCH(row + ACROSS);
        memcpy(stream[n], row, (size_t)width * sizeof **stream);
    }
}

/* To row y of so many cells' planes, the product with the stream. The row's part of the matrix
   stays in the first cache. */
INLINED void multiply_in_eights(Plane (*planes)[COLOURS], const Matrix *matrix, int32_t y,
                      const float (*stream)[ACROSS])
{
    const float *rows = matrix->planes + (int64_t)y * SIDE * matrix->ends[COLOURS - 1];
    for (int32_t colour = 0, first = 0; colour < COLOURS; first = matrix->ends[colour++])
        for (int32_t cell = 0; cell < ACROSS; cell += CELLS) {
            Eight sum[CELLS][EIGHTS];
            for (int32_t k = 0; k < CELLS; k++)
                for (int32_t i = 0; i < EIGHTS; i++)
                    sum[k][i] = *(const Eight *)(planes[cell + k][colour][y] + 8 * i);
            for (int32_t n = first; n < matrix->ends[colour]; n++)
                for (int32_t k = 0; k < CELLS; k++)
                    for (int32_t i = 0; i < EIGHTS; i++)
                        add_product(&sum[k][i], rows + SIDE * n + 8 * i, stream[n][cell + k]);
            for (int32_t k = 0; k < CELLS; k++)
                for (int32_t i = 0; i < EIGHTS; i++)
                    *(Eight *)(planes[cell + k][colour][y] + 8 * i) = sum[k][i];
        }
}

#if defined(HAS_WIDE)
/* The same with a row of a plane in each register, which are twice as many too: of all cells. */
INLINED void multiply_in_rows(Plane (*planes)[COLOURS], const Matrix *matrix, int32_t y,
                              const float (*stream)[ACROSS])
{
    const float *rows = matrix->planes + (int64_t)y * SIDE * matrix->ends[COLOURS - 1];
    for (int32_t colour = 0, first = 0; colour < COLOURS; first = matrix->ends[colour++]) {
        Wide sum[ACROSS];
        for (int32_t k = 0; k < ACROSS; k++)
            sum[k] = *(const Wide *)planes[k][colour][y];
        for (int32_t n = first; n < matrix->ends[colour]; n++)
            for (int32_t k = 0; k < ACROSS; k++)
                sum[k] += *(const Wide *)(rows + SIDE * n) * stream[n][k];
        for (int32_t k = 0; k < ACROSS; k++)
            *(Wide *)planes[k][colour][y] = sum[k];
    }
}
#endif

/* Row y of the patches of so many cells: levels, sample by sample, of their planes. */
INLINED void mix(float (*restrict levels)[COLOURS][SIDE], Plane (*planes)[COLOURS],
                 const Cells *cells, int32_t y)
{
    for (int32_t k = 0; k < ACROSS; k++)
        for (int32_t sample = 0; sample < COLOURS; sample++)
            for (int32_t i = 0; i < SIDE; i++) {
                float level = cells->bias[ROW * y + SIDE * sample + i];
                for (int32_t colour = 0; colour < COLOURS; colour++)
                    level += planes[k][colour][y][i] * cells->colours[COLOURS * colour + sample];
                levels[k][sample][i] = level;
            }
}

/* Row y of the patches of so many cells: of their planes and the stream. */
FOR_EACH_MULTIPLIER
static void add_up(float (*restrict levels)[COLOURS][SIDE], Plane (*planes)[COLOURS],
                   const Cells *cells, int32_t y, const float (*stream)[ACROSS])
{
    multiply_in_eights(planes, &cells->of_stream, y, stream);
    mix(levels, planes, cells, y);
}

#if defined(HAS_WIDE)
FOR_WIDE
static void add_up_wide(float (*restrict levels)[COLOURS][SIDE], Plane (*planes)[COLOURS],
                        const Cells *cells, int32_t y, const float (*stream)[ACROSS])
{
    multiply_in_rows(planes, &cells->of_stream, y, stream);
    mix(levels, planes, cells, y);
}
#else
#define add_up_wide add_up
#endif

/* Rounded down, as far as there are samples. Floats are in the order of their bits, taken as
   integers, which are quicker to clamp. */
INLINED uint8_t sample_of(float level)
{
    int32_t bits;
    memcpy(&bits, &level, sizeof bits);
    bits = bits > 0 ? bits : 0;
    bits = bits < 0x437f0000 ? bits : 0x437f0000; /* 255 */
    memcpy(&level, &bits, sizeof bits);
    return (uint8_t)(int32_t)level;
}

/* Sixteen pixels of three planes, pixel by pixel. Compilers do not find these permutations. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLES
#endif
#endif
#if defined(HAS_SHUFFLES)
typedef uint8_t Sixteen __attribute__((vector_size(SIDE), aligned(1), may_alias));

INLINED void interleave(uint8_t *samples, const uint8_t *planes)
{
    const Sixteen *from = (const Sixteen *)planes;
    Sixteen red = from[0], green = from[1], blue = from[2], *to = (Sixteen *)samples;
    Sixteen two = __builtin_shufflevector(red, green, 0, 16, -1, 1, 17, -1, 2, 18, -1, 3, 19, -1, 4,
                                          20, -1, 5);
    to[0] = __builtin_shufflevector(two, blue, 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20,
                                    15);
    two = __builtin_shufflevector(red, green, 21, -1, 6, 22, -1, 7, 23, -1, 8, 24, -1, 9, 25, -1, 10,
                                  26);
    to[1] = __builtin_shufflevector(two, blue, 0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14,
                                    15);
    two = __builtin_shufflevector(red, green, -1, 11, 27, -1, 12, 28, -1, 13, 29, -1, 14, 30, -1, 15,
                                  31, -1);
    to[2] = __builtin_shufflevector(two, blue, 26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14,
                                    31);
}
#else
INLINED void interleave(uint8_t *samples, const uint8_t *planes)
{
    for (int32_t i = 0; i < SIDE; i++)
        for (int32_t sample = 0; sample < COLOURS; sample++)
            samples[COLOURS * i + sample] = planes[SIDE * sample + i];
}
#endif

/* One row of a cell as an image has it. */
INLINED void round_row(uint8_t *samples, const float *levels)
{
    uint8_t rounded[ROW];
    for (int32_t i = 0; i < ROW; i++)
        rounded[i] = sample_of(levels[i]);
    interleave(samples, rounded);
}

/* A row of a cell, to where it belongs, as far as it is in the picture. */
INLINED void write_row(const Cells *cells, int32_t row, int32_t column, const uint8_t *samples)
{
    int32_t left = COLOURS * larger(0, cells->target.left - SIDE * column);
    int32_t right = COLOURS * smaller(SIDE, cells->target.right - SIDE * column);
    uint8_t *to = cells->target.picture + row * cells->target.row + (int64_t)column * ROW;
    if (right - left == ROW)
        memcpy(to, samples, ROW); /* of a size that is known, which is faster */
    else if (right > left)
        memcpy(to + left, samples + left, (size_t)(right - left));
}

FOR_EACH_PROCESSOR
void caezip_patches(const Cells *cells)
{
    Plane planes[ACROSS][COLOURS];
    float stream[MOST_PLANES][ACROSS], levels[ACROSS][COLOURS][SIDE];
    uint8_t samples[ROW];
    int wide = has_wide();
    for (int32_t row = 0; row < cells->height; row++) {
        int32_t top = larger(0, cells->target.top - SIDE * row);
        int32_t bottom = smaller(SIDE, cells->target.bottom - SIDE * row);
        for (int32_t start = 0; start < cells->width; start += ACROSS) {
            int32_t width = smaller(ACROSS, cells->width - start);
            memset(planes, 0, sizeof planes);
            add_symbols(planes, cells, cells->symbols + row * cells->symbols_row + start, width);
            gather(stream, cells, cells->stream + row * cells->stream_row + start, width);
            for (int32_t y = top; y < bottom; y++) {
                (wide ? add_up_wide : add_up)(levels, planes, cells, y, stream);
                for (int32_t k = 0; k < width; k++) {
                    round_row(samples, levels[k][0]);
                    write_row(cells, SIDE * row + y, start + k, samples);
                }
            }
        }
    }
}
