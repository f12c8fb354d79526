// Products with a single column, straight from the blocks: bound by memory, not by the processor.

#pragma once

#include "types.h"

namespace {

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)

constexpr int AT_ONCE = 4, AHEAD = 4;  // rows that are multiplied at once; rows whose blocks are fetched before their turn

// 64 levels of two sub-blocks, which are 64 weights apart: x of the first in the lower half, of the second in the upper.
inline __m512i two_halves(const int8_t* x) {
    const __m256i low = _mm256_loadu_si256((const __m256i*)x), high = _mm256_loadu_si256((const __m256i*)(x + 64));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// Bytes of a 64-bit word → lanes: `first` in the lower eight, `first + 2` in the upper eight.
inline __m512i two_scales(__m512i scales, int first) {
    const int64_t low = first * 0x0000000100000001, high = (first + 2) * 0x0000000100000001;
    const __m512i indices = _mm512_setr_epi64(low, low, low, low, high, high, high, high);
    return _mm512_maskz_permutexvar_epi8(0x1111111111111111, indices, scales);
}

inline float sum_of(__m128 a) {
    const __m128 two = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// AT_ONCE rows of Q4_K.
inline void multiply_q4_k(const uint8_t* const* rows, int n_blocks, const SuperColumn* x, float* y) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512 sums[AT_ONCE];
    __m128 mins[AT_ONCE];
    for (int r = 0; r < AT_ONCE; ++r) sums[r] = _mm512_setzero_ps(), mins[r] = _mm_setzero_ps();
    for (int b = 0; b < n_blocks; ++b) {
        const __m512i x02 = two_halves(x[b].x), x13 = two_halves(x[b].x + 32);
        const __m512i x46 = two_halves(x[b].x + 128), x57 = two_halves(x[b].x + 160);
        const __m128i x_sums = _mm_loadu_si128((const __m128i*)x[b].pair_sums);
#pragma GCC unroll 4
        for (int r = 0; r < AT_ONCE; ++r) {
            BlockQ4_K head;
            const uint8_t* block = rows[r] + b * sizeof(BlockQ4_K);
            memcpy(&head, block, offsetof(BlockQ4_K, nibbles));
            uint32_t s[3];
            memcpy(s, head.scales, sizeof s);
            const uint64_t scales_high = (s[2] & 0x0F0F0F0F) | (s[0] >> 2 & 0x30303030);
            const uint64_t mins_high = (s[2] >> 4 & 0x0F0F0F0F) | (s[1] >> 2 & 0x30303030);
            const __m512i scales = _mm512_castsi128_si512(
                _mm_cvtsi64_si128((int64_t)(scales_high << 32 | (s[0] & 0x3F3F3F3F))));
            const __m128i min_levels = _mm_cvtepu8_epi16(
                _mm_cvtsi64_si128((int64_t)(mins_high << 32 | (s[1] & 0x3F3F3F3F))));
            const __m512i zero = _mm512_setzero_si512();
            const uint8_t* nibbles = block + offsetof(BlockQ4_K, nibbles);
            const __m512i first = _mm512_loadu_si512(nibbles), second = _mm512_loadu_si512(nibbles + 64);
            const __m512i first_high = _mm512_and_si512(_mm512_srli_epi16(first, 4), nibble);
            const __m512i second_high = _mm512_and_si512(_mm512_srli_epi16(second, 4), nibble);
            __m512i total = _mm512_mullo_epi32(
                _mm512_dpbusd_epi32(zero, _mm512_and_si512(first, nibble), x02), two_scales(scales, 0));
            total = _mm512_add_epi32(
                total, _mm512_mullo_epi32(_mm512_dpbusd_epi32(zero, first_high, x13), two_scales(scales, 1)));
            total = _mm512_add_epi32(
                total, _mm512_mullo_epi32(
                           _mm512_dpbusd_epi32(zero, _mm512_and_si512(second, nibble), x46), two_scales(scales, 4)));
            total = _mm512_add_epi32(
                total, _mm512_mullo_epi32(_mm512_dpbusd_epi32(zero, second_high, x57), two_scales(scales, 5)));
            const __m128 d = _mm_mul_ps(
                _mm_cvtph_ps(_mm_cvtsi32_si128((int)(head.d | (uint32_t)head.dmin << 16))), _mm_set1_ps(x[b].d));
            sums[r] = _mm512_fmadd_ps(_mm512_broadcastss_ps(d), _mm512_cvtepi32_ps(total), sums[r]);
            mins[r] = _mm_fmadd_ps(
                _mm_shuffle_ps(d, d, 0x55), _mm_cvtepi32_ps(_mm_madd_epi16(min_levels, x_sums)), mins[r]);
        }
    }
    for (int r = 0; r < AT_ONCE; ++r) y[r] = _mm512_reduce_add_ps(sums[r]) - sum_of(mins[r]);
}

void multiply_vector_q4_k(const products::Rows& rows) {
    const int n_blocks = (int)(rows.row / SUPER);
    for (int64_t first = rows.first; first < rows.end; first += AT_ONCE) {
        const uint8_t* at[AT_ONCE];
        float y[AT_ONCE];
        for (int r = 0; r < AT_ONCE; ++r) {
            const int64_t row = first + r < rows.n_rows ? first + r : rows.n_rows - 1;
            at[r] = rows.weights + row * rows.row_bytes;
        }
        const int64_t ahead = first + AHEAD < rows.end ? first + AHEAD : rows.ahead;
        const char* fetched = (const char*)rows.weights + ahead * rows.row_bytes;
        if (ahead + AT_ONCE <= rows.n_rows)
            for (int64_t i = 0; i < AT_ONCE * rows.row_bytes; i += 64) __builtin_prefetch(fetched + i, 0, 2);
        multiply_q4_k(at, n_blocks, (const SuperColumn*)rows.columns, y);
        const int64_t n = rows.end - first < AT_ONCE ? rows.end - first : AT_ONCE;
        memcpy(rows.y + first, y, n * sizeof *y);
    }
}

#define VECTOR_Q4_K multiply_vector_q4_k
#else
#define VECTOR_Q4_K nullptr
#endif

}  // namespace
