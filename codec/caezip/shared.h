/* What the compiled sources share: what they ask of compilers, and where pictures are. */

#ifndef CAEZIP_SHARED_H
#define CAEZIP_SHARED_H

#include <stdint.h>
#include <string.h>

/* Compiled twice, and chosen when loaded, where the compiler and the C library can do that. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
/* The same for sums of products alone, whose steps are one instruction there. */
#define FOR_EACH_MULTIPLIER __attribute__((target_clones("fma", "default")))
#else
#define FOR_EACH_PROCESSOR
#define FOR_EACH_MULTIPLIER
#endif
/* And for registers of sixteen numbers, where there are any: to be called if `has_wide`. */
#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_WIDE
#define FOR_WIDE __attribute__((target("avx512f,avx512bw")))
#endif
/* Into each of these: what is not inlined is not compiled for the processor. */
#if defined(__GNUC__)
#define INLINED static inline __attribute__((always_inline))
#else
#define INLINED static inline
#endif

/* Begin to load what will be read next: processors only guess that of a few arrays at a time. */
#if defined(__GNUC__)
#define PREFETCH(place) __builtin_prefetch(place)
#else
#define PREFETCH(place) ((void)0)
#endif

/* The picture that cells are part of, as seen from the first cell: `caezip.patches.Target`. */
typedef struct {
    uint8_t *picture; /* where the first cell's first sample is, or would be */
    int64_t row;      /* rows are so many samples apart */
    int32_t left;     /* pixels that are in the picture, from the first cell's first */
    int32_t top;
    int32_t right;
    int32_t bottom;
} Target;

/* Eight sums, as a type that compilers keep in registers. */
#if defined(__GNUC__)
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

INLINED void add_product(Eight *sum, const float *row, float value)
{
    *sum += *(const Eight *)row * value;
}
#else
typedef struct {
    float of[8];
} Eight;

INLINED void add_product(Eight *sum, const float *row, float value)
{
    for (int32_t i = 0; i < 8; i++)
        sum->of[i] += row[i] * value;
}
#endif

#if defined(HAS_WIDE)
typedef float Wide __attribute__((vector_size(64), aligned(4), may_alias));

static inline int has_wide(void) { return __builtin_cpu_supports("avx512bw") != 0; }
/* Whether one instruction adds up eight pairs of products of 16 bits. */
static inline int has_pairs(void) { return __builtin_cpu_supports("avx2") != 0; }
#else
static inline int has_wide(void) { return 0; }
#endif

/* As one number, which instructions spread over a register. */
static inline int32_t four_bytes(const void *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return four;
}

static inline int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

#endif
