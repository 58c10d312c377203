/* What the compiled sources ask of compilers. */

#ifndef CAEZIP_FOR_EACH_PROCESSOR_H
#define CAEZIP_FOR_EACH_PROCESSOR_H

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

#endif
