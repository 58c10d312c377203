/* The networks that decoders run, in levels and int8. `caezip.compiled_networks` calls these, and says
   what is checked before. */

#include "stacks.h"

/* What blocks make of a stream in steps. */
typedef struct {
    Stack stack;
    Planes steps;
    Planes stream;
} Streamed;

/* What is predicted of a hyper-latent: features, and means of pass one from them. */
typedef struct {
    Dense spread; /* of the hyper-latent, to twice its sides: [4, channels] outputs */
    Stack coarse;
    Dense spread_again;
    Stack fine;
    Dense last;
    const int32_t *hyper; /* [inputs, height, width] */
    const float *hyper_gains;
    float *features; /* [4 * height, 4 * width, channels] */
    Planes means;
} FirstMeans;

/* Means of pass two, from features and what pass one decoded. */
typedef struct {
    Stack stack;
    Dense first; /* of features, and what pass one decoded */
    Dense last;
    const float *features; /* of a cell all channels, whose rows are so many numbers apart */
    int64_t features_row;
    int32_t features_count;
    Planes seen;
    Planes means;
} SecondMeans;

#if defined(HAS_DENSE)

INLINED_AVX2 int64_t streamed(int kind, const Streamed *job, uint8_t *memory)
{
    Room room = {memory, 0};
    const Stack *s = &job->stack;
    Work w = work_of(s, &room, 0);
    for (int32_t row = 0; memory && row < s->height + s->count; row++) {
        if (row < s->height)
            from_planes(&job->steps, row, s->width, row_at(s, &w, row));
        advance(kind, s, &w, row);
        if (row >= s->count)
            to_planes(&job->stream, row - s->count, row_at(s, &w, row - s->count));
    }
    return room.taken;
}

/* A layer that makes four cells of each, as a shuffle of pixels does: of cells [height, width, inputs]
   in `values`, `spread` [2 * height, 2 * width, outputs / 4]. */
INLINED_AVX2 void spread_rows(int kind, const Dense *d, const float *values, int32_t height,
                              int32_t width, uint8_t *levels, int32_t *sums, float *made,
                              float *spread)
{
    int32_t channels = d->outputs / 4;
    int64_t cells = (int64_t)width * d->inputs;
    for (int32_t row = 0; row < height; row++) {
        to_levels(kind, d, values + row * cells, cells, levels);
        dense_to(kind, d, levels, width, sums, made, d->outputs);
        for (int32_t k = 0; k < width; k++)
            for (int32_t corner = 0; corner < 4; corner++) {
                int64_t place = (2 * row + corner / 2) * 2 * (int64_t)width + 2 * k + corner % 2;
                memcpy(spread + place * channels, made + (int64_t)k * d->outputs + corner * channels,
                       (size_t)channels * sizeof *spread);
            }
    }
}

INLINED_AVX2 int64_t first_means(int kind, const FirstMeans *job, uint8_t *memory)
{
    Room room = {memory, 0};
    const Stack *coarse = &job->coarse, *fine = &job->fine;
    const Dense *spread = &job->spread, *again = &job->spread_again, *last = &job->last;
    int32_t height = coarse->height / 2, width = coarse->width / 2;
    int64_t cells = (int64_t)height * width, floats = sizeof(float);
    float *hyper = take(&room, cells * spread->inputs * floats);
    float *between = take(&room, 4 * cells * coarse->channels * floats);
    Work one = work_of(coarse, &room, memory ? between : (float *)&room);
    Work other = work_of(fine, &room, memory ? job->features : (float *)&room);
    int64_t widest = larger(larger(spread->inputs, again->inputs), last->inputs);
    uint8_t *levels = take(&room, in_eights(4 * width) * widest);
    widest = larger(larger(spread->outputs, again->outputs), last->outputs);
    float *made = take(&room, in_eights(4 * width) * widest * floats);
    if (!memory)
        return room.taken;
    for (int32_t n = 0; n < spread->inputs; n++)
        for (int64_t k = 0; k < cells; k++)
            hyper[k * spread->inputs + n] = (float)job->hyper[n * cells + k] * job->hyper_gains[n];
    spread_rows(kind, spread, hyper, height, width, levels, one.sums, made, between);
    run_in_place(kind, coarse, &one);
    spread_rows(kind, again, between, 2 * height, 2 * width, levels, one.sums, made, job->features);
    run_in_place(kind, fine, &other);
    for (int32_t row = 0; row < fine->height; row++) {
        int64_t count = (int64_t)fine->width * last->inputs;
        to_levels(kind, last, job->features + row * count, count, levels);
        dense_to(kind, last, levels, fine->width, other.sums, made, last->outputs);
        to_planes(&job->means, row, made);
    }
    return room.taken;
}

INLINED_AVX2 int64_t second_means(int kind, const SecondMeans *job, uint8_t *memory)
{
    Room room = {memory, 0};
    const Stack *s = &job->stack;
    const Dense *first = &job->first, *last = &job->last;
    Work w = work_of(s, &room, 0);
    int64_t eights = in_eights(s->width);
    int32_t features = job->features_count, seen = job->seen.channels;
    uint8_t *levels = take(&room, eights * larger(first->inputs, last->inputs));
    float *made = take(&room, eights * larger(seen, last->outputs) * (int64_t)sizeof(float));
    for (int32_t row = 0; memory && row < s->height + s->count; row++) {
        if (row < s->height) {
            const float *from = job->features + row * job->features_row;
            from_planes(&job->seen, row, s->width, made);
            for (int32_t k = 0; k < s->width; k++) {
                uint8_t *to = levels + (int64_t)k * first->inputs;
                to_levels(kind, first, from + (int64_t)k * features, features, to);
                to_levels(kind, first, made + (int64_t)k * seen, seen, to + features);
            }
            dense_to(kind, first, levels, s->width, w.sums, row_at(s, &w, row), s->channels);
        }
        advance(kind, s, &w, row);
        if (row >= s->count) {
            to_levels(kind, last, row_at(s, &w, row - s->count), (int64_t)s->width * s->channels, levels);
            dense_to(kind, last, levels, s->width, w.sums, made, last->outputs);
            to_planes(&job->means, row - s->count, made);
        }
    }
    return room.taken;
}

FOR_EACH_KIND(streamed, Streamed)
FOR_EACH_KIND(first_means, FirstMeans)
FOR_EACH_KIND(second_means, SecondMeans)

/* Not every compiler that has the instructions knows how to ask for them. */
static int has_avx_vnni(void)
{
#if defined(HAS_AVX_VNNI)
    enum { FEATURES = 7, MORE_OF_THEM = 1, AVX_VNNI = 1 << 4 };
    unsigned eax = 0, ebx, ecx, edx;
    return __get_cpuid_count(FEATURES, MORE_OF_THEM, &eax, &ebx, &ecx, &edx) && (eax & AVX_VNNI);
#else
    return 0;
#endif
}

/* The best kind of products that this processor has; 0: none. */
int32_t caezip_dense_kind(void)
{
    int sixteen = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl")
                  && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    if (sixteen)
        return FOURS_OF_SIXTEEN;
    return has_avx_vnni() ? FOURS_OF_EIGHT : PAIRS;
}

#else
int32_t caezip_dense_kind(void) { return 0; }
#endif
