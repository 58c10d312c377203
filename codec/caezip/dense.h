/* Products of levels and int8 weights, in integers, which are exact: what layers of `encoder.c` and
   `decoder.c` are made of. Levels are bytes; where pairs of products are added up in 16 bits weights are
   at most 64, so that they fit. */

#ifndef CAEZIP_DENSE_H
#define CAEZIP_DENSE_H

#include <stdint.h>
#include <string.h>

#include "shared.h"

enum {
    TOGETHER = 8, /* cells whose products are computed at once: their sums stay in registers */
    BLOCK = 16,   /* outputs, whose weights lie together: [outputs / 16, inputs / 4, 16, 4] */
    FOUR = 4,     /* inputs, which one instruction adds up */
    MOST_OUTPUTS = 1024
};

/* How products are added up: pairs of them in 16 bits, or four in 32, in registers of eight sums or of
   sixteen. What a processor has is `caezip_dense_kind`. */
enum { PAIRS = 1, FOURS_OF_EIGHT = 2, FOURS_OF_SIXTEEN = 3 };

/* A 1x1 convolution. Its input is in levels: so many per unit, from `zero` of them below 0 on. */
typedef struct {
    const int8_t *weights; /* in blocks */
    const float *scales;   /* [outputs]: what a product of a weight and a level is */
    const float *biases;   /* [outputs], less what the levels of 0 add up to */
    const uint8_t *runs;   /* [outputs / 8, inputs / 16]: of how many steps of four inputs, 4, 2 or 1,
                              sums of pairs fit into 16 bits, whatever the levels are. Only PAIRS read it. */
    float levels_per_unit;
    int32_t zero;
    int32_t inputs;  /* a multiple of 4 */
    int32_t outputs; /* a multiple of 16 */
} Dense;

/* Compilers that know VNNI, which these do since 2018: others compile all the rest. */
#if defined(__x86_64__) && (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 8))
#define HAS_DENSE
#include <cpuid.h>
#include <immintrin.h>

#define FOR_AVX2 __attribute__((target("avx2,fma")))
/* These know the one with smaller registers since 2021. */
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define HAS_AVX_VNNI
#define FOR_AVX_VNNI __attribute__((target("avx2,fma,avxvnni")))
#endif
#define FOR_VNNI __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

/* For both: what takes eight numbers at a time. */
#define INLINED_AVX2 FOR_AVX2 static inline __attribute__((always_inline))

/* Eight of an array, from `n` on. */
INLINED_AVX2 __m256 eight(const float *values) { return _mm256_loadu_ps(values); }

/* Sixteen levels of as many values; the nearest, of two the even one. */
INLINED_AVX2 void write_levels(const Dense *d, __m256 first, __m256 last, uint8_t *levels)
{
    __m256 per_unit = _mm256_set1_ps(d->levels_per_unit);
    __m256i zero = _mm256_set1_epi32(d->zero);
    __m256i one = _mm256_cvtps_epi32(_mm256_mul_ps(first, per_unit));
    __m256i other = _mm256_cvtps_epi32(_mm256_mul_ps(last, per_unit));
    /* packed by halves, and clamped to 0 and 255 by that */
    __m256i both = _mm256_packs_epi32(_mm256_add_epi32(one, zero), _mm256_add_epi32(other, zero));
    both = _mm256_permute4x64_epi64(both, 0xd8);
    _mm_storeu_si128((__m128i *)levels, _mm_packus_epi16(_mm256_castsi256_si128(both),
                                                         _mm256_extracti128_si256(both, 1)));
}

/* The same of one register. */
FOR_VNNI
static inline void write_sixteen_levels(const Dense *d, __m512 values, uint8_t *levels)
{
    __m512i level = _mm512_cvtps_epi32(_mm512_mul_ps(values, _mm512_set1_ps(d->levels_per_unit)));
    level = _mm512_add_epi32(level, _mm512_set1_epi32(d->zero));
    level = _mm512_max_epi32(level, _mm512_setzero_si512());
    _mm_storeu_si128((__m128i *)levels, _mm512_cvtusepi32_epi8(level));
}

/* Eight rows of eight become columns. */
INLINED_AVX2 void turn(__m256 *rows)
{
    __m256 pairs[8], fours[8];
    for (int32_t i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int32_t i = 0; i < 8; i += 4)
        for (int32_t k = 0; k < 2; k++) {
            fours[i + 2 * k] = _mm256_shuffle_ps(pairs[i + k], pairs[i + 2 + k], 0x44);
            fours[i + 2 * k + 1] = _mm256_shuffle_ps(pairs[i + k], pairs[i + 2 + k], 0xee);
        }
    for (int32_t i = 0; i < 4; i++) {
        rows[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
}

/* The first `count` of eight, for loads and stores. */
INLINED_AVX2 __m256i first_of_eight(int32_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* `levels` of `cells`, `stride` bytes apart: sums [cells, outputs]. Rows of small pictures are few cells
   long, and seldom eights: so there is a loop for six and one for four. */
FOR_VNNI
INLINED void multiply_cells_vnni(const Dense *d, const uint8_t *levels, int64_t stride,
                                 int32_t *restrict sums, const int32_t cells)
{
    int64_t fours = d->inputs / FOUR, outputs = d->outputs;
    for (int64_t n = 0; n < outputs; n += 2 * BLOCK) {
        int64_t blocks = outputs - n > BLOCK ? 2 : 1;
        const int8_t *first = d->weights + n * d->inputs;
        const int8_t *second = blocks == 2 ? first + BLOCK * (int64_t)d->inputs : first;
        __m512i sum[TOGETHER][2];
        for (int32_t k = 0; k < cells; k++)
            sum[k][0] = sum[k][1] = _mm512_setzero_si512();
        for (int64_t i = 0; i < fours; i++) {
            __m512i one = _mm512_loadu_si512(first + FOUR * BLOCK * i);
            __m512i other = _mm512_loadu_si512(second + FOUR * BLOCK * i);
            for (int32_t k = 0; k < cells; k++) {
                __m512i four = _mm512_set1_epi32(four_bytes(levels + k * stride + FOUR * i));
                sum[k][0] = _mm512_dpbusd_epi32(sum[k][0], four, one);
                sum[k][1] = _mm512_dpbusd_epi32(sum[k][1], four, other);
            }
        }
        int32_t *to = sums + n;
        for (int32_t k = 0; k < cells; k++, to += outputs) {
            _mm512_storeu_si512(to, sum[k][0]);
            if (blocks == 2)
                _mm512_storeu_si512(to + BLOCK, sum[k][1]);
        }
    }
}

FOR_VNNI
static inline void multiply_vnni(const Dense *d, const uint8_t *levels, int64_t stride,
                                 int32_t cells, int32_t *restrict sums)
{
    if (cells > 6)
        multiply_cells_vnni(d, levels, stride, sums, TOGETHER);
    else if (cells > 4)
        multiply_cells_vnni(d, levels, stride, sums, 6);
    else
        multiply_cells_vnni(d, levels, stride, sums, 4);
}

#if defined(HAS_AVX_VNNI)
/* The same in registers of half the size. */
FOR_AVX_VNNI
static inline void multiply_avx_vnni(const Dense *d, const uint8_t *levels, int64_t stride,
                                     int32_t cells, int32_t *restrict sums)
{
    enum { CELLS = 4 };
    int64_t fours = d->inputs / FOUR, outputs = d->outputs;
    for (int64_t n = 0; n < outputs; n += BLOCK)
        for (int32_t cell = 0; cell < cells; cell += CELLS) {
            const int8_t *weights = d->weights + n * d->inputs;
            const uint8_t *from = levels + cell * stride;
            __m256i sum[CELLS][2];
            for (int32_t k = 0; k < CELLS; k++)
                sum[k][0] = sum[k][1] = _mm256_setzero_si256();
            for (int64_t i = 0; i < fours; i++) {
                const __m256i *both = (const __m256i *)(weights + FOUR * BLOCK * i);
                __m256i one = _mm256_loadu_si256(both), other = _mm256_loadu_si256(both + 1);
                for (int32_t k = 0; k < CELLS; k++) {
                    __m256i four = _mm256_set1_epi32(four_bytes(from + k * stride + FOUR * i));
                    sum[k][0] = _mm256_dpbusd_avx_epi32(sum[k][0], four, one);
                    sum[k][1] = _mm256_dpbusd_avx_epi32(sum[k][1], four, other);
                }
            }
            int32_t *to = sums + cell * outputs + n;
            for (int32_t k = 0; k < CELLS; k++, to += outputs) {
                _mm256_storeu_si256((__m256i *)to, sum[k][0]);
                _mm256_storeu_si256((__m256i *)(to + BLOCK / 2), sum[k][1]);
            }
        }
}
#endif

/* Four levels of a cell times the weights of eight outputs, added by pairs: sixteen sums of 16 bits. */
INLINED_AVX2 __m256i pairs_of(const uint8_t *levels, __m256i weights)
{
    return _mm256_maddubs_epi16(_mm256_set1_epi32(four_bytes(levels)), weights);
}

INLINED_AVX2 __m256i fours_of(__m256i pairs)
{
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* By pairs, of which as many are added up in 16 bits as can be. */
INLINED_AVX2 void multiply_cells_avx2(const Dense *d, const uint8_t *levels, int64_t stride,
                                      int32_t *restrict sums, const int32_t cells)
{
    enum { HALF = BLOCK / 2, STEPS = 4, STEP = FOUR * BLOCK };
    int64_t groups = d->inputs / (FOUR * STEPS), outputs = d->outputs;
    const uint8_t *runs = d->runs;
    for (int64_t n = 0; n < outputs; n += HALF) {
        const int8_t *weights = d->weights + n / BLOCK * BLOCK * d->inputs + n % BLOCK * FOUR;
        __m256i sum[TOGETHER];
        for (int32_t k = 0; k < cells; k++)
            sum[k] = _mm256_setzero_si256();
        for (int64_t group = 0; group < groups; group++, weights += STEPS * STEP) {
            __m256i w[STEPS];
            for (int32_t i = 0; i < STEPS; i++)
                w[i] = _mm256_loadu_si256((const __m256i *)(weights + STEP * i));
            const uint8_t *from = levels + FOUR * STEPS * group;
            int32_t run = *runs++;
            for (int32_t k = 0; run == 4 && k < cells; k++, from += stride) {
                __m256i first = _mm256_add_epi16(pairs_of(from, w[0]), pairs_of(from + 4, w[1]));
                __m256i last = _mm256_add_epi16(pairs_of(from + 8, w[2]), pairs_of(from + 12, w[3]));
                sum[k] = _mm256_add_epi32(sum[k], fours_of(_mm256_add_epi16(first, last)));
            }
            for (int32_t k = 0; run == 2 && k < cells; k++, from += stride) {
                __m256i first = _mm256_add_epi16(pairs_of(from, w[0]), pairs_of(from + 4, w[1]));
                __m256i last = _mm256_add_epi16(pairs_of(from + 8, w[2]), pairs_of(from + 12, w[3]));
                first = _mm256_add_epi32(fours_of(first), fours_of(last));
                sum[k] = _mm256_add_epi32(sum[k], first);
            }
            for (int32_t k = 0; run == 1 && k < cells; k++, from += stride)
                for (int32_t i = 0; i < STEPS; i++)
                    sum[k] = _mm256_add_epi32(sum[k], fours_of(pairs_of(from + FOUR * i, w[i])));
        }
        for (int32_t k = 0; k < cells; k++)
            _mm256_storeu_si256((__m256i *)(sums + k * outputs + n), sum[k]);
    }
}

FOR_AVX2
static inline void multiply_avx2(const Dense *d, const uint8_t *levels, int64_t stride,
                                 int32_t cells, int32_t *restrict sums)
{
    if (cells > 4)
        multiply_cells_avx2(d, levels, stride, sums, TOGETHER);
    else
        multiply_cells_avx2(d, levels, stride, sums, 4);
}
#endif

#endif
