/* A tile's hyper-latent, each symbol with the table that those before it tell: FORMAT.md, "Hyper-latent".

   `caezip.hyper_prior` does the same without a compiler, and tests hold both to each other. All of it
   is integers. What is said in `loops.c` of memory is true here as well; no sum leaves 32 bits, which
   is checked when weights are loaded. */

#include <stdint.h>
#include <string.h>

#include "rans.h"
#include "shared.h"
#include "tile.h"

enum { GROUP = 8, LARGEST_SEEN = 15, LARGEST_HIDDEN = 255, LAST_HYPER_SCALE = 31, PHASES = 8 };
enum { LARGEST_HYPER_SYMBOL = 127, LARGEST_CODED = 1 << 20 };

static const int32_t magnitudes[LARGEST_SEEN + 1] = {0,  11, 18, 22, 26, 29, 31, 33,
                                                     35, 37, 38, 40, 41, 42, 43, 44};

/* Weights lie so that what one value adds to all sums is one piece of memory. Biases are those of the
   quality, with half a step of what is shifted away. */
typedef struct {
    int32_t channels;
    int32_t hidden;
    int32_t height;
    int32_t width;
    int32_t first_shift;
    int32_t second_shift;
    const int16_t *first; /* [4, 2, channels, hidden]: values, then magnitudes, of each known cell */
    const int32_t *first_bias;  /* [hidden] */
    const int16_t *second;      /* [hidden, 2 channels]: means, then scales */
    const int32_t *second_bias; /* [2 channels] */
    const int16_t *before;      /* [2, channels, 2 channels]: of the cell itself */
    int32_t *sums;              /* [hidden + 2 channels], to work in */
    int32_t *hyper_latent;      /* [channels, height, width], read or written */
    uint16_t *tables;           /* [height * width * channels], where symbols are listed */
    int32_t *symbols;           /* the same */
} HyperPrior;

INLINED void add(int32_t *sums, const int16_t *weights, int32_t value, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        sums[i] += weights[i] * value;
}

INLINED int32_t clamped(int32_t value, int32_t low, int32_t high)
{
    return smaller(larger(value, low), high);
}

/* What a symbol is seen to be adds to `count` sums; a 0 adds nothing. */
INLINED void see(int32_t *sums, const int16_t *of_value, const int16_t *of_magnitude, int32_t symbol,
                 int32_t count)
{
    if (!symbol)
        return;
    int32_t value = clamped(symbol, -LARGEST_SEEN, LARGEST_SEEN);
    add(sums, of_value, value, count);
    add(sums, of_magnitude, magnitudes[value < 0 ? -value : value], count);
}

/* Sums of a cell's means and scales, without what its own channels tell. */
INLINED int32_t *sums_of(const HyperPrior *p, int32_t row, int32_t column)
{
    static const int32_t down[4] = {0, -1, -1, -1}, right[4] = {-1, 0, -1, 1};
    int64_t cells = (int64_t)p->height * p->width;
    int32_t outputs = 2 * p->channels, *hidden = p->sums, *sums = p->sums + p->hidden;
    memcpy(hidden, p->first_bias, (size_t)p->hidden * sizeof *hidden);
    for (int32_t known = 0; known < 4; known++) {
        int32_t y = row + down[known], x = column + right[known];
        if (y < 0 || x < 0 || x >= p->width)
            continue;
        const int32_t *symbols = p->hyper_latent + (int64_t)y * p->width + x;
        const int16_t *values = p->first + (int64_t)known * outputs * p->hidden;
        const int16_t *sizes = values + (int64_t)p->channels * p->hidden;
        for (int32_t channel = 0; channel < p->channels; channel++) {
            int64_t start = (int64_t)channel * p->hidden;
            see(hidden, values + start, sizes + start, symbols[channel * cells], p->hidden);
        }
    }
    memcpy(sums, p->second_bias, (size_t)outputs * sizeof *sums);
    for (int32_t i = 0; i < p->hidden; i++) {
        int32_t value = clamped(hidden[i] >> p->first_shift, 0, LARGEST_HIDDEN);
        if (value)
            add(sums, p->second + (int64_t)i * outputs, value, outputs);
    }
    return sums;
}

/* All symbols, from a stream, or, if there is none, listed. */
INLINED int32_t coded(Stream *stream, const Tables *t, const HyperPrior *p)
{
    int32_t channels = p->channels, outputs = 2 * channels;
    int64_t cells = (int64_t)p->height * p->width, listed = 0;
    for (int64_t cell = 0; cell < cells; cell++) {
        int32_t *sums = sums_of(p, (int32_t)(cell / p->width), (int32_t)(cell % p->width));
        for (int32_t start = 0; start < channels; start += GROUP) {
            int32_t end = smaller(start + GROUP, channels);
            for (int32_t c = start; c < end; c++) {
                int32_t mean = clamped(sums[c] >> p->second_shift, -PHASES * LARGEST_HYPER_SYMBOL,
                                       PHASES * LARGEST_HYPER_SYMBOL);
                int32_t scale = clamped(sums[channels + c] >> p->second_shift, 0, LAST_HYPER_SCALE);
                int32_t middle = (mean + PHASES / 2) >> 3;
                int32_t table = PHASES * scale + mean + PHASES / 2 - PHASES * middle;
                int32_t *place = p->hyper_latent + c * cells + cell;
                if (stream) {
                    int32_t value = symbol(stream, t, table, LARGEST_CODED);
                    if (value == INT32_MIN || value + middle > LARGEST_HYPER_SYMBOL
                        || value + middle < -LARGEST_HYPER_SYMBOL)
                        return BEYOND_LIMIT;
                    *place = value + middle;
                } else {
                    p->tables[listed] = (uint16_t)table;
                    p->symbols[listed++] = *place - middle;
                }
            }
            if (end == channels)
                break;
            for (int32_t c = start; c < end; c++) {
                const int16_t *value = p->before + (int64_t)c * outputs;
                see(sums, value, value + (int64_t)channels * outputs,
                    p->hyper_latent[c * cells + cell], outputs);
            }
        }
    }
    return DONE;
}

FOR_EACH_PROCESSOR
int32_t caezip_read_hyper(Stream *s, const Tables *t, const HyperPrior *p)
{
    Stream stream = *s;
    int32_t outcome = coded(&stream, t, p);
    if (outcome == DONE)
        *s = stream;
    return outcome;
}

FOR_EACH_PROCESSOR
void caezip_list_hyper(const HyperPrior *p) { coded(0, 0, p); }

/* What scales see of a hyper-latent: its symbols, and, if there are any, features of the 3x3 cells around
   each. FORMAT.md, "Scale indexes"; `caezip.hyper_features`. */
typedef struct {
    int32_t channels;
    int32_t features;
    int32_t height;
    int32_t width;
    int32_t shift;
    const int16_t *weights; /* [9, channels, features], row by row of cells */
    const int32_t *bias;    /* [features], with half a step of what is shifted away */
    const int32_t *hyper_latent; /* [channels, height, width] */
    int32_t *sums;               /* [features], to work in */
    int16_t *panels;             /* [panels, pairs of both kinds of channels, 16, 2], of zeros */
} Panels;

FOR_EACH_PROCESSOR
void caezip_panels(const Panels *p)
{
    int32_t channels = p->channels, features = p->features;
    int64_t cells = (int64_t)p->height * p->width, pair = 2 * PANEL;
    int64_t panel = (channels + features + 1) / 2 * pair;
    for (int64_t cell = 0; cell < cells; cell++) {
        int32_t y = (int32_t)(cell / p->width), x = (int32_t)(cell % p->width);
        int16_t *to = p->panels + cell / PANEL * panel + cell % PANEL * 2;
        for (int32_t c = 0; c < channels; c++)
            to[c / 2 * pair + c % 2] = (int16_t)p->hyper_latent[c * cells + cell];
        if (!features)
            continue;
        memcpy(p->sums, p->bias, (size_t)features * sizeof *p->sums);
        for (int32_t place = 0; place < 9; place++) {
            int32_t row = y + place / 3 - 1, column = x + place % 3 - 1;
            if (row < 0 || row >= p->height || column < 0 || column >= p->width)
                continue;
            const int32_t *symbols = p->hyper_latent + (int64_t)row * p->width + column;
            const int16_t *weights = p->weights + (int64_t)place * channels * features;
            for (int32_t c = 0; c < channels; c++)
                if (symbols[c * cells])
                    add(p->sums, weights + (int64_t)c * features, symbols[c * cells], features);
        }
        for (int32_t c = channels; c < channels + features; c++)
            to[c / 2 * pair + c % 2] =
                (int16_t)clamped(p->sums[c - channels] >> p->shift, 0, LARGEST_HYPER_SYMBOL);
    }
}
