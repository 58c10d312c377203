/* The networks that only encoders run, in levels and int8, but for the last layer of the analysis
   transform, whose error would be seen. `caezip.compiled_networks` calls these, and says what is checked
   before. */

#include "stacks.h"

enum { SIDE = 16, SAMPLES = 3 * SIDE }; /* of a patch, and of a row of it */

/* Samples of a picture, in rows so many bytes apart, become a latent. */
typedef struct {
    Stack stack;
    Dense embed;             /* of the samples, which are levels already */
    Dense embed_more;        /* of what its weights round off */
    const float *gains;      /* [channels] */
    const float *projection; /* [outputs / 16, channels, 16] */
    const float *biases;     /* [outputs] */
    const uint8_t *samples;
    int64_t samples_row;
    int32_t samples_height; /* cells see the last row and column of samples again beyond them */
    int32_t samples_width;
    int32_t first; /* row of cells that is written, and the one behind the last */
    int32_t behind;
    Planes latent;
} Analysis;

/* A latent becomes a hyper-latent, of a quarter of its sides. */
typedef struct {
    Dense first;
    Stack fine;
    Dense halve; /* of four cells: [2, 2, channels] inputs */
    Stack coarse;
    Dense halve_again;
    Planes latent;
    Planes hyper;
} HyperAnalysis;

#if defined(HAS_DENSE)

/* Of some cells, sixteen outputs of a layer in float32, from `weights` [inputs, 16] on. */
FOR_VNNI
INLINED void project_cells_vnni(const float *weights, const float *biases, const float *values,
                                int32_t inputs, int32_t outputs, float *made, const int32_t cells)
{
    __m512 sum[TOGETHER];
    for (int32_t k = 0; k < cells; k++)
        sum[k] = _mm512_loadu_ps(biases);
    for (int32_t i = 0; i < inputs; i++) {
        __m512 weight = _mm512_loadu_ps(weights + BLOCK * i);
        for (int32_t k = 0; k < cells; k++)
            sum[k] = _mm512_fmadd_ps(_mm512_set1_ps(values[k * inputs + i]), weight, sum[k]);
    }
    for (int32_t k = 0; k < cells; k++)
        _mm512_storeu_ps(made + (int64_t)k * outputs, sum[k]);
}

/* Of a row of cells. */
FOR_VNNI
static void project_vnni(const float *weights, const float *biases, const float *values,
                         int32_t inputs, int32_t outputs, int32_t cells, float *made)
{
    for (int32_t start = 0; start < cells; start += TOGETHER) {
        const float *from = values + (int64_t)start * inputs;
        float *to = made + (int64_t)start * outputs;
        if (cells - start > 4)
            project_cells_vnni(weights, biases, from, inputs, outputs, to, TOGETHER);
        else
            project_cells_vnni(weights, biases, from, inputs, outputs, to, 4);
    }
}

FOR_AVX2
static void project_avx2(const float *weights, const float *biases, const float *values,
                         int32_t inputs, int32_t outputs, int32_t cells, float *made)
{
    for (int32_t start = 0; start < cells; start += ACROSS) {
        const float *from = values + (int64_t)start * inputs;
        __m256 sum[ACROSS][2];
        for (int32_t k = 0; k < ACROSS; k++)
            for (int32_t half = 0; half < 2; half++)
                sum[k][half] = eight(biases + BLOCK / 2 * half);
        for (int32_t i = 0; i < inputs; i++) {
            __m256 one = eight(weights + BLOCK * i), other = eight(weights + BLOCK * i + BLOCK / 2);
            for (int32_t k = 0; k < ACROSS; k++) {
                __m256 value = _mm256_set1_ps(from[k * inputs + i]);
                sum[k][0] = _mm256_fmadd_ps(value, one, sum[k][0]);
                sum[k][1] = _mm256_fmadd_ps(value, other, sum[k][1]);
            }
        }
        for (int32_t k = 0; k < ACROSS; k++)
            for (int32_t half = 0; half < 2; half++)
                _mm256_storeu_ps(made + (int64_t)(start + k) * outputs + BLOCK / 2 * half,
                                 sum[k][half]);
    }
}

/* A row of patches, each with its own samples behind each other. */
INLINED void gather_patches(const Analysis *job, int32_t row, uint8_t *patches)
{
    int32_t whole = job->samples_width / SIDE, rest = job->samples_width % SIDE;
    for (int32_t y = 0; y < SIDE; y++) {
        int32_t line = smaller(row * SIDE + y, job->samples_height - 1);
        const uint8_t *from = job->samples + line * job->samples_row;
        uint8_t *to = patches + y * SAMPLES;
        for (int32_t k = 0; k < whole; k++, to += SIDE * SAMPLES, from += SAMPLES)
            memcpy(to, from, SAMPLES);
        for (int32_t x = 0; rest && x < SIDE; x++)
            memcpy(to + 3 * x, from + 3 * smaller(x, rest - 1), 3);
    }
}

INLINED_AVX2 int64_t analysed(int kind, const Analysis *job, uint8_t *memory)
{
    Room room = {memory, 0};
    const Stack *s = &job->stack;
    Work w = work_of(s, &room, 0);
    int64_t eights = in_eights(s->width);
    int32_t inputs = s->channels, outputs = job->latent.channels;
    uint8_t *patches = take(&room, eights * SIDE * SAMPLES);
    float *made = take(&room, eights * outputs * (int64_t)sizeof(float));
    for (int32_t row = 0; memory && row < s->height + s->count; row++) {
        if (row < s->height) {
            float *values = row_at(s, &w, row);
            gather_patches(job, row, patches);
            dense_to(kind, &job->embed, patches, s->width, w.sums, values, inputs);
            for (int32_t k = 0; k < s->width; k += TOGETHER)
                add_outputs(kind, &job->embed_more, patches + (int64_t)k * SIDE * SAMPLES, w.sums,
                            s->width - k, values + (int64_t)k * inputs);
            for (int32_t k = 0; k < s->width; k++)
                for (int32_t n = 0; n < inputs; n += BLOCK / 2) {
                    float *value = values + (int64_t)k * inputs + n;
                    _mm256_storeu_ps(value, _mm256_mul_ps(eight(value), eight(job->gains + n)));
                }
        }
        advance(kind, s, &w, row);
        if (row - s->count < job->first || row - s->count >= job->behind)
            continue;
        const float *values = row_at(s, &w, row - s->count);
        for (int32_t n = 0; n < outputs; n += BLOCK) {
            const float *weights = job->projection + (int64_t)n * inputs, *biases = job->biases + n;
            if (kind == FOURS_OF_SIXTEEN)
                project_vnni(weights, biases, values, inputs, outputs, s->width, made + n);
            else
                project_avx2(weights, biases, values, inputs, outputs, s->width, made + n);
        }
        to_planes(&job->latent, row - s->count - job->first, made);
    }
    return room.taken;
}

/* Of cells [2 * height, 2 * width, channels] in `values`, what a layer makes of each four. */
INLINED_AVX2 void halve_rows(int kind, const Dense *d, const float *values, int32_t height,
                             int32_t width, uint8_t *levels, uint8_t *fours, int32_t *sums,
                             float *made)
{
    int64_t pair = d->inputs / 2, cells = width * pair; /* numbers of two cells, and of a row */
    for (int32_t row = 0; row < height; row++) {
        to_levels(kind, d, values + 2 * row * cells, 2 * cells, levels);
        for (int32_t k = 0; k < width; k++)
            for (int32_t below = 0; below < 2; below++)
                memcpy(fours + (2 * k + below) * pair, levels + below * cells + k * pair,
                       (size_t)pair);
        dense_to(kind, d, fours, width, sums, made + (int64_t)row * width * d->outputs, d->outputs);
    }
}

INLINED_AVX2 int64_t hyper_analysed(int kind, const HyperAnalysis *job, uint8_t *memory)
{
    Room room = {memory, 0};
    const Stack *fine = &job->fine, *coarse = &job->coarse;
    const Dense *first = &job->first, *halve = &job->halve, *again = &job->halve_again;
    int64_t floats = sizeof(float), eights = in_eights(fine->width);
    int64_t cells = (int64_t)fine->height * fine->width;
    float *made = take(&room, (cells + TOGETHER) * fine->channels * floats);
    float *halved = take(&room, (cells / 4 + TOGETHER) * coarse->channels * floats);
    float *quartered = take(&room, (cells / 16 + TOGETHER) * again->outputs * floats);
    Work one = work_of(fine, &room, memory ? made : (float *)&room);
    Work other = work_of(coarse, &room, memory ? halved : (float *)&room);
    int64_t widest = larger(first->inputs, halve->inputs);
    float *row_values = take(&room, eights * first->inputs * floats);
    uint8_t *levels = take(&room, 2 * eights * widest), *fours = take(&room, 2 * eights * widest);
    if (!memory)
        return room.taken;
    for (int32_t row = 0; row < fine->height; row++) {
        from_planes(&job->latent, row, fine->width, row_values);
        to_levels(kind, first, row_values, (int64_t)fine->width * first->inputs, levels);
        dense_to(kind, first, levels, fine->width, one.sums,
                 made + (int64_t)row * fine->width * fine->channels, fine->channels);
    }
    run_in_place(kind, fine, &one);
    halve_rows(kind, halve, made, coarse->height, coarse->width, levels, fours, one.sums, halved);
    run_in_place(kind, coarse, &other);
    int32_t height = coarse->height / 2, width = coarse->width / 2;
    halve_rows(kind, again, halved, height, width, levels, fours, one.sums, quartered);
    for (int32_t row = 0; row < height; row++)
        to_planes(&job->hyper, row, quartered + (int64_t)row * width * again->outputs);
    return room.taken;
}

FOR_EACH_KIND(analysed, Analysis)
FOR_EACH_KIND(hyper_analysed, HyperAnalysis)
#endif
