// Operations on SIMD vectors of floats; each lane holds another sub-block.
//
// This file, and every file that includes it, is compiled once for each instruction set. All of it is in a namespace
// without a name, and nothing inline comes from the standard library: of equal functions in several variants the linker
// would keep one, and it might keep the one that this processor lacks the instructions for.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH)));
typedef uint8_t Bytes __attribute__((vector_size(WIDTH)));
typedef Ints Mask;  // -1 where true, 0 where false

inline Floats load(const float* x) {
    Floats some;
    memcpy(&some, x, sizeof some);
    return some;
}

inline void store(float* x, Floats some) { memcpy(x, &some, sizeof some); }

inline Floats broadcast(float value) { return value - Floats{}; }  // "+" would lose the sign of -0

inline Ints broadcast(int32_t value) { return value - Ints{}; }

inline Floats choose(Mask mask, Floats yes, Floats no) { return mask ? yes : no; }

inline Ints least(Ints a, Ints b) { return a < b ? a : b; }

inline Ints greatest(Ints a, Ints b) { return a > b ? a : b; }

inline Ints within(Ints value, int32_t low, int32_t high) { return greatest(least(value, broadcast(high)), broadcast(low)); }

inline int32_t within(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

inline Floats magnitude(Floats a) { return (Floats)((Ints)a & INT32_MAX); }

inline float magnitude(float a) { return __builtin_fabsf(a); }

inline float inverse_of(float d) { return d != 0 ? 1 / d : 0; }

inline Floats square_root(Floats a) {
    for (int i = 0; i < WIDTH; ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
}

inline bool any(Mask mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)mask);
#elif defined(__x86_64__)
    return _mm_movemask_ps((__m128)mask);
#elif defined(__aarch64__)
    return vmaxvq_u32((uint32x4_t)mask);
#endif
}

inline bool every(Mask mask) { return !any(~mask); }

// Rounding to nearest, ties to even, by a sum: 1.5 × 2²³ + t has no bits behind the point, and its last bits are t's.
constexpr float ROUNDER = 12582912;
constexpr int32_t ROUNDER_BITS = 0x4B400000, SUM_BITS = 0x007FFFFF, SUM_ZERO = 0x00400000;
constexpr float ROUNDABLE = 4194303;

// The integer nearest to t; |t| at most ROUNDABLE. Where contraction is tried, by the sum that ggml has.
inline Floats whole(Floats t) {
#if defined(LANES_CONTRACT)
    return t + ROUNDER - ROUNDER;
#elif defined(__AVX2__) && !defined(__AVX512F__)
    return (Floats)_mm256_round_ps((__m256)t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__aarch64__)
    return (Floats)vrndnq_f32((float32x4_t)t);
#else
    return t + ROUNDER - ROUNDER;
#endif
}

// The integer nearest to t, within [low, high]; |t| at most ROUNDABLE.
inline Floats nearest(Floats t, int low, int high) {
    return (Floats)within((Ints)(t + ROUNDER), ROUNDER_BITS + low, ROUNDER_BITS + high) - ROUNDER;
}

// The same for any t: of what is not roundable, the bits that ggml takes.
inline Ints nearest_int(Floats t, int low, int high) {
    return within(((Ints)(t + ROUNDER) & SUM_BITS) - SUM_ZERO, low, high);
}

inline Floats nearest_of_any(Floats t, int low, int high) {
    return __builtin_convertvector(nearest_int(t, low, high), Floats);
}

inline int32_t nearest_int(float t) {
    const float sum = t + ROUNDER;
    int32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return (bits & SUM_BITS) - SUM_ZERO;
}

// 0 for what no integer of 32 bits holds: the last byte of what x86 makes of it is 0.
inline Floats held(Floats t) { return choose(magnitude(t) < 0x1p31f, t, Floats{}); }

// Truncate towards zero.
inline Ints cut(Floats t) { return __builtin_convertvector(held(t), Ints); }

// Round to the nearest integer, ties away from zero.
inline Ints round_away(Floats t) {
    t = held(t);
    const Floats whole = __builtin_convertvector(cut(t), Floats);
    return cut(t) - (t - whole >= 0.5f) + (whole - t >= 0.5f);  // what is true is -1
}

// Rows of WIDTH floats that lie `apart` floats from each other → columns.
inline void transpose(const float* rows, int apart, Floats* columns) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    __m256 pairs[8], fours[8];
    for (int i = 0; i < 4; ++i) {  // the halves of rows i and i + 4
        const float *upper = rows + i * apart, *lower = rows + (i + 4) * apart;
        pairs[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(upper)), _mm_loadu_ps(lower), 1);
        pairs[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(upper + 4)), _mm_loadu_ps(lower + 4), 1);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 4; j += 2) {
            fours[i + j] = _mm256_unpacklo_ps(pairs[i + j], pairs[i + j + 1]);
            fours[i + j + 1] = _mm256_unpackhi_ps(pairs[i + j], pairs[i + j + 1]);
        }
        for (int j = 0; j < 2; ++j) {
            columns[i + 2 * j] = (Floats)_mm256_shuffle_ps(fours[i + j], fours[i + j + 2], 0x44);
            columns[i + 2 * j + 1] = (Floats)_mm256_shuffle_ps(fours[i + j], fours[i + j + 2], 0xEE);
        }
    }
#else
    for (int row = 0; row < WIDTH; ++row)
        for (int i = 0; i < WIDTH; ++i) columns[i][row] = rows[row * apart + i];
#endif
}

// WIDTH sub-blocks of N weights, one behind the other → N vectors with a sub-block in each lane.
template <int N>
inline void to_lanes(const float* sub_blocks, Floats* lanes) {
    for (int i = 0; i < N; i += WIDTH) transpose(sub_blocks + i, N, lanes + i);
}

// The last byte of each.
inline Bytes last_bytes(Ints a) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    a &= 255;
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)a), _mm256_extracti128_si256((__m256i)a, 1));
    return (Bytes)_mm_cvtsi128_si64(_mm_packus_epi16(halves, halves));
#else
    return __builtin_convertvector(a, Bytes);
#endif
}

// level_of(WIDTH weights) → Ints, of N weights that lie one behind the other, as bytes.
template <int N, class LevelOf>
inline void each_level(const float* x, LevelOf level_of, uint8_t* levels) {
    for (int i = 0; i < N; i += WIDTH) {
        Floats some;
        memcpy(&some, x + i, sizeof some);
        const Bytes bytes = last_bytes(level_of(some));
        memcpy(levels + i, &bytes, sizeof bytes);
    }
}

}  // namespace
