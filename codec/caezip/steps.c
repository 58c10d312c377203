/* A tile's latent in steps, of its symbols and of what networks predict: FORMAT.md, "Latent".
   `caezip.steps` calls this, and says what is checked before. */

#include <stdint.h>
#include <string.h>

#include "shared.h"

/* Channels that have means. Planes and rows are so many numbers apart. */
typedef struct {
    int32_t channels;
    int32_t height;
    int32_t width;
    int32_t turning; /* from this channel on pass one codes the odd cells instead of the even ones */
    const int32_t *symbols;
    int64_t symbols_plane;
    int64_t symbols_row;
    const float *means; /* of the pass */
    int64_t means_plane;
    int64_t means_row;
    float *steps; /* [channels, height, width] */
} Prediction;

INLINED void write_steps(const Prediction *p, int32_t number)
{
    int32_t width = p->width;
    for (int32_t channel = 0; channel < p->channels; channel++)
        for (int32_t row = 0; row < p->height; row++) {
            const int32_t *symbols = p->symbols + channel * p->symbols_plane + row * p->symbols_row;
            const float *means = p->means + channel * p->means_plane + row * p->means_row;
            float *restrict steps = p->steps + ((int64_t)channel * p->height + row) * width;
            int32_t parity = (row + number + (channel >= p->turning)) & 1;
            for (int32_t k = 0; k < width; k++) {
                float coded = (float)symbols[k] + means[k];
                /* by their bits, which compilers choose from for many at once */
                int32_t chosen, other, here = ((k ^ parity) & 1) - 1;
                memcpy(&chosen, &coded, sizeof chosen);
                memcpy(&other, steps + k, sizeof other);
                chosen = (chosen & here) | (number ? other & ~here : 0);
                memcpy(steps + k, &chosen, sizeof chosen);
            }
        }
}

/* What pass one decodes, and 0 elsewhere. */
FOR_EACH_PROCESSOR
void caezip_first_steps(const Prediction *p) { write_steps(p, 0); }

/* What pass two decodes; what is elsewhere stays. */
FOR_EACH_PROCESSOR
void caezip_second_steps(const Prediction *p) { write_steps(p, 1); }
