/* The last step of a decoder with a renderer: planes of samples, one for each place in a cell of
   4x4 pixels, to a picture. `caezip.planes` calls this, and says what is checked before.

   The engine takes several times as long to bring them into a picture's order. */

#include <stdint.h>
#include <string.h>

#include "shared.h"

enum { SIDE = 4, ROW = 3 * SIDE, AT_ONCE = 64 };

/* Cells, and the picture that they are part of. */
typedef struct {
    const uint8_t *planes; /* [48, height, width], in the order of a cell's samples */
    Target target;
    int32_t height;
    int32_t width;
} Planes;

/* The cells of one row from `start` to `end`, of each one row of samples. Planes are often at
   distances that share a place in a cache: so many cells of all of them are copied first. */
INLINED void write_cells(uint8_t *to, const uint8_t *planes, int64_t plane, int32_t start,
                         int32_t end)
{
    uint8_t some[ROW][AT_ONCE];
    for (; start < end; start += AT_ONCE) {
        int32_t count = smaller(AT_ONCE, end - start);
        for (int32_t i = 0; i < ROW; i++)
            memcpy(some[i], planes + i * plane + start, (size_t)count);
        for (int32_t k = 0; k < count; k++)
            for (int32_t i = 0; i < ROW; i++)
                to[(int64_t)ROW * (start + k) + i] = some[i][k];
    }
}

/* The same of single pixels, at the picture's left and right edge. */
static inline void write_pixels(uint8_t *to, const uint8_t *planes, int64_t plane, int32_t start,
                                int32_t end)
{
    for (int32_t x = start; x < end; x++)
        for (int32_t i = 0; i < 3; i++)
            to[(int64_t)3 * x + i] = planes[(3 * (x % SIDE) + i) * plane + x / SIDE];
}

FOR_EACH_PROCESSOR
void caezip_planes(const Planes *p)
{
    int64_t plane = (int64_t)p->height * p->width;
    int32_t left = larger(0, p->target.left), right = smaller(SIDE * p->width, p->target.right);
    int32_t start = (left + SIDE - 1) / SIDE, end = larger(start, right / SIDE);
    for (int32_t y = larger(0, p->target.top); y < smaller(SIDE * p->height, p->target.bottom); y++) {
        const uint8_t *planes = p->planes + y % SIDE * ROW * plane + (int64_t)(y / SIDE) * p->width;
        uint8_t *to = p->target.picture + y * p->target.row;
        write_pixels(to, planes, plane, left, smaller(right, SIDE * start));
        write_cells(to, planes, plane, start, end);
        write_pixels(to, planes, plane, larger(left, SIDE * end), right);
    }
}
