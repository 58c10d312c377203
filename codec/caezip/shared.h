/* What the compiled sources share: what they ask of compilers, and two functions. */

#ifndef CAEZIP_SHARED_H
#define CAEZIP_SHARED_H

#include <stdint.h>

/* Compiled twice, and chosen when loaded, where the compiler and the C library can do that. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
/* Into each of these: what is not inlined is not compiled for the processor. */
#if defined(__GNUC__)
#define INLINED static inline __attribute__((always_inline))
#else
#define INLINED static inline
#endif

static inline int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

#endif
